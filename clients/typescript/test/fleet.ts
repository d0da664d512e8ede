import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { drawPort } from "./port.js";
import { Process } from "./process.js";
import { RedisServer } from "./redis.js";
import { atEnd, type Scope } from "./scope.js";

/** A twin that runs: a Redis and a relay. */
export interface Site {
  readonly twin: number;
  readonly redis: RedisServer;
  /** The relay, which may be stopped and started again. */
  readonly relay: { stop(): Promise<void>; start(): Promise<void> };
}

/** The twins of {@link startFleet}, and one in the registry whose address nobody answers at. */
export interface Fleet {
  readonly a: Site;
  readonly b: Site;
  readonly gone: number;
}

/** Starts a registry and two twins, as docs/two-twins.sh does. They end with the test. */
export async function startFleet(t: Scope): Promise<Fleet> {
  const msgbusd = program();
  const dir = await mkdtemp(join(tmpdir(), "msgbus-client-fleet-"));
  atEnd(t, () => rm(dir, { recursive: true }));
  const port = async () => {
    const drawn = await drawPort();
    atEnd(t, () => drawn.release());
    return drawn.number;
  };
  const run = async (...args: string[]) => new Process(`msgbusd ${args[0]} ${args[1]}`, msgbusd, args, dir).output();

  const twins = await Promise.all(
    [1001, 1002, 1003].map(async (id) => {
      const key = join(dir, `${id}.key`);
      await writeFile(key, await run("key", "new", "--phrase-only"), { mode: 0o600 });
      const account = /^account +(\S+)$/m.exec(await run("key", "show", "--mnemonics-file", key))?.[1];
      if (account === undefined) throw new Error("msgbusd key show names no account");
      return { id, key, account, port: await port() };
    }),
  );
  const registryPort = await port();
  const file = join(dir, "twins.json");
  await writeFile(file, JSON.stringify(twins.map(({ id, account, port }) => ({ id, account, ip: `127.0.0.1:${port}` }))));
  const start = async (name: string, ...args: string[]) => {
    let running: Process | undefined;
    const stop = async () => running?.stop();
    const again = async () => {
      running = new Process(name, msgbusd, args, dir);
      await running.says("serving");
    };
    atEnd(t, stop);
    await again();
    return { stop, start: again };
  };
  await start("registry", "registry", "--file", file, "--listen", `127.0.0.1:${registryPort}`);

  const site = async (twin: (typeof twins)[number]): Promise<Site> => {
    const redis = await RedisServer.start(t);
    const relay = await start(
      `relay of ${twin.id}`,
      ...["--substrate", `http://127.0.0.1:${registryPort}`, "--twin", `${twin.id}`, "--mnemonics-file", twin.key],
      ...["--redis", `127.0.0.1:${redis.port}`, "--listen", `127.0.0.1:${twin.port}`, "--admin-listen", `127.0.0.1:${await port()}`],
      ...["--allow-network", "127.0.0.0/8", "--allow-port", twins.map((each) => each.port).join()],
    );
    return { twin: twin.id, redis, relay };
  };
  const [a, b, gone] = twins;
  if (a === undefined || b === undefined || gone === undefined) throw new Error("there are too few twins");
  return { a: await site(a), b: await site(b), gone: gone.id };
}

/** The msgbusd of this checkout, or the one that MSGBUSD names. */
function program(): string {
  const path = process.env["MSGBUSD"] ?? fileURLToPath(new URL("../../../../bin/msgbusd", import.meta.url));
  if (!existsSync(path)) throw new Error(`there is no ${path}: run make build first, or name the program in MSGBUSD`);
  return path;
}
