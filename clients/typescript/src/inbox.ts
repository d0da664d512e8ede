import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import type { Asked } from "./asked.js";
import { busError } from "./errors.js";
import { asError, destroy, openBlocking, textOf, type Endpoint, type Redis } from "./redis.js";
import { decodeMessage, type Message } from "./wire.js";

/** A wait ends so often to see whether anybody still waits. */
const block_s = 5;
/** After an error that Redis answers with, such as that it is loading. */
const rest_ms = 200;

/**
 * The return list of a client, and who waits for what comes there. Its connection
 * reads only while somebody waits.
 *
 * An answer is lost if the connection breaks while it is on its way from Redis; the
 * call then ends after its deadline, as if the relay were away.
 */
export class Inbox {
  /** of the list of answers, and of what is said before them; no other client has it */
  readonly name: string;
  readonly #at: Endpoint;
  readonly #waiting = new Map<string, Asked>(); // by ext.id
  #reader: Redis | undefined;
  #reading = false;
  #closed = false;

  constructor(at: Endpoint, prefix: string) {
    this.#at = at;
    this.name = `${prefix}-app.${randomUUID()}`; // not `${prefix}.…`, where services have their queues
  }

  /**
   * From now on what has this id in its ext is for asked.
   * @throws TypeError if another one has the id.
   */
  expect(id: string, asked: Asked): void {
    if (this.#waiting.has(id)) throw new TypeError(`a request with the id ${JSON.stringify(id)} waits already`);
    this.#waiting.set(id, asked);
    if (!this.#reading && !this.#closed) void this.#read();
  }

  forget(id: string, asked: Asked): void {
    if (this.#waiting.get(id) === asked) this.#waiting.delete(id);
  }

  close(): void {
    this.#closed = true;
    if (this.#reader !== undefined) destroy(this.#reader);
    for (const asked of [...this.#waiting.values()]) {
      asked.fail((twin) => busError("closed", "the client was closed before an answer came", { twin }));
    }
  }

  async #read(): Promise<void> {
    this.#reading = true;
    const reader = (this.#reader ??= openBlocking(this.#at));
    while (this.#waiting.size > 0 && !this.#closed) {
      try {
        const popped = await reader.blPop(this.name, block_s);
        if (popped !== null) this.#deliver(popped.element);
      } catch (error) {
        if (this.#closed) break;
        this.#at.onError(asError(error));
        await pause(rest_ms);
      }
    }
    this.#reading = false;
  }

  #deliver(raw: string): void {
    let reply: Message;
    try {
      reply = decodeMessage(raw);
    } catch (cause) {
      this.#at.onError(busError("malformed", `what came to ${this.name} is no reply: ${textOf(cause)}`, { cause }));
      return;
    }
    // What nobody waits for came late, or twice.
    this.#waiting.get(reply.ext?.id ?? "")?.take(reply);
  }
}
