// What the library and relays make of docs/extensions.md together: nothing here is
// played.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { after, before, suite, test, type TestContext } from "node:test";

import { BusError, Client, type Answer, type Handlers, type Interim } from "../src/index.js";
import { startFleet, type Fleet, type Site } from "./fleet.js";
import { Process } from "./process.js";
import { atEnd } from "./scope.js";

suite("two relays", () => {
  let fleet: Fleet;
  let end = async () => {};
  before(async () => {
    fleet = await startFleet({ after: (all) => (end = all) });
  });
  after(() => end());

  async function open(t: TestContext, site: Site): Promise<Client> {
    const bus = await Client.open({ redis: site.redis.url });
    atEnd(t, () => bus.close());
    return bus;
  }

  /** An app of twin a, and a service of twin b. */
  async function pair(t: TestContext, handlers: Handlers): Promise<Client> {
    const service = await open(t, fleet.b);
    await service.serve(handlers).ready;
    return open(t, fleet.a);
  }

  test("a call is answered by a service of another twin", async (t) => {
    const app = await pair(t, { "calculator.add": (input: number[], request) => ({ sum: input[0]! + input[1]!, asked: request.source, tag: request.tag }) });
    const answer = await app.call(fleet.b.twin, "calculator.add", [20, 22], { tag: { job: 4 } });
    assert.deepEqual(answer, { sum: 42, asked: fleet.a.twin, tag: { job: 4 } });
  });

  test("a hundred calls at once get the answers that are theirs", async (t) => {
    const app = await pair(t, { echo: (input) => input });
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    assert.deepEqual(await Promise.all(numbers.map((n) => app.call(fleet.b.twin, "echo", n))), numbers);
  });

  test("an error of the service comes whole", async (t) => {
    const app = await pair(t, { "rooms.book": () => { throw new BusError("no such room", { code: 42, errorClass: "NotFound", data: { room: 7 } }); } });
    await assert.rejects(app.call(fleet.b.twin, "rooms.book"), { twin: fleet.b.twin, code: 42, errorClass: "NotFound", message: "no such room", data: { room: 7 }, reason: "" });
  });

  test("of several twins each answers for itself", async (t) => {
    const app = await pair(t, { whoami: () => "b" });
    await (await open(t, fleet.a)).serve({ whoami: () => "a" }).ready;
    const answers = new Map<number, Answer>();
    for await (const answer of app.callAll([fleet.a.twin, fleet.b.twin, 1009], "whoami")) answers.set(answer.twin, answer);
    assert.deepEqual(answers.get(fleet.a.twin), { twin: fleet.a.twin, ok: true, data: "a" });
    assert.deepEqual(answers.get(fleet.b.twin), { twin: fleet.b.twin, ok: true, data: "b" });
    const unknown = answers.get(1009);
    assert.ok(unknown && !unknown.ok);
    assert.equal(unknown.error.reason, "twin_not_found");
  });

  test("a request that is wrong as a whole is an error", async (t) => {
    const app = await open(t, fleet.a);
    await assert.rejects(app.call(fleet.b.twin, "system.local"), { reason: "reserved_name" });
  });

  test("a twin that nobody answers for is an error with a reason", async (t) => {
    const app = await open(t, fleet.a);
    await assert.rejects(app.call(fleet.gone, "echo", null, { retries: 0 }), { twin: fleet.gone, reason: "retries_exhausted" });
  });

  test("the app hears how far the work is", async (t) => {
    const app = await pair(t, {
      render: (_, request) => {
        request.progress(10, 4, "frame 4");
        return "done";
      },
    });
    const heard: Interim[] = [];
    assert.equal(await app.call(fleet.b.twin, "render", null, { onProgress: (interim) => heard.push(interim) }), "done");
    assert.deepEqual(heard.map(({ twin, status, seq, total, completed, details }) => [twin, status, seq, total, completed, details]), [
      [fleet.b.twin, "accepted", 1, undefined, undefined, undefined],
      [fleet.b.twin, "started", 2, undefined, undefined, undefined],
      [fleet.b.twin, "progress", 3, 10, 4, "frame 4"],
    ]);
  });

  test("a mandatory request fails at once where nobody serves", async (t) => {
    const app = await open(t, fleet.a);
    await assert.rejects(app.call(fleet.b.twin, "nobody.serves", null, { mandatory: true }), { twin: fleet.b.twin, reason: "no_service" });
  });

  test("a mandatory request is answered where somebody does", async (t) => {
    const app = await pair(t, { "mandatory.echo": (input) => input });
    assert.equal(await app.call(fleet.b.twin, "mandatory.echo", "hello", { mandatory: true }), "hello");
  });

  test("a notification arrives", async (t) => {
    let arrived: (line: unknown) => void = () => {};
    const line = new Promise((resolve) => (arrived = resolve));
    const app = await pair(t, { "log.line": (input, request) => arrived([input, request.oneway]) });
    await app.notify([fleet.b.twin], "log.line", "hello");
    assert.deepEqual(await line, ["hello", true]);
  });

  test("relays answer for themselves", async (t) => {
    const app = await pair(t, { "listed.echo": (input) => input });
    assert.deepEqual(await app.call(fleet.b.twin, "msgbus.ping", { hello: 1 }), { hello: 1 });
    const version = await app.call<{ version: string; twin: number }>(fleet.b.twin, "msgbus.version");
    assert.deepEqual([typeof version.version, version.twin], ["string", fleet.b.twin]);
    const { commands } = await app.call<{ commands: { name: string; services: number }[] }>(fleet.b.twin, "msgbus.commands");
    assert.deepEqual(commands.filter(({ name }) => name === "listed.echo"), [{ name: "listed.echo", services: 1 }]);
  });

  // It takes a lease, 15 s, and the 10 s for which it must be gone.
  test("a request outlives the service that took it", async (t) => {
    const crashing = new Process("service", process.execPath, [fileURLToPath(new URL("crashing.js", import.meta.url)), fleet.b.redis.url]);
    atEnd(t, () => crashing.stop("SIGKILL"));
    await crashing.says("it serves");
    const app = await open(t, fleet.a);
    const answer = app.call(fleet.b.twin, "job.run", null, { expire: 90_000 });
    await crashing.says("it runs");
    await crashing.stop("SIGKILL");
    (await open(t, fleet.b)).serve({ "job.run": () => "by another" });
    assert.equal(await answer, "by another");
  });

  test("a request that its app gave up is no error of the next", async (t) => {
    let go = () => {};
    const released = new Promise<void>((resolve) => (go = resolve));
    const aborter = new AbortController();
    const app = await pair(t, { "slow.echo": async (input) => (input === "first" ? (aborter.abort(), await released) : go(), input) });
    const first = app.call(fleet.b.twin, "slow.echo", "first", { signal: aborter.signal });
    await assert.rejects(first, { name: "AbortError" });
    assert.equal(await app.call(fleet.b.twin, "slow.echo", "second"), "second");
  });
});
