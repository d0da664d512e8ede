import { randomUUID } from "node:crypto";

import { lease_ms, renewEvery_ms, type Core } from "./core.js";
import { busError } from "./errors.js";
import { asError, failed } from "./redis.js";
import { isTopic } from "./topic.js";
import { isObject, now_s } from "./wire.js";

// They do nothing when another one has the name. KEYS 1 the name's value, 2 the names; ARGV 1
// the value, 2 of renew ms, of free the name, 3 of renew the name. They return 1 when it was
// ours.
const renewScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[2], 0, ARGV[3])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
const freeScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('DEL', KEYS[1])`;

/** A name that an app has as long as it lives, or until another app takes it. */
export class Presence implements AsyncDisposable {
  readonly name: string;
  readonly #core: Core;
  readonly #info: unknown;
  readonly #value: string;
  readonly #lost = new AbortController();
  readonly #onEnd: () => void;
  readonly #renew = () => void this.#keep();
  #timer: NodeJS.Timeout | undefined;
  #keeping: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(core: Core, name: string, info: unknown, onEnd: () => void) {
    this.name = name;
    this.#core = core;
    this.#info = info;
    this.#value = JSON.stringify({ id: randomUUID(), since: now_s(), info });
    this.#onEnd = onEnd;
  }

  /** @internal Takes a name, also where somebody has it. */
  static async take(core: Core, name: string, info: unknown, onStart: (p: Presence) => () => void): Promise<Presence> {
    if (!isTopic(`msgbus/presence.replaced.${name}`)) {
      throw new RangeError(`${JSON.stringify(name)} is no name: words of letters, digits, _ and -, with dots between them`);
    }
    let end = () => {};
    const presence = new Presence(core, name, info, () => end());
    end = onStart(presence);
    try {
      const before = await presence.#take();
      await presence.#tell(before === null ? "up" : "replaced");
      if (presence.#closing !== undefined) throw busError("closed", "the client is closed");
    } catch (error) {
      await presence.#free().catch(() => {}); // it ends with its lease
      end();
      throw error;
    }
    presence.#timer = setInterval(presence.#renew, renewEvery_ms);
    core.commands.on("ready", presence.#renew); // its lease may have ended while Redis was away
    return presence;
  }

  /** aborted when another app has taken the name, at most 5 s after it did */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Gives up the name, unless another app has it, and tells so. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#stop();
    await this.#keeping;
    try {
      await this.#free();
    } catch (error) {
      this.#core.at.onError(asError(error)); // the relay tells when the lease has ended
    }
    this.#onEnd();
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#core.commands.off("ready", this.#renew);
  }

  /** Returns what the one before has said, if there is one. */
  async #take(): Promise<string | null> {
    try {
      const [, before] = await this.#core.commands
        .multi()
        .zAdd(this.#registry, { score: 0, value: this.name })
        .set(this.#key, this.#value, { expiration: { type: "PX", value: lease_ms }, GET: true })
        .exec();
      return before === null ? null : String(before);
    } catch (cause) {
      throw failed(this.#core.at, `take the name ${this.name}`, cause);
    }
  }

  async #free(): Promise<void> {
    const was = await this.#core.commands.eval(freeScript, { keys: [this.#key, this.#registry], arguments: [this.#value, this.name] });
    if (was === 1) await this.#tell("down");
  }

  #keep(): Promise<void> {
    this.#keeping = this.#keeping.then(async () => {
      if (this.#closing !== undefined || this.#lost.signal.aborted) return;
      try {
        if (await this.#isKept()) return;
        this.#stop();
        this.#lost.abort(new Error(`another app has taken the name ${this.name}`));
      } catch (error) {
        this.#core.at.onError(asError(error)); // again in 5 s, or when Redis is back
      }
    });
    return this.#keeping;
  }

  /**
   * Renews the lease. A name that nobody has is taken again: the lease has passed while
   * this process, or Redis, stood still.
   */
  async #isKept(): Promise<boolean> {
    const { commands } = this.#core;
    if ((await commands.eval(renewScript, { keys: [this.#key, this.#registry], arguments: [this.#value, `${lease_ms}`, this.name] })) === 1) return true;
    const took = await commands.set(this.#key, this.#value, { expiration: { type: "PX", value: lease_ms }, condition: "NX" });
    if (took === null) return false;
    await commands.zAdd(this.#registry, { score: 0, value: this.name });
    await this.#tell("up");
    return true;
  }

  async #tell(what: "up" | "down" | "replaced"): Promise<void> {
    await this.#core.requester.publish(`msgbus/presence.${what}.${this.name}`, this.#info, {});
  }

  get #registry(): string {
    return `${this.#core.prefix}.system.presence`;
  }

  get #key(): string {
    return presenceKey(this.#core.prefix, this.name);
  }
}

function presenceKey(prefix: string, name: string): string {
  return `${prefix}.system.presence.${name}`;
}

/** Who has a name on this machine, and what he says of himself; `undefined` where nobody has it. */
export async function present(core: Core, name: string): Promise<{ info: unknown } | undefined> {
  let raw: string | null;
  try {
    raw = await core.commands.get(presenceKey(core.prefix, name));
  } catch (cause) {
    throw failed(core.at, `look up the name ${name}`, cause);
  }
  if (raw === null) return undefined;
  const said: unknown = JSON.parse(raw);
  return { info: isObject(said) ? said["info"] : undefined };
}
