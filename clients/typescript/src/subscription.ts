import type { Core } from "./core.js";
import { decodeEvent, type BusEvent } from "./event.js";
import { Feed } from "./feed.js";
import { Interest } from "./interest.js";
import { twinsOf } from "./options.js";
import { failed } from "./redis.js";
import { isPattern, matchTopic } from "./topic.js";

/** How events are subscribed to. */
export interface SubscribeOptions {
  /**
   * twins whose events come, too; without it those only that apps of this machine publish,
   * and those of other twins that somebody else of this machine wants
   */
  from?: Iterable<number>;
  /**
   * milliseconds that the twins of `from` are waited for. This machine's relay asks those
   * that have not been joined by then when they are there again, and `onError` of the client
   * hears of it; without it all of them must answer
   */
  within?: number;
  /** have the latest event of each topic come first that was published with `retain` */
  retained?: boolean;
  /** how many events may wait to be taken: of more, the oldest are dropped; 1,024 without it */
  buffer?: number;
  /** ends it: the loop throws its reason */
  signal?: AbortSignal;
}

/** An event of a {@link Subscription}. */
export interface HeardEvent<Data = unknown> extends BusEvent<Data> {
  /**
   * how many events have been missed before this one because they were not taken in time;
   * -1 where nobody knows how many, because Redis was away
   */
  lost: number;
  /** it was published before the subscription, as `retained` asks for */
  latest: boolean;
}

const defaultBuffer = 1024;

/** Events as they happen. It ends when the loop over it is left. */
export class Subscription<Data = unknown> extends Feed<HeardEvent<Data>> {
  readonly #core: Core;
  readonly #pattern: string;
  readonly #buffer: number;
  readonly #aborter = new AbortController(); // of what is under way when it ends
  #interest: Promise<Interest> | undefined;
  #events: HeardEvent[] = []; // not taken
  #lost = 0; // since the latest that was taken in
  #waiting: (() => void)[] = []; // for the next event

  private constructor(core: Core, pattern: string, options: SubscribeOptions, onEnd: () => void) {
    super(options.signal, onEnd);
    this.#core = core;
    this.#pattern = pattern;
    this.#buffer = options.buffer ?? defaultBuffer;
  }

  /** @internal Resolves when nothing is missed any more. */
  static async start<Data>(core: Core, pattern: string, options: SubscribeOptions, onStart: (s: Subscription<Data>) => () => void): Promise<Subscription<Data>> {
    if (!isPattern(pattern)) throw new RangeError(`${JSON.stringify(pattern)} is no pattern of topics`);
    if (options.buffer !== undefined && !(options.buffer >= 1)) throw new RangeError("buffer is not a number from 1");
    const twins = twinsOf(options.from ?? []);
    let end = () => {};
    const subscription = new Subscription<Data>(core, pattern, options, () => end());
    end = onStart(subscription);
    await subscription.open([
      () => subscription.#listen(),
      () => subscription.#want(twins, options.within),
      () => (options.retained === true ? subscription.#addRetained() : Promise.resolve()),
    ]);
    return subscription;
  }

  /** @internal */
  hear(event: BusEvent): void {
    if (this.#events.length >= this.#buffer) this.#dropFirst();
    this.#events.push({ ...event, lost: this.#lost, latest: false });
    this.#lost = 0;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** @internal */
  lose(): void {
    this.#lost = -1;
  }

  /** @internal */
  regain(): void {}

  /** @internal */
  protected override async pull(): Promise<HeardEvent<Data> | undefined> {
    while (this.isOpen && this.#events.length === 0) {
      await this.untilEnd(new Promise<void>((resolve) => this.#waiting.push(resolve)));
    }
    return this.#events.shift() as HeardEvent<Data> | undefined;
  }

  /** @internal */
  protected override async release(): Promise<void> {
    this.#core.listener.remove(this.#pattern, this);
    this.#aborter.abort();
    const interest = await this.#interest?.catch(() => undefined);
    await interest?.end(true);
    this.#events = [];
  }

  async #listen(): Promise<void> {
    if (!this.#core.commands.isReady) throw failed(this.#core.at, `subscribe to ${this.#pattern}`, new Error("it is away"));
    try {
      await this.#core.listener.add(this.#pattern, this);
    } catch (cause) {
      throw failed(this.#core.at, `subscribe to ${this.#pattern}`, cause);
    }
  }

  async #want(twins: readonly number[], within_ms: number | undefined): Promise<void> {
    if (twins.length === 0) return;
    this.#interest = Interest.take(this.#core, { pattern: this.#pattern, twins, within_ms, signal: this.#aborter.signal });
    await this.#interest;
  }

  /** Puts the latest events before those that have come since. What another twin was just asked for comes by itself. */
  async #addRetained(): Promise<void> {
    const all = await this.#core.commands.hGetAll(`${this.#core.prefix}.system.retained`);
    const first: HeardEvent[] = [];
    for (const raw of Object.values(all)) {
      const event = decodeRetained(raw);
      if (event === undefined || !matchTopic(this.#pattern, event.topic)) continue;
      const isOlder = this.#events.some(({ topic, source }) => topic === event.topic && source === event.source);
      if (!isOlder) first.push({ ...event, lost: 0, latest: true });
    }
    this.#events.unshift(...first);
  }

  #dropFirst(): void {
    const dropped = this.#events.shift();
    const lost = dropped === undefined || dropped.lost < 0 ? -1 : dropped.lost + 1;
    const next = this.#events[0];
    if (next === undefined) this.#lost = sum(this.#lost, lost);
    else next.lost = sum(next.lost, lost);
  }
}

function decodeRetained(raw: string): BusEvent | undefined {
  try {
    return decodeEvent(raw);
  } catch {
    return undefined; // another app's, and not JSON
  }
}

/** Adds two numbers of events, of which -1 stands for one that nobody knows. */
function sum(a: number, b: number): number {
  return a < 0 || b < 0 ? -1 : a + b;
}
