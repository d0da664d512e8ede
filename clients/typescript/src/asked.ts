import { BusError, busError, errorOfReply } from "./errors.js";
import { textOf } from "./redis.js";
import { decodeData, isObject, type Message } from "./wire.js";

/**
 * What one twin says to a request that several were asked. `twin` is 0 where a group could
 * not be asked, or nobody of it answers.
 */
export type Answer<Out = unknown> = { twin: number; ok: true; data: Out } | { twin: number; ok: false; error: BusError };

/**
 * What a service says before its answer. It begins anew with `seq` 1 where the service
 * has crashed and another does the work again.
 */
export interface Interim {
  twin: number;
  /** `accepted`, `started`, `progress` or a word of the service's own */
  status: string;
  /** one more each time, from 1 */
  seq: number;
  /** JSON, `undefined` if there is none */
  data: unknown;
  /** of a `progress`: how much there is to do, if the service says so */
  total?: number;
  /** of a `progress`: how much of it is done */
  completed?: number;
  /** of a `progress`: what else the service says */
  details?: unknown;
}

/**
 * A request that was sent: it collects what comes until each of its twins has
 * answered. Each twin has one answer, an error if nothing else comes.
 */
export class Asked {
  readonly #twins: Set<number>; // that were named and have not answered
  #others: number; // twins that the relay alone knows and that have not answered; Infinity until it has said how many
  readonly #seqs = new Map<number, number>(); // by twin asked: of its latest interim reply, 0 before
  readonly #answered = new Set<number>();
  readonly #answers: Answer[] = []; // that nobody has fetched
  readonly #onInterim: (interim: Interim) => void;
  readonly #onEnd: () => void;
  #aborted: { reason: unknown } | undefined;
  #wake = () => {};

  /**
   * onEnd is called once, when nothing more is waited for. Where no twins are named, the
   * relay knows them, and says in its answers how many they are.
   */
  constructor(twins: Iterable<number>, onInterim: (interim: Interim) => void, onEnd: () => void) {
    this.#twins = new Set(twins);
    this.#others = this.#twins.size === 0 ? Infinity : 0;
    for (const twin of this.#twins) this.#seqs.set(twin, 0);
    this.#onInterim = onInterim;
    this.#onEnd = onEnd;
  }

  /** Takes what came to the return list for this request. */
  take(reply: Message): void {
    const twin = reply.src;
    if (reply.ext?.status !== undefined) {
      if (this.#isAwaited(twin) && this.#isNew(twin, reply.ext.seq ?? 0)) this.#onInterim(interimOf(reply));
    } else if (reply.err !== "" && (reply.uid === "" || (this.#others === 0 && !this.#seqs.has(twin)))) {
      // The relay gave it no name, and its own twin as the source: it refused it as a whole.
      this.fail((each) => errorOfReply(reply, each));
    } else if (this.#isAwaited(twin)) {
      if (this.#others === Infinity) this.#others = Math.max(reply.ext?.of ?? 1, 1);
      this.#end(answerOf(reply));
    }
  }

  /** Ends what is still waited for with an error. */
  fail(error: (twin: number) => BusError): void {
    if (this.#others > 0) this.#others = 1; // nobody knows which they are
    for (const twin of this.#others > 0 ? [0] : [...this.#twins]) this.#end({ twin, ok: false, error: error(twin) });
  }

  /** Ends it all: nobody wants it any more. */
  abort(reason: unknown): void {
    this.#aborted = { reason };
    this.#forget();
  }

  /**
   * The next answer, `undefined` after the last.
   * @throws what the caller's AbortSignal gives as its reason.
   */
  async next(): Promise<Answer | undefined> {
    for (;;) {
      if (this.#aborted !== undefined) throw this.#aborted.reason;
      const answer = this.#answers.shift();
      if (answer !== undefined || this.#isDone) return answer;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** For who fetches no more. */
  drop(): void {
    this.#answers.length = 0;
    this.#forget();
  }

  get #isDone(): boolean {
    return this.#twins.size === 0 && this.#others === 0;
  }

  #isAwaited(twin: number): boolean {
    return this.#twins.has(twin) || (this.#others > 0 && !this.#answered.has(twin));
  }

  /** One may come twice. Counting begins anew when another service has the request. */
  #isNew(twin: number, seq: number): boolean {
    const last = this.#seqs.get(twin) ?? 0;
    if (seq <= last && (seq !== 1 || last === 1)) return false;
    this.#seqs.set(twin, seq);
    return true;
  }

  #end(answer: Answer): void {
    if (!this.#twins.delete(answer.twin)) this.#others--;
    this.#answered.add(answer.twin);
    this.#answers.push(answer);
    if (this.#isDone) this.#onEnd();
    this.#wake();
  }

  #forget(): void {
    if (!this.#isDone) {
      this.#twins.clear();
      this.#others = 0;
      this.#onEnd();
    }
    this.#wake();
  }
}

function answerOf(reply: Message): Answer {
  const twin = reply.src;
  if (reply.err !== "") return { twin, ok: false, error: errorOfReply(reply, twin) };
  try {
    return { twin, ok: true, data: decodeData(reply.dat) };
  } catch (cause) {
    return { twin, ok: false, error: busError("malformed", `twin ${twin} answers with what is not JSON: ${textOf(cause)}`, { twin, cause }) };
  }
}

function interimOf(reply: Message): Interim {
  const interim: Interim = { twin: reply.src, status: String(reply.ext?.status), seq: reply.ext?.seq ?? 0, data: undefined };
  try {
    interim.data = decodeData(reply.dat);
  } catch {
    return interim; // that it goes on is worth more than what it says
  }
  if (interim.status === "progress" && isObject(interim.data)) {
    const { total, completed, details } = interim.data;
    if (typeof total === "number") interim.total = total;
    if (typeof completed === "number") interim.completed = completed;
    interim.details = details;
  }
  return interim;
}
