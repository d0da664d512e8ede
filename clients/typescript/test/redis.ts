import { createClient } from "@redis/client";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { drawPort } from "./port.js";
import { Process } from "./process.js";
import { atEnd, type Scope } from "./scope.js";

/** A redis-server of a test's own, which keeps what it has over a restart. */
export class RedisServer {
  readonly port: number;
  readonly #dir: string;
  #process: Process | undefined;

  private constructor(port: number, dir: string) {
    this.port = port;
    this.#dir = dir;
  }

  static async start(t: Scope): Promise<RedisServer> {
    const port = await drawPort();
    const dir = await mkdtemp(join(tmpdir(), "msgbus-client-redis-"));
    const server = new RedisServer(port.number, dir);
    atEnd(t, async () => {
      await server.stop();
      port.release();
      await rm(dir, { recursive: true });
    });
    await server.start();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const args = ["--bind", "127.0.0.1", "--port", `${this.port}`, "--dir", this.#dir, "--save", "", "--appendonly", "yes", "--notify-keyspace-events", "KEA"];
    this.#process = new Process("redis-server", "redis-server", args);
    await this.#process.says("Ready to accept connections");
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  /** A connection of the test's own. */
  async connect(t: Scope) {
    const redis = createClient({ url: this.url, RESP: 2, commandOptions: { timeout: undefined } });
    redis.on("error", () => {});
    await redis.connect();
    atEnd(t, () => redis.destroy());
    return redis;
  }
}

export type Connection = Awaited<ReturnType<RedisServer["connect"]>>;
