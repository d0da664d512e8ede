import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { Process } from "./process.js";
import { atEnd } from "./scope.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const app = `
import { BusError, Client, type Answer, type HeardEvent, type Presence, type Published, type Request, type Server, type Stream, type StreamEvent, type Subscription } from "msgbus-client";

await using bus: Client = await Client.open({ prefix: "msgbus", onError: (error: Error) => console.error(error) });
const sum: number = await bus.call<number>(1002, "calculator.add", [20, 22], { id: "17", signal: AbortSignal.timeout(1_000) });
const group: AsyncIterable<Answer<string>> = bus.callGroup<string>("rack-7", "who", sum, { onProgress: ({ completed }) => completed });
for await (const answer of group) console.log(answer.ok ? answer.data.length : answer.error instanceof BusError);
const server: Server = bus.serve({ render: (frame: number, request: Request) => request.signal.aborted || frame }, { workers: 2 });
const heard: Subscription<number> = await bus.subscribe<number>("sensor.#", { from: [1002], within: 500, retained: true });
for await (const event of heard) console.log((event satisfies HeardEvent<number>).data + event.lost);
const jobs: Stream<{ cake: number }> = await bus.stream<{ cake: number }>("jobs", { group: "bakers", worker: "one" });
for await (const job of jobs) await jobs.ack(job satisfies StreamEvent<{ cake: number }>);
const { listeners, errors }: Published = await bus.publishCounted("jobs/bake", { cake: 1 }, { durable: true });
const presence: Presence = await bus.announce("runner.7", { listeners, errors });
console.log(presence.lost.aborted, (await bus.present("runner.7"))?.info);
await bus.cancel(1002, "render", { tag: { job: 4 } });
await bus.cancel(1002, "render", { id: "17" });
// @ts-expect-error: it says what is to be cancelled
await bus.cancel(1002, "render", {});
await server.stop({ grace: 0 });
`;

const settings = {
  compilerOptions: { module: "NodeNext", target: "ES2022", lib: ["ES2023", "ESNext.Disposable"], types: ["node"], strict: true, noEmit: true, skipLibCheck: false },
  files: ["app.mts"],
};

// An app could not even be compiled, though all else works: what is internal is left out
// of the types.
test("an app is compiled with the types that the package exports", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "msgbus-client-types-"));
  atEnd(t, () => rm(dir, { recursive: true }));
  await mkdir(join(dir, "node_modules"));
  await symlink(root, join(dir, "node_modules", "msgbus-client"));
  await symlink(join(root, "node_modules", "@types"), join(dir, "node_modules", "@types"));
  await writeFile(join(dir, "app.mts"), app);
  await writeFile(join(dir, "tsconfig.json"), JSON.stringify(settings));
  await new Process("tsc", join(root, "node_modules", ".bin", "tsc"), ["-p", "."], dir).output();
});
