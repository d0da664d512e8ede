import type { Answer } from "./asked.js";
import { cancelCommand, type Unwanted } from "./cancel.js";
import type { Core } from "./core.js";
import { busError, type BusError } from "./errors.js";
import type { Feed } from "./feed.js";
import { Listener } from "./listener.js";
import { ofCalls, twinsOf, type CallOptions, type NotifyOptions, type PublishOptions } from "./options.js";
import { Presence, present } from "./presence.js";
import { destroy, openCommands, type Endpoint } from "./redis.js";
import { Requester } from "./requester.js";
import { Server, type Handlers, type ServeOptions } from "./server.js";
import { Stream, type StreamOptions } from "./stream.js";
import { Subscription, type SubscribeOptions } from "./subscription.js";

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

/** What became of an event that was counted. */
export interface Published {
  /** to how many connections it was given, at all twins that want it */
  listeners: number;
  /** of twins that did not get it */
  errors: BusError[];
}

/**
 * An app's, or a service's, connection to the bus: to the Redis of its machine.
 *
 * A Redis that goes away is connected again. Meanwhile new calls are rejected, calls
 * that wait for their answer go on waiting, and services take up where they were.
 */
export class Client implements AsyncDisposable {
  readonly #core: Core;
  readonly #servers = new Set<Server>();
  readonly #presences = new Set<Presence>();
  readonly #feeds = new Set<Feed<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(core: Core) {
    this.#core = core;
  }

  /** @throws BusError with the reason `storage_failed` if Redis cannot be reached. */
  static async open(options: ClientOptions = {}): Promise<Client> {
    const at: Endpoint = { url: options.redis ?? "redis://127.0.0.1:6379", onError: options.onError ?? (() => {}) };
    const prefix = options.prefix ?? "msgbus";
    const commands = await openCommands(at);
    return new Client({ at, prefix, commands, requester: new Requester(at, prefix, commands), listener: new Listener(at, prefix) });
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
    options.signal?.throwIfAborted();
    const dst = twinsOf(twins);
    if (dst.length > 0) yield* this.#core.requester.ask<Out>({ cmd, data, dst }, options, ofCalls);
  }

  /**
   * Asks all twins of a group, as {@link callAll} does. A group is a set of twins in Redis,
   * `<prefix>.system.group.<name>`; of one that is empty comes one answer, an error.
   */
  callGroup<Out = unknown>(group: string, cmd: string, data?: unknown, options: CallOptions = {}): AsyncGenerator<Answer<Out>, void, void> {
    return this.#core.requester.ask<Out>({ cmd, data, ext: { group } }, options, ofCalls);
  }

  /**
   * Tells twins something that nobody answers. It resolves when Redis has the request:
   * what becomes of it is not told. Where it cannot be delivered, it is among the
   * relay's dead letters.
   * @throws BusError if Redis is away.
   */
  async notify(twins: Iterable<number>, cmd: string, data?: unknown, options: NotifyOptions = {}): Promise<void> {
    const dst = twinsOf(twins);
    if (dst.length > 0) await this.#core.requester.send({ cmd, data, dst }, options);
  }

  /**
   * Asks the services of a twin to stop what apps of this machine have asked for. A request
   * still ends as any other does: with an error of the reason `cancelled` if its service
   * heeds it in time, and otherwise with its answer.
   * @throws BusError if Redis is away.
   */
  async cancel(twin: number, cmd: string, what: Unwanted): Promise<void> {
    await this.notify([twin], cancelCommand, { cmd, ...what });
  }

  /**
   * Tells of something under a topic: words with dots between them, such as
   * `task.finished.17`, in front of which an exchange may stand, as in `task/run.17`. Who
   * listens hears it, on this machine and at the twins that want it. It resolves when Redis
   * has the event. Nobody need listen: then it is lost, unless it is `durable` or `retain`ed.
   * @throws BusError if Redis is away.
   */
  async publish(topic: string, data?: unknown, options: PublishOptions = {}): Promise<void> {
    await this.#core.requester.publish(topic, data, options);
  }

  /**
   * As {@link publish}, and waits until all twins that want the event have it. That nobody
   * listens is no error.
   */
  async publishCounted(topic: string, data?: unknown, options: PublishOptions & { signal?: AbortSignal } = {}): Promise<Published> {
    const published: Published = { listeners: 0, errors: [] };
    for await (const answer of this.#core.requester.publishTo(topic, data, options)) {
      if (answer.ok) published.listeners += answer.data.listeners;
      // It has ceased to want it, and the own relay did not know yet.
      else if (answer.error.reason !== "not_subscribed") published.errors.push(answer.error);
    }
    return published;
  }

  /**
   * Hears what is published under the topics that match a pattern, from when it resolves
   * on: `*` stands for one word of the topic, `#` for any number of them. What is published
   * while Redis is away is lost, as `lost` of the next event tells; {@link stream} loses
   * nothing that is durable. All subscriptions of a client share one connection.
   *
   *     for await (const event of await bus.subscribe("task.finished.*", { from: [1002] })) …
   *
   * @throws BusError if Redis is away, or a twin of `from` refuses or, without `within`, is away.
   */
  subscribe<Data = unknown>(pattern: string, options: SubscribeOptions = {}): Promise<Subscription<Data>> {
    return this.#start((onStart) => Subscription.start<Data>(this.#core, pattern, options, onStart(this.#feeds)));
  }

  /**
   * Reads the durable events of an exchange, those of topics `<exchange>/…`, or of topics
   * without an exchange with `""`: also those from before, of which the latest 10,000 or a
   * few more are kept. It has a connection of its own.
   * @throws BusError as {@link subscribe} does.
   */
  stream<Data = unknown>(exchange: string, options: StreamOptions = {}): Promise<Stream<Data>> {
    return this.#start((onStart) => Stream.start<Data>(this.#core, exchange, options, onStart(this.#feeds)));
  }

  /**
   * Takes a name, words with dots between them such as `runner.7`, until it is closed. Who
   * has it already loses it. Events tell of it: `msgbus/presence.up.<name>`, `.down.` and
   * `.replaced.`, with what `info` says as their data. When the app dies, its name is free
   * within 20 s, and the relay tells.
   * @param info anything JSON, for those who want to know more
   * @throws BusError if Redis is away.
   */
  announce(name: string, info?: unknown): Promise<Presence> {
    return this.#start((onStart) => Presence.take(this.#core, name, info, onStart(this.#presences)));
  }

  /**
   * Who has a name on this machine: what he says of himself, and `undefined` where nobody has it.
   * @throws BusError if Redis is away.
   */
  present(name: string): Promise<{ info: unknown } | undefined> {
    return present(this.#core, name);
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
    if (this.#closing !== undefined) throw busError("closed", "the client is closed");
    const server = new Server(this.#core, handlers, options, () => this.#servers.delete(server));
    this.#servers.add(server);
    return server;
  }

  /**
   * Stops what it serves, as {@link Server.stop} does, gives up its names, ends its
   * subscriptions and streams, and rejects the calls that still wait.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#servers].map((server) => server.stop())); // their handlers may still call
    await Promise.all([...this.#presences, ...this.#feeds].map((each) => each.close()));
    this.#core.requester.close();
    destroy(this.#core.commands);
  }

  /** Starts something that ends with the client, if not before. */
  async #start<T>(start: (onStart: <E>(all: Set<E>) => (one: E) => () => void) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw busError("closed", "the client is closed");
    return start((all) => (one) => {
      all.add(one);
      return () => all.delete(one);
    });
  }
}
