import { busError } from "./errors.js";
import { decodeEvent, type BusEvent } from "./event.js";
import { destroy, openBlocking, textOf, type Endpoint, type Redis } from "./redis.js";

/** Somebody who hears events. */
export interface Hearer {
  hear(event: BusEvent): void;
  /** What is published from now on may not be heard. */
  lose(): void;
  /** From now on it is heard again. */
  regain(): void;
}

interface Channel {
  readonly hearers: Set<Hearer>;
  readonly take: (raw: string) => void;
  readonly subscribed: Promise<void>;
}

/** All that a client hears of events as they happen, over one connection, which is there while somebody hears. */
export class Listener {
  readonly #at: Endpoint;
  readonly #prefix: string;
  readonly #channels = new Map<string, Channel>(); // by pattern
  #redis: Redis | undefined;

  constructor(at: Endpoint, prefix: string) {
    this.#at = at;
    this.#prefix = prefix;
  }

  /** Resolves when nothing that a pattern is for is missed any more. While Redis is away it waits. */
  async add(pattern: string, hearer: Hearer): Promise<void> {
    let channel = this.#channels.get(pattern);
    if (channel === undefined) {
      channel = this.#subscribe(pattern);
      this.#channels.set(pattern, channel);
    }
    channel.hearers.add(hearer);
    try {
      await channel.subscribed;
    } catch (error) {
      this.#drop(pattern, channel, hearer);
      throw error;
    }
  }

  remove(pattern: string, hearer: Hearer): void {
    const channel = this.#channels.get(pattern);
    if (channel !== undefined) this.#drop(pattern, channel, hearer);
  }

  #drop(pattern: string, channel: Channel, hearer: Hearer): void {
    if (!channel.hearers.delete(hearer) || channel.hearers.size > 0 || this.#channels.get(pattern) !== channel) return;
    this.#channels.delete(pattern);
    if (this.#channels.size > 0) {
      // Where it fails, the connection has broken, and the next one does not subscribe to it.
      this.#redis?.unsubscribe(this.#name(pattern), channel.take).catch(() => {});
    } else if (this.#redis !== undefined) {
      destroy(this.#redis);
      this.#redis = undefined;
    }
  }

  #subscribe(pattern: string): Channel {
    const redis = (this.#redis ??= this.#connect());
    const hearers = new Set<Hearer>();
    const take = (raw: string) => this.#tell(hearers, raw);
    return { hearers, take, subscribed: redis.subscribe(this.#name(pattern), take) };
  }

  #connect(): Redis {
    const redis = openBlocking(this.#at);
    let isNew = true;
    redis.on("reconnecting", () => this.#each((hearer) => hearer.lose()));
    redis.on("ready", () => {
      if (!isNew) this.#each((hearer) => hearer.regain());
      isNew = false;
    });
    return redis;
  }

  #each(tell: (hearer: Hearer) => void): void {
    for (const { hearers } of this.#channels.values()) for (const hearer of hearers) tell(hearer);
  }

  #tell(hearers: Iterable<Hearer>, raw: string): void {
    let event: BusEvent;
    try {
      event = decodeEvent(raw);
    } catch (cause) {
      this.#at.onError(busError("malformed", `an event cannot be read: ${textOf(cause)}`, { cause }));
      return;
    }
    for (const hearer of hearers) hearer.hear(event);
  }

  #name(pattern: string): string {
    return `${this.#prefix}.events.${pattern}`;
  }
}
