import type { Interim } from "./asked.js";
import type { Ext } from "./wire.js";

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
  /** the app's own name for the request, 1 to 64 characters, by which it can be cancelled; without it a random one */
  id?: string;
  /** anything JSON up to 4 KiB, which the service sees, too */
  tag?: unknown;
  /** fail at once, with the reason `no_service`, where nobody serves the command */
  mandatory?: boolean;
}

/** How a request is sent and its answer waited for. */
export interface CallOptions extends NotifyOptions {
  /**
   * ends the wait: the call rejects with its reason. The service may do the work all the
   * same, unless it is told to stop with {@link Client.cancel}
   */
  signal?: AbortSignal;
  /** hears of what services say before their answer, in the order in which it comes */
  onProgress?: (interim: Interim) => void;
}

/** How an event is published. */
export interface PublishOptions {
  /**
   * keep it for a {@link Client.stream} that comes later, at each twin that wants it: the
   * latest 10,000 of an exchange. One that cannot be delivered is among the relay's dead letters
   */
  durable?: boolean;
  /** keep it as the latest of its topic, for who subscribes with `retained` */
  retain?: boolean;
  /** milliseconds until a twin must have it; without it 30 s, and a day for a durable one */
  expire?: number;
  /** how often to try again when a twin cannot be joined; without it until it expires */
  retries?: number;
  /** anything JSON up to 4 KiB, which subscribers see, too */
  tag?: unknown;
}

/** How long a request lives, and how often it is tried, where its app does not say. */
export interface Life {
  expire: number;
  retries: number;
}

const maxTag_bytes = 4 << 10;
const maxID_chars = 64;
const asOftenAsItTakes = 1_000;

export const ofCalls: Life = { expire: 60_000, retries: 3 };
export const ofNotifications: Life = { expire: 3_600_000, retries: asOftenAsItTakes };
export const ofEvents: Life = { expire: 30_000, retries: asOftenAsItTakes };
export const ofDurableEvents: Life = { expire: 86_400_000, retries: asOftenAsItTakes };

export function lifeOf(options: Partial<Life>, otherwise: Life): { exp: number; try: number } {
  return { exp: Math.max(1, Math.ceil((options.expire ?? otherwise.expire) / 1000)), try: options.retries ?? otherwise.retries };
}

/** The `ext` of a request that is sent so. */
export function extOf(options: NotifyOptions & PublishOptions): Ext {
  const ext: Ext = {};
  if (options.id !== undefined) {
    if (options.id === "" || options.id.length > maxID_chars) throw new RangeError(`an id has 1 to ${maxID_chars} characters`);
    ext.id = options.id;
  }
  if (options.tag !== undefined) {
    if (Buffer.byteLength(JSON.stringify(options.tag)) > maxTag_bytes) throw new RangeError(`tag is longer than ${maxTag_bytes} bytes of JSON`);
    ext.tag = options.tag;
  }
  if (options.mandatory === true) ext.mandatory = true;
  if (options.durable === true) ext.durable = true;
  if (options.retain === true) ext.retain = true;
  return ext;
}

const maxTwin = 2 ** 32 - 1;

/** A twin that is named twice is asked once. */
export function twinsOf(twins: Iterable<number>): number[] {
  const all = [...new Set(twins)];
  for (const twin of all) if (!Number.isInteger(twin) || twin < 1 || twin > maxTwin) throw new RangeError(`${twin} is no twin`);
  return all;
}
