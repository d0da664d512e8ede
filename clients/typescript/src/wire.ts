// What stands in Redis: messages as docs/clients.md has them, with the `ext` of
// docs/extensions.md, both of the repository of msgbusd.

/** `ext` of a request or a reply: all members are optional. */
export interface Ext {
  id?: string;
  tag?: unknown;
  progress?: string;
  oneway?: true;
  mandatory?: true;
  group?: string;
  topic?: string;
  durable?: true;
  retain?: true;
  of?: number;
  status?: string;
  seq?: number;
  error?: ExtError;
  [member: string]: unknown;
}

/** What a reply says about its error beside `err`. */
export interface ExtError {
  code?: number;
  class?: string;
  message?: string;
  data?: unknown;
}

/** A message in the classic dialect. Fields that are not listed are kept. */
export interface Message {
  ver: number;
  uid: string;
  cmd: string;
  /** seconds after `now`, or, from one old client, a unix time */
  exp: number;
  try: number;
  /** base64 */
  dat: string;
  src: number;
  dst: number[];
  ret: string;
  shm: string;
  /** unix seconds */
  now: number;
  err: string;
  ext?: Ext;
  [field: string]: unknown;
}

/** Life of a request whose `exp` is 0. */
const defaultLife_s = 3600;
/** A timer that is set for longer goes off at once. */
export const maxTimer_ms = 2 ** 31 - 1;
/** An `exp` over this is the deadline itself. */
const absoluteFrom_s = 1e9;

/** Base64 of JSON. `undefined`, which JSON has not, is no data at all. */
export function encodeData(data: unknown): string {
  return data === undefined ? "" : Buffer.from(JSON.stringify(data)).toString("base64");
}

/**
 * What {@link encodeData} was given.
 * @throws SyntaxError if it is not JSON.
 */
export function decodeData(dat: string): unknown {
  return dat === "" ? undefined : JSON.parse(Buffer.from(dat, "base64").toString());
}

export function now_s(): number {
  return Math.floor(Date.now() / 1000);
}

/**
 * A request of the classic dialect: by `uid`, `src` and `try` the relay tells that
 * it is one. `now` is set, so that a request that waited for a relay longer than
 * its life is not carried out for an app that has given up.
 */
export function newRequest(fields: Pick<Message, "cmd" | "exp" | "try" | "dat" | "dst" | "ret"> & { ext: Ext }): Message {
  return { ver: 1, uid: "", src: 0, shm: "application/json", now: now_s(), err: "", ...fields };
}

/** A reply to a request, or what is said before it: a copy of it, turned round. */
export function newReply(request: Message, fields: Pick<Message, "dat" | "err"> & { ext: Ext }): Message {
  const ext: Ext = { ...fields.ext };
  if (request.ext?.id !== undefined) ext.id = request.ext.id;
  if (request.ext?.tag !== undefined) ext.tag = request.ext.tag;
  const reply: Message = { ...request, src: request.dst[0] ?? 0, dst: [request.src], now: now_s(), dat: fields.dat, err: fields.err };
  delete reply.ext;
  if (Object.keys(ext).length > 0) reply.ext = ext;
  return reply;
}

/** When nobody waits for the answer any more, in milliseconds since 1970. */
export function deadlineOf(request: Message): number {
  if (request.exp > absoluteFrom_s) return request.exp * 1000;
  return ((request.now || now_s()) + (request.exp || defaultLife_s)) * 1000;
}

/**
 * Reads a message. Fields that are absent or null have their zero values.
 * @throws Error that says what is wrong with it.
 */
export function decodeMessage(raw: string): Message {
  const json: unknown = JSON.parse(raw);
  if (!isObject(json)) throw new TypeError("it is not an object");
  const m: Message = {
    ...json,
    ver: number(json, "ver"),
    uid: text(json, "uid"),
    cmd: text(json, "cmd"),
    exp: number(json, "exp"),
    try: number(json, "try"),
    dat: text(json, "dat"),
    src: number(json, "src"),
    dst: twins(json),
    ret: text(json, "ret"),
    shm: text(json, "shm"),
    now: number(json, "now"),
    err: text(json, "err"),
  };
  // An ext that is not an object means nothing, and is carried all the same.
  if (!isObject(json["ext"])) delete m.ext;
  return m;
}

function text(json: Record<string, unknown>, field: string): string {
  const value = json[field] ?? "";
  if (typeof value !== "string") throw new TypeError(`${field} is not text`);
  return value;
}

function number(json: Record<string, unknown>, field: string): number {
  const value = json[field] ?? 0;
  if (typeof value !== "number") throw new TypeError(`${field} is not a number`);
  return value;
}

function twins(json: Record<string, unknown>): number[] {
  const value = json["dst"] ?? [];
  if (!Array.isArray(value) || value.some((twin) => typeof twin !== "number")) throw new TypeError("dst is not a list of numbers");
  return value as number[];
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
