import { randomUUID } from "node:crypto";

import { lease_ms, renewEvery_ms, type Core } from "./core.js";
import { BusError } from "./errors.js";
import { ofCalls } from "./options.js";
import { asError, textOf } from "./redis.js";

const subscribeCommand = "msgbus.subscribe";
/** How long another twin goes on to send before this machine's relay has asked once more. */
const asked_s = 60;

/** Whose events are wanted, and how they are asked for. */
export interface Wish {
  pattern: string;
  twins: readonly number[];
  /** how long twins are waited for; without it all must answer */
  within_ms?: number | undefined;
  /** of the lease; without it a random one */
  name?: string;
  lease_ms?: number;
  signal: AbortSignal;
}

/**
 * What is wanted of other twins. Their relays are asked by this machine's while the
 * interest has a lease.
 */
export class Interest {
  readonly #core: Core;
  readonly #wish: Wish;
  readonly #name: string;
  readonly #timer: NodeJS.Timeout;
  readonly #renew = () => void this.#announce().catch((error: unknown) => this.#core.at.onError(asError(error)));

  private constructor(core: Core, wish: Wish) {
    this.#core = core;
    this.#wish = wish;
    this.#name = wish.name ?? randomUUID();
    this.#timer = setInterval(this.#renew, renewEvery_ms);
    core.commands.on("ready", this.#renew); // its lease may have ended while Redis was away
  }

  /** Resolves when all twins send what is wanted, or those that can be joined in time. */
  static async take(core: Core, wish: Wish): Promise<Interest> {
    const interest = new Interest(core, wish);
    try {
      await interest.#announce();
      await interest.#ask();
    } catch (error) {
      await interest.end(true);
      throw error;
    }
    return interest;
  }

  /** With forget, the other twins stop sending a few seconds later, otherwise when the lease ends. */
  async end(forget: boolean): Promise<void> {
    clearInterval(this.#timer);
    this.#core.commands.off("ready", this.#renew);
    if (!forget) return;
    try {
      await this.#core.commands.multi().zRem(this.#registry, this.#members).del(this.#lease).exec();
    } catch (error) {
      this.#core.at.onError(asError(error)); // it ends with its lease
    }
  }

  async #announce(): Promise<void> {
    await this.#core.commands
      .multi()
      .set(this.#lease, "{}", { expiration: { type: "PX", value: this.#wish.lease_ms ?? lease_ms } })
      .zAdd(this.#registry, this.#members.map((value) => ({ score: 0, value })))
      .exec();
  }

  /** Asks the twins itself, rather than wait until the relay does. */
  async #ask(): Promise<void> {
    const { pattern, twins, within_ms, signal } = this.#wish;
    const aborter = new AbortController();
    const abort = () => aborter.abort(signal.reason);
    const tooLate = new Error(`no answer within ${within_ms} ms`);
    const timer = within_ms === undefined ? undefined : setTimeout(() => aborter.abort(tooLate), within_ms);
    signal.addEventListener("abort", abort);
    const left = new Set(twins);
    try {
      const data = { patterns: [pattern], lease: asked_s };
      for await (const answer of this.#core.requester.ask({ cmd: subscribeCommand, data, dst: twins }, { signal: aborter.signal }, ofCalls)) {
        left.delete(answer.twin);
        if (answer.ok) continue;
        if (within_ms === undefined || !isAway(answer.error)) throw answer.error;
        this.#tellAway(answer.twin, answer.error);
      }
    } catch (error) {
      if (error !== tooLate) throw error;
      for (const twin of left) this.#tellAway(twin, tooLate);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  #tellAway(twin: number, cause: Error): void {
    this.#core.at.onError(new BusError(`twin ${twin} is away: its events come when it is there again: ${textOf(cause)}`, { twin, cause }));
  }

  get #registry(): string {
    return `${this.#core.prefix}.system.subscriptions`;
  }

  get #lease(): string {
    return `${this.#core.prefix}.system.consumer.${this.#name}`;
  }

  get #members(): string[] {
    return this.#wish.twins.map((twin) => `${this.#name} ${twin} ${this.#wish.pattern}`);
  }
}

/** Tells that a twin was not joined in time. One that refuses is there. */
function isAway(error: BusError): boolean {
  return ["expired", "retries_exhausted", "no_answer"].includes(error.reason);
}
