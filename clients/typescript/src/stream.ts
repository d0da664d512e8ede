import { setTimeout as pause } from "node:timers/promises";

import type { Core } from "./core.js";
import { busError } from "./errors.js";
import { decodeEvent, type BusEvent } from "./event.js";
import { Feed } from "./feed.js";
import { Interest } from "./interest.js";
import { twinsOf } from "./options.js";
import { asError, destroy, failed, openBlocking, textOf, type Redis } from "./redis.js";
import { defaultExchange, isPattern, matchTopic, splitTopic } from "./topic.js";

/** How the durable events of an exchange are read. */
export interface StreamOptions {
  /** twins whose events come, too: they are asked for them until a day after the stream was closed */
  from?: Iterable<number>;
  /** milliseconds that the twins of `from` are waited for, as of {@link SubscribeOptions} */
  within?: number;
  /**
   * the id of the event behind which it goes on, the one that was handled last; `"0"` begins
   * with the oldest that is kept. Without it, it begins with what comes next
   */
  after?: string;
  /** leaves out what this pattern of topics, without an exchange, is not for */
  matching?: string;
  /**
   * all streams of the same group share the events: each goes to one of them, and is to be
   * acknowledged with {@link Stream.ack}, however long that takes. What was not goes to
   * another one when its stream has been closed, or its process dead, for a minute. A group
   * begins where the first of its streams begins, which `after` says
   */
  group?: string;
  /**
   * the name of this one in its group: one that begins again under its name gets first
   * what it had not acknowledged
   */
  worker?: string;
  /** ends it: the loop throws its reason */
  signal?: AbortSignal;
}

/** An event of a {@link Stream}. */
export interface StreamEvent<Data = unknown> extends BusEvent<Data> {
  /** its place in the stream, to go on from with `after` */
  id: string;
}

const block_ms = 5_000;
const batch = 100;
/** After so much silence of a worker others get what it has not acknowledged. */
const silence_ms = 60_000;
const lease_ms = 86_400_000;
/** After an error of Redis, before the same is tried again. */
const rest_ms = 200;

/**
 * Says that a worker still works on what it has. KEYS 1 the stream; ARGV 1 the group,
 * 2 the worker, 3 how many at most.
 */
const keepScript = `local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])
for _, event in ipairs(held) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, event[1], 'JUSTID')
end
return #held`;

/**
 * The durable events of an exchange in their order, also those from before. It goes on
 * when Redis was away, and ends when the loop over it is left. It reads over a connection
 * of its own.
 */
export class Stream<Data = unknown> extends Feed<StreamEvent<Data>> {
  readonly #core: Core;
  readonly #exchange: string;
  readonly #key: string;
  readonly #matching: string;
  readonly #group: { name: string; worker: string } | undefined;
  readonly #aborter = new AbortController(); // of what is under way when it ends
  #reader: Redis | undefined;
  #interest: Promise<Interest> | undefined;
  #keeping: NodeJS.Timeout | undefined;
  #last: string; // behind which it goes on
  #hasBacklog = true; // of a group: what this worker had before comes first
  #claimed_ms = -Infinity; // when it was looked for what others have left
  #events: StreamEvent[] = []; // read and not taken

  private constructor(core: Core, exchange: string, options: StreamOptions, onEnd: () => void) {
    super(options.signal, onEnd);
    this.#core = core;
    this.#exchange = exchange;
    this.#key = `${core.prefix}.system.stream.${exchange}`;
    this.#matching = `${exchange}/${options.matching ?? "#"}`;
    this.#group = options.group === undefined ? undefined : { name: options.group, worker: options.worker ?? "" };
    this.#last = options.after ?? "$";
  }

  /** @internal Resolves when it is known where it begins. */
  static async start<Data>(core: Core, exchange: string, options: StreamOptions, onStart: (s: Stream<Data>) => () => void): Promise<Stream<Data>> {
    const wanted = `${exchange || defaultExchange}/${options.matching ?? "#"}`;
    if (!isPattern(wanted) || exchange === "*") throw new RangeError(`${JSON.stringify(wanted)} is no exchange with a pattern of topics`);
    if (options.group !== undefined && !options.worker) throw new TypeError("a group needs the worker's name");
    const twins = twinsOf(options.from ?? []);
    let end = () => {};
    const stream = new Stream<Data>(core, exchange || defaultExchange, options, () => end());
    end = onStart(stream);
    await stream.open([() => stream.#begin(), () => stream.#want(twins, options.within)]);
    return stream;
  }

  /**
   * Says that an event of a group has been dealt with.
   * @throws BusError if Redis is away: the event may come again.
   */
  async ack(event: StreamEvent): Promise<void> {
    if (this.#group === undefined) throw new TypeError("only events of a group are acknowledged");
    try {
      await this.#core.commands.xAck(this.#key, this.#group.name, event.id);
    } catch (cause) {
      throw failed(this.#core.at, `acknowledge event ${event.id}`, cause);
    }
  }

  /** @internal */
  protected override async pull(): Promise<StreamEvent<Data> | undefined> {
    while (this.isOpen && this.#events.length === 0) {
      try {
        await this.#read((this.#reader ??= openBlocking(this.#core.at)));
      } catch (error) {
        if (!this.isOpen) break;
        this.#core.at.onError(asError(error));
        await this.untilEnd(pause(rest_ms));
      }
    }
    return this.#events.shift() as StreamEvent<Data> | undefined;
  }

  /** @internal Other twins go on to send until the lease ends, and what they send is kept. */
  protected override async release(): Promise<void> {
    if (this.#reader !== undefined) destroy(this.#reader);
    clearInterval(this.#keeping);
    this.#aborter.abort();
    const interest = await this.#interest?.catch(() => undefined);
    await interest?.end(false);
    this.#events = [];
  }

  async #begin(): Promise<void> {
    const { commands } = this.#core;
    try {
      if (this.#group === undefined) {
        if (this.#last !== "$") return;
        this.#last = (await commands.xRevRange(this.#key, "+", "-", { COUNT: 1 }))?.[0]?.id ?? "0";
        return;
      }
      await commands.xGroupCreate(this.#key, this.#group.name, this.#last, { MKSTREAM: true }).catch((error: unknown) => {
        if (!textOf(error).startsWith("BUSYGROUP")) throw error;
      });
      this.#keeping = setInterval(() => void this.#keep(), silence_ms / 3);
    } catch (cause) {
      throw failed(this.#core.at, `read stream ${this.#exchange}`, cause);
    }
  }

  async #want(twins: readonly number[], within_ms: number | undefined): Promise<void> {
    if (twins.length === 0) return;
    // The name is the same for all streams of a machine that want the same.
    const name = `stream-${this.#exchange}`;
    this.#interest = Interest.take(this.#core, { pattern: this.#matching, twins, within_ms, name, lease_ms, signal: this.#aborter.signal });
    await this.#interest;
  }

  async #read(reader: Redis): Promise<void> {
    if (this.#group === undefined) {
      const entries = entriesOf(await reader.sendCommand(["XREAD", "COUNT", `${batch}`, "BLOCK", `${block_ms}`, "STREAMS", this.#key, this.#last]));
      for (const entry of entries) this.#last = entry.id;
      this.#add(entries);
    } else {
      await this.#readGroup(reader, this.#group);
    }
  }

  /** Reads first what this worker had before it ended, then what others have left, then what is new. */
  async #readGroup(reader: Redis, { name, worker }: { name: string; worker: string }): Promise<void> {
    if (!this.#hasBacklog && performance.now() - this.#claimed_ms > silence_ms / 2) {
      this.#claimed_ms = performance.now();
      const claimed: unknown = await reader.sendCommand(["XAUTOCLAIM", this.#key, name, worker, `${silence_ms}`, "0", "COUNT", `${batch}`]);
      const left = entriesOf([[this.#key, (claimed as unknown[])[1]]]);
      if (left.length > 0) return this.#add(left);
    }
    // Of what is new, the others of the group have time for the rest.
    const [from, count] = this.#hasBacklog ? ["0", batch] : [">", 1];
    const came = await reader.sendCommand(["XREADGROUP", "GROUP", name, worker, "COUNT", `${count}`, "BLOCK", `${block_ms}`, "STREAMS", this.#key, from]);
    this.#hasBacklog = false;
    this.#add(entriesOf(came));
  }

  /** Takes in events, but for those that are not wanted: nobody acknowledges them otherwise. */
  #add(entries: readonly Entry[]): void {
    for (const { id, raw } of entries) {
      const event = this.#decode(id, raw);
      if (event !== undefined) this.#events.push({ ...event, id });
      else if (this.#group !== undefined) {
        this.#core.commands.xAck(this.#key, this.#group.name, id).catch((error: unknown) => this.#core.at.onError(asError(error))); // it comes again
      }
    }
  }

  #decode(id: string, raw: string | undefined): BusEvent | undefined {
    if (raw === undefined) return undefined; // it was too old to be kept
    try {
      const event = decodeEvent(raw);
      const { exchange, key } = splitTopic(event.topic);
      return matchTopic(this.#matching, `${exchange}/${key}`) ? event : undefined;
    } catch (cause) {
      this.#core.at.onError(busError("malformed", `event ${id} of ${this.#exchange} cannot be read: ${textOf(cause)}`, { cause }));
      return undefined;
    }
  }

  /** Has nobody else get what this worker works on, however long that takes. */
  async #keep(): Promise<void> {
    if (this.#group === undefined) return;
    try {
      await this.#core.commands.eval(keepScript, { keys: [this.#key], arguments: [this.#group.name, this.#group.worker, `${2 * batch}`] });
    } catch (error) {
      this.#core.at.onError(asError(error)); // again in 20 s
    }
  }
}

interface Entry {
  id: string;
  raw: string | undefined;
}

/** Reads what XREAD answers: `null`, or for each stream its key and its entries. An entry that was cut off has no fields. */
function entriesOf(answer: unknown): Entry[] {
  const streams = (answer ?? []) as [key: string, entries: [id: string, fields: string[] | null][]][];
  return streams.flatMap(([, entries]) => entries.map(([id, fields]) => ({ id, raw: valueOf(fields ?? [], "event") })));
}

function valueOf(fields: readonly string[], name: string): string | undefined {
  const at = fields.findIndex((field, i) => i % 2 === 0 && field === name);
  return at < 0 ? undefined : fields[at + 1];
}
