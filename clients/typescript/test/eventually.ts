import assert from "node:assert/strict";
import { setTimeout as rest } from "node:timers/promises";

import type { Connection } from "./redis.js";

const patience_ms = 40_000; // what a lease takes to end, and more
const rest_ms = 20;

/** Waits until check throws no more; what it throws in the end is the failure. */
export async function eventually<T>(check: () => Promise<T> | T): Promise<T> {
  const end = performance.now() + patience_ms;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await rest(rest_ms);
    }
  }
}

/** How many connections a Redis has. */
export async function connections(redis: Connection): Promise<number> {
  return (await redis.clientList()).length;
}

/** Waits until a Redis has no more connections than before. */
export async function leavesConnections(redis: Connection, before: number): Promise<void> {
  await eventually(async () => assert.equal(await connections(redis), before));
}
