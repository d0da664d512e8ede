import { randomUUID } from "node:crypto";

import { Asked, type Answer, type Interim } from "./asked.js";
import { busError, type BusError } from "./errors.js";
import { Inbox } from "./inbox.js";
import { extOf, lifeOf, ofDurableEvents, ofEvents, ofNotifications, type CallOptions, type Life, type NotifyOptions, type PublishOptions } from "./options.js";
import { asError, notPushed, type Endpoint, type Redis } from "./redis.js";
import { isTopic } from "./topic.js";
import { encodeData, maxTimer_ms, newRequest, type Ext, type Message } from "./wire.js";

/** What is asked of whom: of twins, or of those that the relay finds by a group or a topic. */
export interface Asking {
  cmd: string;
  data?: unknown;
  dst?: readonly number[];
  ext?: Pick<Ext, "group" | "topic">;
}

const eventCommand = "msgbus.event";
/** A relay has answered, if with an error, so long after the deadline. */
const grace_ms = 10_000;

/** Gives requests to the relay, and those who wait their answers. */
export class Requester {
  readonly #at: Endpoint;
  readonly #local: string;
  readonly #commands: Redis;
  readonly #inbox: Inbox;
  #closed = false;

  constructor(at: Endpoint, prefix: string, commands: Redis) {
    this.#at = at;
    this.#local = `${prefix}.system.local`;
    this.#commands = commands;
    this.#inbox = new Inbox(at, prefix);
  }

  /** Sends a request when the first answer is asked for, and yields answers as they come. */
  async *ask<Out>(what: Asking, options: CallOptions & PublishOptions, otherwise: Life): AsyncGenerator<Answer<Out>, void, void> {
    const { signal } = options;
    signal?.throwIfAborted();
    const own = extOf(options);
    const id = own.id ?? randomUUID();
    const ext: Ext = { ...own, id, ...what.ext };
    if (options.onProgress !== undefined) ext.progress = this.#inbox.name;
    const dst = [...(what.dst ?? [])];
    const request = newRequest({ cmd: what.cmd, dst, ret: this.#inbox.name, dat: encodeData(what.data), ext, ...lifeOf(options, otherwise) });

    const asked = new Asked(dst, (interim) => this.#tell(options, interim), () => end());
    const tooLate = setTimeout(() => asked.fail(silence), Math.min(request.exp * 1000 + grace_ms, maxTimer_ms));
    const abort = () => asked.abort(signal?.reason);
    const end = () => {
      this.#inbox.forget(id, asked);
      clearTimeout(tooLate);
      signal?.removeEventListener("abort", abort);
    };
    signal?.addEventListener("abort", abort);
    try {
      this.#inbox.expect(id, asked); // before it is sent: an answer may be faster than Redis's own
      this.#push(request).catch((error: unknown) => asked.abort(error)); // not awaited: the signal ends this wait, too
      for (let answer; (answer = await asked.next()) !== undefined; ) yield answer as Answer<Out>;
    } finally {
      asked.drop();
    }
  }

  /** Sends a request that nobody answers. It resolves when Redis has it. */
  async send(what: Asking, options: NotifyOptions & PublishOptions, otherwise: Life = ofNotifications): Promise<void> {
    const ext: Ext = { ...extOf(options), ...what.ext, oneway: true };
    await this.#push(newRequest({ cmd: what.cmd, dst: [...(what.dst ?? [])], ret: "", dat: encodeData(what.data), ext, ...lifeOf(options, otherwise) }));
  }

  async publish(topic: string, data: unknown, options: PublishOptions): Promise<void> {
    await this.send(event(topic, data), options, lifeOfEvent(options));
  }

  /** Publishes, and yields what each twin says that gets it. */
  publishTo(topic: string, data: unknown, options: PublishOptions & { signal?: AbortSignal }): AsyncGenerator<Answer<{ listeners: number }>, void, void> {
    return this.ask(event(topic, data), options, lifeOfEvent(options));
  }

  /** Rejects what waits, and what is asked from now on. */
  close(): void {
    this.#closed = true;
    this.#inbox.close();
  }

  async #push(request: Message): Promise<void> {
    if (this.#closed) throw busError("closed", "the client is closed");
    try {
      await this.#commands.rPush(this.#local, JSON.stringify(request));
    } catch (cause) {
      if (this.#closed) throw busError("closed", "the client was closed: it is not known whether the request was sent", { cause });
      throw notPushed(this.#at, cause);
    }
  }

  /** What goes wrong in the app's own function must not end what others wait for. */
  #tell(options: CallOptions, interim: Interim): void {
    try {
      options.onProgress?.(interim);
    } catch (thrown) {
      this.#at.onError(asError(thrown));
    }
  }
}

function event(topic: string, data: unknown): Asking {
  if (!isTopic(topic)) throw new RangeError(`${JSON.stringify(topic)} is no topic`);
  return { cmd: eventCommand, data, ext: { topic } };
}

function lifeOfEvent(options: PublishOptions): Life {
  return options.durable === true ? ofDurableEvents : ofEvents;
}

function silence(twin: number): BusError {
  return busError("no_answer", `nothing came from ${twin === 0 ? "any twin" : `twin ${twin}`}, nor from the relay: is msgbusd running on this Redis?`, { twin });
}
