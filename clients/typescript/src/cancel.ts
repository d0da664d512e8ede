import { isDeepStrictEqual } from "node:util";

import type { Core } from "./core.js";
import { decodeEvent, type BusEvent } from "./event.js";
import type { Hearer } from "./listener.js";
import { asError } from "./redis.js";
import type { Request } from "./request.js";
import { isObject } from "./wire.js";

/** Which requests an app does not want answered: the one with an id, or those with a tag that has at least these members. */
export type Unwanted = { id: string } | { tag: unknown };

export const cancelCommand = "msgbus.cancel";
const topic = "msgbus/cancel";
const stream = "system.stream.msgbus";

// How much is remembered: what waits in a queue may have been cancelled long ago.
const most = 1000;
const maxAge_ms = 3_600_000;

/**
 * What apps do not want answered any more, as far as a server has heard. It hears of them
 * as of events; those from before it began are in their stream.
 */
export class Cancellations implements Hearer {
  /** Resolves when what was before has been heard, or cannot be. */
  readonly recalled: Promise<void>;
  readonly #core: Core;
  readonly #running = new Set<Request>();
  #heard: BusEvent[] = []; // the latest
  #tellRecalled = () => {};
  #isListening = false;
  #hasMissed = true; // what the stream has may not have been heard
  #stopped = false;

  constructor(core: Core) {
    this.#core = core;
    this.recalled = new Promise((resolve) => (this.#tellRecalled = resolve));
  }

  /** Listens, and catches up with what it has missed. It is called again and again. */
  async listen(): Promise<void> {
    if (this.#stopped) return;
    try {
      if (!this.#isListening) {
        this.#isListening = true;
        await this.#core.listener.add(topic, this);
        this.#hasMissed = true;
      }
    } catch (error) {
      this.#isListening = false;
      if (!this.#stopped) this.#core.at.onError(asError(error));
    }
    await this.#recall();
    this.#tellRecalled();
  }

  /** Nobody need wait for it any more. */
  skip(): void {
    this.#tellRecalled();
  }

  stop(): void {
    this.#stopped = true;
    this.#core.listener.remove(topic, this);
  }

  /** Has a request end when it is cancelled, be it already, until it is over. */
  begin(request: Request): void {
    this.#running.add(request);
    const young_ms = Date.now() - maxAge_ms;
    if (this.#heard.some((event) => event.time.getTime() > young_ms && isFor(event, request))) request.cancel();
  }

  end(request: Request): void {
    this.#running.delete(request);
  }

  hear(event: BusEvent): void {
    for (const request of this.#running) if (isFor(event, request)) request.cancel();
    this.#heard.push(event);
    if (this.#heard.length > most) this.#heard.shift();
  }

  lose(): void {
    this.#hasMissed = true;
  }

  /** The other connection may not be back: then the next call of listen does it. */
  regain(): void {
    this.#hasMissed = true;
    void this.#recall();
  }

  async #recall(): Promise<void> {
    if (!this.#hasMissed) return;
    this.#hasMissed = false;
    try {
      const kept = await this.#core.commands.xRevRange(`${this.#core.prefix}.${stream}`, "+", "-", { COUNT: most });
      for (const { message } of (kept ?? []).reverse()) this.#note(message["event"] ?? "");
    } catch (error) {
      this.#hasMissed = true;
      if (!this.#stopped) this.#core.at.onError(asError(error));
    }
  }

  #note(raw: string): void {
    let event: BusEvent;
    try {
      event = decodeEvent(raw);
    } catch {
      return; // another library's
    }
    if (event.topic === topic) this.hear(event);
  }
}

/**
 * Tells whether a cancellation is for a request: one that came later is not meant. Both
 * times are of whole seconds, by the clock of the twin that asks.
 */
function isFor(event: BusEvent, request: Request): boolean {
  if (!isObject(event.data) || event.source !== request.source || event.data["cmd"] !== request.command) return false;
  if (request.sent_s * 1000 > event.time.getTime()) return false;
  const { id, tag } = event.data;
  return typeof id === "string" && id !== "" ? id === request.id : tag !== undefined && contains(request.tag, tag);
}

/** Tells whether a value has at least what another one has. */
export function contains(whole: unknown, part: unknown): boolean {
  if (!isObject(whole) || !isObject(part)) return isDeepStrictEqual(whole, part);
  return Object.entries(part).every(([name, value]) => Object.hasOwn(whole, name) && contains(whole[name], value));
}
