import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

import { now_s } from "./wire.js";
import type { Redis } from "./redis.js";

/** How often a consumer says that it lives. */
export const renewEvery_ms = 5_000;
const lease_ms = 15_000;

/**
 * This process as the relay knows it. While its lease lasts, what it has taken is its
 * own; afterwards the relay gives it back.
 */
export class Consumer {
  readonly name = randomUUID();
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #commands: readonly string[];
  readonly #about = JSON.stringify({ host: hostname(), pid: process.pid, since: now_s() });

  constructor(redis: Redis, prefix: string, commands: readonly string[]) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#commands = commands;
  }

  /** The queue of a command. */
  queue(cmd: string): string {
    return `${this.#prefix}.${cmd}`;
  }

  /** Where this consumer's requests are while it works on them. */
  taken(cmd: string): string {
    return `${this.#prefix}.system.taken.${this.name}.${cmd}`;
  }

  /** Says that it serves, and lives. */
  async announce(): Promise<void> {
    await this.#redis
      .multi()
      .zAdd(this.#registry, this.#members.map((value) => ({ score: 0, value })))
      .set(this.#lease, this.#about, { expiration: { type: "PX", value: lease_ms } })
      .exec();
  }

  /** Gives back what it has taken of a command, to the head of the queue in its order. */
  async giveBack(cmd: string): Promise<void> {
    while ((await this.#redis.lMove(this.taken(cmd), this.queue(cmd), "RIGHT", "LEFT")) !== null);
  }

  /** Says that it serves no more. All must have been given back. */
  async withdraw(): Promise<void> {
    await this.#redis.multi().del(this.#lease).zRem(this.#registry, this.#members).exec();
  }

  get #registry(): string {
    return `${this.#prefix}.system.consumers`;
  }

  get #lease(): string {
    return `${this.#prefix}.system.consumer.${this.name}`;
  }

  get #members(): string[] {
    return this.#commands.map((cmd) => `${this.name} ${cmd}`);
  }
}
