import { ClientOfflineError, ErrorReply, createClient } from "@redis/client";

import { BusError, busError } from "./errors.js";

/** A connection to Redis. */
export type Redis = ReturnType<typeof create>;

/** Where Redis is, and who hears of what goes wrong behind everybody's back. */
export interface Endpoint {
  /** `redis://user:password@host:port/db`, or `rediss://…` for TLS */
  url: string;
  onError: (error: Error) => void;
}

const connectTimeout_ms = 5_000;
// A connection on which nothing comes for so long is dead, though nobody said so.
const pingEvery_ms = 5_000;
const silence_ms = 20_000;
const maxRest_ms = 2_000;

/** Rest before attempt n to connect again, from 0. */
function rest_ms(n: number): number {
  return Math.min(50 * 2 ** n, maxRest_ms) + Math.random() * 100;
}

function create(at: Endpoint, away: { reject: boolean }, again: (attempt: number, cause: Error) => number | Error) {
  const redis = createClient({
    url: at.url.includes("://") ? at.url : `redis://${at.url}`,
    RESP: 2, // nothing here needs more, and what stands before a Redis may not know it
    disableOfflineQueue: away.reject,
    commandOptions: { timeout: undefined }, // else what waits for a Redis that is away is dropped after 5 s
    pingInterval: pingEvery_ms,
    socket: { connectTimeout: connectTimeout_ms, socketTimeout: silence_ms, reconnectStrategy: again },
  });
  redis.on("error", at.onError);
  redis.setMaxListeners(0); // each server has one
  return redis;
}

/**
 * A connection for commands that answer at once. While Redis is away it is
 * connected again and again, and commands are rejected.
 * @throws BusError if Redis cannot be reached now.
 */
export async function openCommands(at: Endpoint): Promise<Redis> {
  let opened = false;
  const redis = create(at, { reject: true }, (attempt, cause) => (opened ? rest_ms(attempt) : cause));
  try {
    await redis.connect();
  } catch (cause) {
    throw busError("storage_failed", `Redis at ${address(at)} cannot be reached: ${textOf(cause)}`, { cause });
  }
  opened = true;
  return redis;
}

/**
 * A connection for one command at a time that blocks. Commands wait while Redis is
 * away, also when it is from the start.
 */
export function openBlocking(at: Endpoint): Redis {
  const redis = create(at, { reject: false }, rest_ms);
  redis.connect().catch(() => {}); // it was destroyed first
  return redis;
}

/** Ends a connection, and what runs on it with an error. */
export function destroy(redis: Redis): void {
  // node-redis 6.3 does not notice it while it connects, and keeps a connection that
  // nobody has any more.
  redis.once("ready", () => redis.destroy());
  redis.destroy();
}

/** What it means to the app that its request could not be pushed. */
export function notPushed(at: Endpoint, cause: unknown): BusError {
  let text = `Redis at ${address(at)} went away: it is not known whether the request was sent: ${textOf(cause)}`;
  if (cause instanceof ClientOfflineError) text = `Redis at ${address(at)} is away: the request was not sent`;
  if (cause instanceof ErrorReply) text = `Redis at ${address(at)} does not take the request: ${textOf(cause)}`;
  return busError("storage_failed", text, { cause });
}

/** What it means to the app that Redis did not do something. */
export function failed(at: Endpoint, what: string, cause: unknown): BusError {
  return busError("storage_failed", `Redis at ${address(at)} cannot be used to ${what}: ${textOf(cause)}`, { cause });
}

/** Without the password, which would stand in logs. */
function address(at: Endpoint): string {
  return at.url.replace(/^[a-z]+:\/\//, "").replace(/^.*@/, "");
}

export function textOf(error: unknown): string {
  // Several addresses of a host were tried: the error of all of them is empty.
  if (error instanceof AggregateError && error.message === "") return error.errors.map(textOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
