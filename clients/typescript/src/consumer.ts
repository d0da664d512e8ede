import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

import { lease_ms, type Core } from "./core.js";
import { asError } from "./redis.js";
import { isTopic } from "./topic.js";
import { now_s } from "./wire.js";

/**
 * This process as the relay knows it. While its lease lasts, what it has taken is its
 * own; afterwards the relay gives it back.
 */
export class Consumer {
  readonly name = randomUUID();
  readonly #core: Core;
  readonly #prefix: string;
  readonly #commands: readonly string[];
  readonly #about = JSON.stringify({ host: hostname(), pid: process.pid, since: now_s() });

  constructor(core: Core, commands: readonly string[]) {
    this.#core = core;
    this.#prefix = core.prefix;
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

  /** Says that it serves, and lives. Events tell that it has come, also when it was taken for gone meanwhile. */
  async announce(): Promise<void> {
    const [, before] = await this.#core.commands
      .multi()
      .zAdd(this.#registry, this.#members.map((value) => ({ score: 0, value })))
      .set(this.#lease, this.#about, { expiration: { type: "PX", value: lease_ms }, GET: true })
      .exec();
    if (before === null) await this.#tell("up");
  }

  /** Gives back what it has taken of a command, to the head of the queue in its order. */
  async giveBack(cmd: string): Promise<void> {
    while ((await this.#core.commands.lMove(this.taken(cmd), this.queue(cmd), "RIGHT", "LEFT")) !== null);
  }

  /** Says that it serves no more. All must have been given back. */
  async withdraw(): Promise<void> {
    await this.#core.commands.multi().del(this.#lease).zRem(this.#registry, this.#members).exec();
    await this.#tell("down");
  }

  /** Who does not hear of it sees it when it asks who serves. */
  async #tell(what: "up" | "down"): Promise<void> {
    const topics = this.#commands.map((cmd) => `msgbus/service.${what}.${cmd}`).filter(isTopic); // no topic can name some commands
    try {
      await Promise.all(topics.map((topic) => this.#core.requester.publish(topic, { consumer: this.name }, {})));
    } catch (error) {
      this.#core.at.onError(asError(error));
    }
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
