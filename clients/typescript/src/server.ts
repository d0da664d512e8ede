import { Cancellations } from "./cancel.js";
import { Consumer } from "./consumer.js";
import { renewEvery_ms, type Core } from "./core.js";
import { asError } from "./redis.js";
import type { Request } from "./request.js";
import { Taker } from "./taker.js";

/**
 * Answers one request. What it returns is the answer, as JSON; what it throws is an
 * error to the app: a BusError with all that it has, another Error with its message
 * and its name as the class.
 * @param input the JSON that the app sent, unchecked; `undefined` if it sent none
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- so that handlers may name the type of their input
export type Handler = (input: any, request: Request) => unknown;

/** Handlers by command, such as `calculator.add`. */
export type Handlers = Readonly<Record<string, Handler>>;

/** Wraps handlers: it may look at what goes in and comes out, or answer itself. */
export type Middleware = (next: Handler) => Handler;

export interface ServeOptions {
  /** how many requests of each command are worked on at once; 16 without it */
  workers?: number;
  /** around each handler; the first is the outermost */
  middleware?: readonly Middleware[];
}

export interface StopOptions {
  /** milliseconds that requests that were taken have to be answered; 30,000 without it */
  grace?: number;
}

const defaultWorkers = 16;
const defaultGrace_ms = 30_000;

/** What {@link Client.serve} returns. It serves from the start. */
export class Server implements AsyncDisposable {
  /** Resolves when the server has announced itself, so that `mandatory` requests find it, or has been stopped. */
  readonly ready: Promise<void>;
  readonly #core: Core;
  readonly #consumer: Consumer;
  readonly #unwanted: Cancellations;
  readonly #takers = new Map<string, Taker>(); // by command
  readonly #onStop: () => void;
  readonly #runs: Promise<unknown>;
  readonly #timer: NodeJS.Timeout;
  readonly #renew = () => void this.#keep();
  #announced = () => {};
  #stopping: Promise<void> | undefined;

  /** @internal */
  constructor(core: Core, handlers: Handlers, options: ServeOptions, onStop: () => void) {
    this.#core = core;
    this.#consumer = new Consumer(core, Object.keys(handlers));
    this.#unwanted = new Cancellations(core);
    this.#onStop = onStop;
    const workers = options.workers ?? defaultWorkers;
    if (!Number.isInteger(workers) || workers < 1) throw new RangeError("workers is not a number from 1");
    if (Object.keys(handlers).length === 0) throw new TypeError("there is no handler");
    const middleware = options.middleware ?? [];
    for (const [cmd, handler] of Object.entries(handlers)) {
      const wrapped = middleware.reduceRight((next, wrap) => wrap(next), handler);
      this.#takers.set(cmd, new Taker(core, this.#consumer, this.#unwanted, cmd, wrapped, workers));
    }
    this.ready = new Promise((resolve) => (this.#announced = resolve));
    // What is taken before the first lease would look like what a dead service left.
    this.#runs = Promise.all([this.ready, this.#unwanted.recalled]).then(() => Promise.all([...this.#takers.values()].map((taker) => taker.run())));
    this.#timer = setInterval(this.#renew, renewEvery_ms);
    core.commands.on("ready", this.#renew); // its lease may have ended while Redis was away
    this.#renew();
  }

  /**
   * Takes no more requests, waits until those that were taken are answered, and gives
   * back what is not when the time is over: another server, or the next start, has it.
   * It may take 2 s where nothing runs and Redis does not allow `CLIENT UNBLOCK`.
   */
  stop(options: StopOptions = {}): Promise<void> {
    this.#stopping ??= this.#stop(options.grace ?? defaultGrace_ms);
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(grace_ms: number): Promise<void> {
    const takers = [...this.#takers.values()];
    for (const taker of takers) taker.stop();
    this.#announced();
    this.#unwanted.skip();
    await this.#runs;
    await within(grace_ms, Promise.all(takers.map((taker) => taker.finish())));
    for (const taker of takers) taker.abandon();
    this.#unwanted.stop();
    // The lease is kept until here: what runs is this server's own.
    clearInterval(this.#timer);
    this.#core.commands.off("ready", this.#renew);
    try {
      for (const cmd of this.#takers.keys()) await this.#consumer.giveBack(cmd);
      await this.#consumer.withdraw();
    } catch (error) {
      this.#core.at.onError(asError(error)); // the relay does it when the lease has ended
    }
    this.#onStop();
  }

  /** Renews the lease, and looks after what it protects. */
  async #keep(): Promise<void> {
    try {
      await this.#consumer.announce();
      this.#announced();
      void this.#unwanted.listen();
      for (const taker of this.#takers.values()) await taker.adoptStrays();
    } catch (error) {
      this.#core.at.onError(asError(error)); // again in 5 s, or when Redis is back
    }
  }
}

/** Waits for what, but only so long. */
async function within(limit_ms: number, what: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([what, new Promise((resolve) => (timer = setTimeout(resolve, limit_ms)))]);
  clearTimeout(timer);
}
