import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";

import { Client, type ClientOptions, type Stream, type StreamOptions } from "../src/index.js";
import { decodeData } from "../src/wire.js";
import { connections, eventually, leavesConnections } from "./eventually.js";
import { RedisServer } from "./redis.js";
import { Relay } from "./relay.js";
import { atEnd } from "./scope.js";

async function start(t: TestContext, options: ClientOptions = {}) {
  const server = await RedisServer.start(t);
  const relay = await Relay.play(t, server);
  const bus = await Client.open({ redis: server.url, ...options });
  atEnd(t, () => bus.close());
  return { server, relay, bus };
}

async function next<T>(events: AsyncIterator<T>): Promise<T> {
  const { done, value } = await events.next();
  assert.ok(!done, "it has ended");
  return value;
}

const key = "msgbus.system.stream.jobs";

test("a stream begins where it is told to, and resumes behind what was handled", async (t) => {
  const { relay, bus } = await start(t);
  for (const n of [1, 2, 3]) await relay.keep("jobs", `jobs/do.${n}`, n);
  const all = await bus.stream<number>("jobs", { after: "0" });
  const first = await next(all);
  assert.deepEqual([first.topic, first.data, first.source], ["jobs/do.1", 1, 1002]);
  await all.close();

  const resumed = await bus.stream<number>("jobs", { after: first.id });
  const fresh = await bus.stream<number>("jobs");
  await relay.keep("jobs", "jobs/do.4", 4);
  assert.deepEqual([(await next(resumed)).data, (await next(resumed)).data, (await next(resumed)).data], [2, 3, 4]);
  assert.equal((await next(fresh)).data, 4);
});

test("a stream waits for what comes, and leaves out what is not wanted", async (t) => {
  const errors: Error[] = [];
  const { relay, bus } = await start(t, { onError: (error) => errors.push(error) });
  const events = await bus.stream<number>("", { matching: "do.*" });
  const waits = next(events);
  await relay.keep("default", "undo.1", 0);
  await relay.keep("default", "do.1", 0, { dat: "bm8ganNvbg==" });
  await relay.keep("default", "do.1", 1);
  assert.equal((await waits).data, 1);
  assert.match(errors.map(String).join(), /cannot be read/);
  await assert.rejects(bus.stream("no exchange"), RangeError);
  await assert.rejects(bus.stream("*"), RangeError);
  await assert.rejects(bus.stream("jobs", { matching: "jobs/x" }), RangeError);
  await assert.rejects(events.ack({ ...(await next(await bus.stream("", { after: "0" }))) }), TypeError);
});

test("a stream goes on where it was when Redis was away", async (t) => {
  const lost = new EventEmitter();
  const { server, relay, bus } = await start(t, { onError: (error) => lost.emit("lost", error) });
  const events = await bus.stream<number>("jobs", { after: "0" });
  await relay.keep("jobs", "jobs/do.1", 1);
  assert.equal((await next(events)).data, 1);
  const waits = next(events);
  const gone = once(lost, "lost");
  await server.stop();
  await gone;
  await assert.rejects(bus.stream("jobs"), { reason: "storage_failed" });
  await server.start();
  await eventually(() => relay.keep("jobs", "jobs/do.2", 2));
  assert.equal((await waits).data, 2);
});

test("who leaves a stream or aborts it leaves no connection", async (t) => {
  const { relay, bus } = await start(t);
  const before = await connections(relay.redis);
  await relay.keep("jobs", "jobs/do.1", 1);
  for await (const event of await bus.stream("jobs", { after: "0" })) {
    assert.equal(event.data, 1);
    assert.equal(await connections(relay.redis), before + 1);
    break;
  }
  await leavesConnections(relay.redis, before);

  const why = new Error("enough");
  const aborter = new AbortController();
  const waits = next(await bus.stream("jobs", { signal: aborter.signal }));
  await eventually(async () => assert.equal(await connections(relay.redis), before + 1));
  aborter.abort(why);
  await assert.rejects(waits, why);
  await leavesConnections(relay.redis, before);
});

// An app that is restarted would miss what other twins publish meanwhile.
test("other twins are asked for a day more than the stream is there", async (t) => {
  const { relay, bus } = await start(t);
  const opening = bus.stream("jobs", { from: [1002], matching: "do.#" });
  const { message } = await relay.request();
  assert.deepEqual(decodeData(message.dat), { patterns: ["jobs/do.#"], lease: 60 });
  await relay.answer(message, 1002, {});
  await (await opening).close();
  assert.deepEqual(await relay.redis.zRange("msgbus.system.subscriptions", 0, -1), ["stream-jobs 1002 jobs/do.#"]);
  const left_ms = await relay.redis.pTTL("msgbus.system.consumer.stream-jobs");
  assert.ok(left_ms > 86_000_000 && left_ms <= 86_400_000, `${left_ms}`);
});

/** Opens a stream of the group `workers`. */
function compete(bus: Client, worker: string, options: StreamOptions = {}): Promise<Stream<number>> {
  return bus.stream<number>("jobs", { after: "0", group: "workers", worker, ...options });
}

const held = async (relay: Relay) => (await relay.redis.xPendingRange(key, "workers", "-", "+", 100)).map(({ id, consumer }) => [id, consumer]);

/** Has an hour pass, as far as Redis knows, since an event was heard of. */
async function age(relay: Relay, worker: string, id: string): Promise<void> {
  await relay.redis.sendCommand(["XCLAIM", key, "workers", worker, "0", id, "IDLE", "3600000", "JUSTID"]);
}

// One worker would take all that waits, and work on it for hours, while the other has
// nothing to do.
test("workers share the events, and none takes more than it works on", async (t) => {
  const { relay, bus } = await start(t);
  for (const n of [1, 2, 3]) await relay.keep("jobs", `jobs/do.${n}`, n);
  const one = await compete(bus, "one");
  const two = await compete(bus, "two");
  const first = await next(one);
  assert.deepEqual([first.data, (await next(two)).data, (await next(one)).data], [1, 2, 3]);
  await one.ack(first);
  assert.deepEqual((await held(relay)).map(([, worker]) => worker), ["two", "one"]);
  await assert.rejects(bus.stream("jobs", { group: "workers" }), TypeError);
});

test("a worker that begins again gets first what it had not acknowledged", async (t) => {
  const { relay, bus } = await start(t);
  for (const n of [1, 2]) await relay.keep("jobs", `jobs/do.${n}`, n);
  const one = await compete(bus, "one");
  assert.equal((await next(one)).data, 1);
  await one.close();
  const again = await compete(bus, "one");
  assert.deepEqual([(await next(again)).data, (await next(again)).data], [1, 2]);
});

// A worker has died, and its job is never done.
test("what a dead worker had goes to another", async (t) => {
  const { relay, bus } = await start(t);
  const id = await relay.keep("jobs", "jobs/do.1", 1);
  const dead = await compete(bus, "dead");
  await next(dead);
  await dead.close();
  await age(relay, "dead", id);
  const other = await compete(bus, "other");
  assert.equal((await next(other)).data, 1);
  assert.deepEqual(await held(relay), [[id, "other"]]);
});

// A worker installs a machine for an hour, and after a minute another one begins to install
// it, too.
test("what a worker works on is its own while it lives", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { relay, bus } = await start(t);
  const id = await relay.keep("jobs", "jobs/do.1", 1);
  const slow = await compete(bus, "slow");
  await next(slow);
  await age(relay, "slow", id);
  t.mock.timers.tick(20_000);
  await eventually(async () => {
    const [event] = await relay.redis.xPendingRange(key, "workers", "-", "+", 1);
    assert.ok(event && event.millisecondsSinceLastDelivery < 60_000);
  });
  const other = await compete(bus, "other");
  await relay.keep("jobs", "jobs/do.2", 2);
  assert.equal((await next(other)).data, 2);
});

test("what a group does not want, or is too old to be kept, waits for nobody", async (t) => {
  const { relay, bus } = await start(t);
  const old = await relay.keep("jobs", "jobs/do.1", 1);
  const one = await compete(bus, "one", { matching: "do.*" });
  await next(one);
  await one.close();
  await relay.redis.xDel(key, old);
  await relay.keep("jobs", "jobs/undo.2", 2);
  const last = await relay.keep("jobs", "jobs/do.3", 3);
  const again = await compete(bus, "one", { matching: "do.*" });
  assert.equal((await next(again)).data, 3);
  await eventually(async () => assert.deepEqual(await held(relay), [[last, "one"]]));
});
