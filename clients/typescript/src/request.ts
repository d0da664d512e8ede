import { busError } from "./errors.js";
import { deadlineOf, encodeData, maxTimer_ms, newReply, type Message } from "./wire.js";

/** Why a cancelled request ends. */
export const cancelled = busError("cancelled", "the app has cancelled the request");

/** What a handler is told of the request that it answers, beside its input. */
export class Request {
  /** the twin that asks */
  readonly source: number;
  readonly command: string;
  /** the relay's name of it, such as `1002.17`; unique among those of its source */
  readonly uid: string;
  /** the app's own name of it; `""` if it has none */
  readonly id: string;
  /** the app's own, anything JSON; `undefined` if it has none */
  readonly tag: unknown;
  /** nobody waits for an answer */
  readonly oneway: boolean;
  /** after it nobody takes an answer */
  readonly deadline: Date;
  readonly #message: Message;
  readonly #push: (list: string, message: string) => void;
  readonly #aborter = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #seq = 0;
  #over = false;

  /** push sends something at some time, or not at all; what it was given first goes first. */
  constructor(message: Message, push: (list: string, message: string) => void) {
    this.#message = message;
    this.#push = push;
    this.source = message.src;
    this.command = message.cmd;
    this.uid = message.uid;
    this.id = message.ext?.id ?? "";
    this.tag = message.ext?.tag;
    this.oneway = message.ext?.oneway === true;
    this.deadline = new Date(deadlineOf(message));
    const left_ms = Math.min(this.deadline.getTime() - Date.now(), maxTimer_ms);
    this.#timer = setTimeout(() => this.abort(new DOMException("the request has expired", "TimeoutError")), left_ms);
    this.#timer.unref();
  }

  /**
   * aborted at the deadline, when the app cancels the request, and when the server has
   * waited long enough for its end. Where a handler throws after the app has cancelled
   * it, the answer is an error of the reason `cancelled`
   */
  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  /**
   * Tells the app how far the work is, if it wants to know.
   * @param total how much there is to do, in the service's own units
   * @param completed how much of it is done
   * @param details anything JSON
   */
  progress(total: number, completed: number, details?: unknown): void {
    this.say("progress", { total, completed, details });
  }

  /** @internal Says something before the answer, if the app wants to hear it. */
  say(status: string, data?: unknown): void {
    const list = this.#message.ext?.progress;
    if (this.#over || list === undefined) return;
    const ext = { status, seq: ++this.#seq };
    this.#push(list, JSON.stringify(newReply(this.#message, { dat: encodeData(data), err: "", ext })));
  }

  /** @internal when the app has sent it, by its twin's clock */
  get sent_s(): number {
    return this.#message.now;
  }

  /** @internal the app does not want the answer */
  get isCancelled(): boolean {
    return this.signal.reason === cancelled;
  }

  /** @internal */
  cancel(): void {
    this.abort(cancelled);
  }

  /** @internal From now on nothing is said. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
  }

  /** @internal */
  abort(reason: Error): void {
    this.#aborter.abort(reason);
  }
}
