import { once } from "node:events";
import { createServer, type Server } from "node:net";

// Above what services usually have, and below what Linux gives to outgoing
// connections by itself.
const low = 10_000;
const high = 32_000;

/** A port that nobody else who asks has until it is released, in whichever process. */
export interface Port {
  readonly number: number;
  release(): void;
}

/**
 * Draws a port that is free at 127.0.0.1. It is reserved as package internal/freeport
 * of the Go tests does, with an abstract socket, so that they draw others.
 */
export async function drawPort(): Promise<Port> {
  for (let tries = 0; tries < 1000; tries++) {
    const number = low + Math.floor(Math.random() * (high - low));
    const reservation = await listen(`\0msgbusd-test-port-${number}`);
    if (reservation === undefined) continue;
    const listener = await listen({ host: "127.0.0.1", port: number });
    if (listener !== undefined) {
      listener.close();
      await once(listener, "close");
      reservation.unref();
      return { number, release: () => reservation.close() };
    }
    reservation.close();
  }
  throw new Error("no port is free");
}

async function listen(where: string | { host: string; port: number }): Promise<Server | undefined> {
  const server = createServer();
  server.listen(where);
  try {
    await once(server, "listening");
    return server;
  } catch {
    return undefined; // somebody has it
  }
}
