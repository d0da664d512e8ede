import { randomUUID } from "node:crypto";

import { Asked, type Answer, type Interim } from "./asked.js";
import { busError, type BusError } from "./errors.js";
import { Inbox } from "./inbox.js";
import { asError, destroy, notPushed, openCommands, type Endpoint, type Redis } from "./redis.js";
import { Server, type Handlers, type ServeOptions } from "./server.js";
import { encodeData, maxTimer_ms, newRequest, type Ext, type Message } from "./wire.js";

/** How to open a {@link Client}. */
export interface ClientOptions {
  /**
   * the Redis of this machine's relay: `redis://user:password@host:port/db`,
   * `rediss://…` for TLS, or `host:port`; `redis://127.0.0.1:6379` without it
   */
  redis?: string;
  /** what every key of the relay begins with (its `--redis-prefix`); `msgbus` without it */
  prefix?: string;
  /**
   * hears of what nobody waits for: that a connection was lost, or that something
   * that is no message came; without it nobody does
   */
  onError?: (error: Error) => void;
}

/** How a request is sent. */
export interface NotifyOptions {
  /**
   * milliseconds that the request may live, in whole seconds rounded up; without it a
   * minute, and an hour where nobody waits for an answer
   */
  expire?: number;
  /**
   * how often to try again when a twin cannot be joined, after 1 s, 2 s and so on up to
   * 20 s; without it 3, and until it expires where nobody waits for an answer
   */
  retries?: number;
  /** anything JSON up to 4 KiB, which the service sees, too */
  tag?: unknown;
  /** fail at once, with the reason `no_service`, where nobody serves the command */
  mandatory?: boolean;
}

/** How a request is sent and its answer waited for. */
export interface CallOptions extends NotifyOptions {
  /** ends the wait: the call rejects with its reason. The service may do the work all the same */
  signal?: AbortSignal;
  /** hears of what services say before their answer, in the order in which it comes */
  onProgress?: (interim: Interim) => void;
}

const ofCalls = { expire: 60_000, retries: 3 };
const ofNotifications = { expire: 3_600_000, retries: 1_000 }; // in an hour nobody tries as often
const maxTwin = 2 ** 32 - 1;
const maxTag_bytes = 4 << 10;
/** A relay has answered, if with an error, so long after the deadline. */
const grace_ms = 10_000;

/**
 * An app's, or a service's, connection to the bus: to the Redis of its machine.
 *
 * A Redis that goes away is connected again. Meanwhile new calls are rejected, calls
 * that wait for their answer go on waiting, and services take up where they were.
 */
export class Client implements AsyncDisposable {
  readonly #at: Endpoint;
  readonly #prefix: string;
  readonly #commands: Redis;
  readonly #inbox: Inbox;
  readonly #servers = new Set<Server>();
  #closing = false;
  #closed = false;

  private constructor(at: Endpoint, prefix: string, commands: Redis) {
    this.#at = at;
    this.#prefix = prefix;
    this.#commands = commands;
    this.#inbox = new Inbox(at, prefix);
  }

  /** @throws BusError with the reason `storage_failed` if Redis cannot be reached. */
  static async open(options: ClientOptions = {}): Promise<Client> {
    const at: Endpoint = { url: options.redis ?? "redis://127.0.0.1:6379", onError: options.onError ?? (() => {}) };
    return new Client(at, options.prefix ?? "msgbus", await openCommands(at));
  }

  /**
   * Asks a twin and returns its answer.
   * @param data anything JSON; `undefined` sends none
   * @throws BusError if the service, or the bus, answers with an error, or Redis is
   * away; the reason of `options.signal` when that is aborted.
   */
  async call<Out = unknown>(twin: number, cmd: string, data?: unknown, options: CallOptions = {}): Promise<Out> {
    for await (const answer of this.callAll<Out>([twin], cmd, data, options)) {
      if (!answer.ok) throw answer.error;
      return answer.data;
    }
    throw new TypeError("no twin was asked");
  }

  /**
   * Asks twins, and yields what each of them answers as it comes: one answer a twin,
   * also where it is an error. The request is sent when the first answer is asked for.
   * @throws as {@link call} does, but for errors of one twin.
   */
  async *callAll<Out = unknown>(twins: Iterable<number>, cmd: string, data?: unknown, options: CallOptions = {}): AsyncGenerator<Answer<Out>, void, void> {
    const { signal } = options;
    signal?.throwIfAborted();
    const dst = destinations(twins);
    if (dst.length === 0) return;

    const id = randomUUID();
    const ext: Ext = { ...extOf(options), id };
    if (options.onProgress !== undefined) ext.progress = this.#inbox.interim;
    const request = newRequest({ cmd, dst, ret: this.#inbox.name, dat: encodeData(data), ext, ...lifeOf(options, ofCalls) });
    const asked = new Asked(dst, (interim) => this.#tell(options, interim), () => end());
    const tooLate = setTimeout(() => asked.fail(silence), Math.min(request.exp * 1000 + grace_ms, maxTimer_ms));
    const abort = () => asked.abort(signal?.reason);
    const end = () => {
      this.#inbox.forget(id);
      clearTimeout(tooLate);
      signal?.removeEventListener("abort", abort);
    };
    signal?.addEventListener("abort", abort);
    this.#inbox.expect(id, asked); // before it is sent: an answer may be faster than Redis's own
    try {
      await this.#push(request);
      for (let answer; (answer = await asked.next()) !== undefined; ) yield answer as Answer<Out>;
    } finally {
      asked.drop();
    }
  }

  /**
   * Tells twins something that nobody answers. It resolves when Redis has the request:
   * what becomes of it is not told. Where it cannot be delivered, it is among the
   * relay's dead letters.
   * @throws BusError if Redis is away.
   */
  async notify(twins: Iterable<number>, cmd: string, data?: unknown, options: NotifyOptions = {}): Promise<void> {
    const dst = destinations(twins);
    if (dst.length === 0) return;
    const ext: Ext = { ...extOf(options), oneway: true };
    await this.#push(newRequest({ cmd, dst, ret: "", dat: encodeData(data), ext, ...lifeOf(options, ofNotifications) }));
  }

  /**
   * Serves commands until the server is stopped, or the client is closed. A request
   * that was taken survives a crash of this process, so it may come again: see
   * docs/extensions.md. One that has expired is dropped.
   *
   * While Redis is away the server waits for it.
   * @param handlers by command; what one returns is the answer, as JSON
   */
  serve(handlers: Handlers, options: ServeOptions = {}): Server {
    if (this.#closing) throw busError("closed", "the client is closed");
    const server = new Server(this.#at, this.#commands, this.#prefix, handlers, options, () => this.#servers.delete(server));
    this.#servers.add(server);
    return server;
  }

  /** Stops what it serves, as {@link Server.stop} does, and rejects the calls that still wait. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#servers].map((server) => server.stop())); // their handlers may still call
    this.#closed = true;
    this.#inbox.close();
    destroy(this.#commands);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #push(request: Message): Promise<void> {
    if (this.#closed) throw busError("closed", "the client is closed");
    try {
      await this.#commands.rPush(`${this.#prefix}.system.local`, JSON.stringify(request));
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

/** A twin that is named twice is asked once. */
function destinations(twins: Iterable<number>): number[] {
  const all = [...new Set(twins)];
  for (const twin of all) if (!Number.isInteger(twin) || twin < 0 || twin > maxTwin) throw new RangeError(`${twin} is no twin`);
  return all;
}

function lifeOf(options: NotifyOptions, otherwise: { expire: number; retries: number }): { exp: number; try: number } {
  return { exp: Math.max(1, Math.ceil((options.expire ?? otherwise.expire) / 1000)), try: options.retries ?? otherwise.retries };
}

function extOf(options: NotifyOptions): Ext {
  const ext: Ext = {};
  if (options.tag !== undefined) {
    if (Buffer.byteLength(JSON.stringify(options.tag)) > maxTag_bytes) throw new RangeError(`tag is longer than ${maxTag_bytes} bytes of JSON`);
    ext.tag = options.tag;
  }
  if (options.mandatory === true) ext.mandatory = true;
  return ext;
}

function silence(twin: number): BusError {
  return busError("no_answer", `nothing came from twin ${twin}, nor from the relay: is msgbusd running on this Redis?`, { twin });
}
