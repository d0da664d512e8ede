import { setTimeout as pause } from "node:timers/promises";

import type { Cancellations } from "./cancel.js";
import type { Consumer } from "./consumer.js";
import type { Core } from "./core.js";
import { busError, replyOfCancelled, replyOfError } from "./errors.js";
import { asError, destroy, openBlocking, textOf, type Endpoint, type Redis } from "./redis.js";
import { cancelled, Request } from "./request.js";
import type { Handler } from "./server.js";
import { decodeData, decodeMessage, encodeData, newReply, type Ext, type Message } from "./wire.js";

/** A wait ends so often to see whether the server is to stop. */
const block_s = 2;
/** After an error of Redis, before the same is tried again. */
const rest_ms = 200;

/**
 * Takes the requests of one command and answers them, a few at a time. A request is on
 * the consumer's own list from when it is taken until it is answered.
 */
export class Taker {
  readonly #at: Endpoint;
  readonly #commands: Redis;
  readonly #consumer: Consumer;
  readonly #unwanted: Cancellations;
  readonly #cmd: string;
  readonly #handler: Handler;
  readonly #workers: number;
  readonly #reader: Redis;
  readonly #running = new Map<string, { end: Promise<void>; request?: Request }>(); // by what stands in the list
  #strays = new Set<string>();
  #readerID: string | undefined; // Redis's, of the reader's connection
  #stopping = false;
  #abandoned = false;
  #freed = () => {};

  constructor(core: Core, consumer: Consumer, unwanted: Cancellations, cmd: string, handler: Handler, workers: number) {
    this.#at = core.at;
    this.#commands = core.commands;
    this.#consumer = consumer;
    this.#unwanted = unwanted;
    this.#cmd = cmd;
    this.#handler = handler;
    this.#workers = workers;
    this.#reader = openBlocking(core.at);
    this.#reader.on("ready", () => void this.#learnID());
  }

  /** Takes requests until it is told to stop. The consumer must have announced itself. */
  async run(): Promise<void> {
    const { queue, taken } = this.#lists;
    while (!this.#stopping) {
      if (this.#running.size >= this.#workers) {
        await new Promise<void>((resolve) => (this.#freed = resolve));
        continue;
      }
      try {
        const raw = await this.#reader.blMove(queue, taken, "LEFT", "RIGHT", block_s);
        if (raw !== null && !this.#stopping) this.#start(raw);
      } catch (error) {
        if (this.#stopping) break;
        this.#at.onError(asError(error));
        await pause(rest_ms);
      }
    }
    destroy(this.#reader);
  }

  /**
   * Looks for requests that Redis moved to the list while the connection broke, so that
   * nobody was told: the lease would keep them there for ever. One that was there the
   * last time, too, is not on its way any more.
   */
  async adoptStrays(): Promise<void> {
    const listed = await this.#commands.lRange(this.#lists.taken, 0, -1);
    const unknown = listed.filter((raw) => !this.#running.has(raw));
    if (!this.#stopping) for (const raw of unknown) if (this.#strays.has(raw)) this.#start(raw);
    this.#strays = new Set(unknown);
  }

  /** From now on nothing is taken. What has been goes on. */
  stop(): void {
    this.#stopping = true;
    this.#freed();
    if (!this.#reader.isReady) {
      destroy(this.#reader); // else it would wait until Redis is back
    } else if (this.#readerID !== undefined) {
      // Its wait ends now, not in 2 s. To cut the connection could lose what is on its way.
      this.#commands.sendCommand(["CLIENT", "UNBLOCK", this.#readerID]).catch(() => {});
    }
  }

  /** Waits until what was taken is answered. */
  async finish(): Promise<void> {
    while (this.#running.size > 0) await Promise.all([...this.#running.values()].map((each) => each.end));
  }

  /** Ends what still runs; what it answers is not sent. */
  abandon(): void {
    this.#abandoned = true;
    for (const { request } of this.#running.values()) {
      request?.end();
      request?.abort(new DOMException("the server is stopped", "AbortError"));
    }
  }

  get #lists(): { queue: string; taken: string } {
    return { queue: this.#consumer.queue(this.#cmd), taken: this.#consumer.taken(this.#cmd) };
  }

  /** Before it waits for requests again. */
  async #learnID(): Promise<void> {
    this.#readerID = undefined;
    try {
      this.#readerID = String(await this.#reader.sendCommand(["CLIENT", "ID"], { asap: true }));
    } catch {
      // It may not be allowed to know: then it takes longer to stop.
    }
  }

  #start(raw: string): void {
    if (this.#running.has(raw)) return; // adopted meanwhile
    const entry: { end: Promise<void>; request?: Request } = { end: Promise.resolve() };
    this.#running.set(raw, entry);
    entry.end = this.#serve(raw, entry).finally(() => {
      this.#running.delete(raw);
      this.#freed();
    });
  }

  async #serve(raw: string, entry: { request?: Request }): Promise<void> {
    let message: Message;
    try {
      message = decodeMessage(raw);
    } catch (cause) {
      this.#at.onError(busError("malformed", `what came to ${this.#lists.queue} is no request: ${textOf(cause)}`, { cause }));
      return this.#acknowledge(raw);
    }
    const request = new Request(message, (list, said) => this.#say(list, said));
    // Its app has had its error, and would not hear of what is done now.
    if (request.deadline.getTime() <= Date.now()) {
      request.end();
      return this.#acknowledge(raw);
    }
    entry.request = request;
    request.say("accepted");
    this.#unwanted.begin(request);
    const answer = await this.#answer(message, request);
    this.#unwanted.end(request);
    request.end();
    await this.#acknowledge(raw, request.oneway ? undefined : { list: message.ret, answer, until: request.deadline });
  }

  async #answer(message: Message, request: Request): Promise<string> {
    const reply = (fields: { dat: string; err: string; ext: Ext }) => JSON.stringify(newReply(message, fields));
    try {
      if (request.isCancelled) throw cancelled;
      request.say("started");
      const result = await this.#handler(decodeData(message.dat), request);
      // Old apps take an answer without data for none.
      return reply({ dat: encodeData(result ?? null), err: "", ext: {} });
    } catch (thrown) {
      const { err, ext } = request.isCancelled ? replyOfCancelled(cancelled) : replyOfError(thrown);
      try {
        return reply({ dat: "", err, ext });
      } catch {
        return reply({ dat: "", err, ext: {} }); // its data is not JSON
      }
    }
  }

  #say(list: string, said: string): void {
    // It may be lost: only the answer matters.
    this.#commands.rPush(list, said).catch((error: unknown) => this.#at.onError(asError(error)));
  }

  /**
   * Answers and forgets a request in one step, however long Redis is away. A step whose
   * outcome is unknown is made again: the relay takes one answer only.
   */
  async #acknowledge(raw: string, reply?: { list: string; answer: string; until: Date }): Promise<void> {
    while (!this.#abandoned) {
      const step = this.#commands.multi();
      if (reply !== undefined && reply.list !== "" && reply.until.getTime() > Date.now()) step.rPush(reply.list, reply.answer);
      try {
        await step.lRem(this.#lists.taken, 1, raw).exec();
        return;
      } catch (error) {
        this.#at.onError(asError(error));
        await pause(rest_ms);
      }
    }
  }
}
