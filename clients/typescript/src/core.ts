import type { Listener } from "./listener.js";
import type { Endpoint, Redis } from "./redis.js";
import type { Requester } from "./requester.js";

/** What all parts of a client share. */
export interface Core {
  readonly at: Endpoint;
  readonly prefix: string;
  readonly commands: Redis;
  readonly requester: Requester;
  readonly listener: Listener;
}

/** How often a lease is renewed, and how long it is. */
export const renewEvery_ms = 5_000;
export const lease_ms = 15_000;
