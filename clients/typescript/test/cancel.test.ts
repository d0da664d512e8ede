import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";

import { contains } from "../src/cancel.js";
import { Client, type Handlers, type Request } from "../src/index.js";
import { decodeData, now_s } from "../src/wire.js";
import { eventually } from "./eventually.js";
import { RedisServer } from "./redis.js";
import { Relay } from "./relay.js";
import { atEnd } from "./scope.js";

async function serve(t: TestContext, handlers: Handlers) {
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  const bus = await Client.open({ redis: redis.url });
  atEnd(t, () => bus.close());
  await bus.serve(handlers, { workers: 4 }).ready;
  await eventually(async () => assert.equal((await relay.redis.pubSubNumSub("msgbus.events.msgbus/cancel"))["msgbus.events.msgbus/cancel"], 1));
  return { redis, relay, bus };
}

/** A handler that ends when it is cancelled, and tells when it runs. */
function hanging(runs: EventEmitter) {
  return async (_: unknown, request: Request) => {
    const aborted = once(request.signal, "abort");
    runs.emit(request.id);
    await aborted;
    throw request.signal.reason;
  };
}

const cancel = (relay: Relay, what: object, fields: Record<string, unknown> = {}) => relay.publish("msgbus/cancel", "msgbus/cancel", { cmd: "render", ...what }, fields);
const isCancelled = [{ class: "msgbus.cancelled", message: "the app has cancelled the request" }, "the app has cancelled the request"];

test("a request that its app cancels by id ends its handler, and the answer says so", async (t) => {
  const runs = new EventEmitter();
  const { relay } = await serve(t, { render: hanging(runs) });
  const run = Promise.all([once(runs, "17"), once(runs, "18")]);
  await relay.give("render", null, { ext: { id: "17" } });
  await relay.give("render", null, { ext: { id: "18" } });
  await run;
  await cancel(relay, { id: "17" });
  const reply = await relay.reply();
  assert.deepEqual([reply.ext?.error, reply.err, reply.ext?.id], [...isCancelled, "17"]);
  await cancel(relay, { id: "18" });
  assert.equal((await relay.reply()).ext?.id, "18");
});

test("requests are cancelled by what their tags have", async (t) => {
  const runs = new EventEmitter();
  const { relay } = await serve(t, { render: hanging(runs) });
  const run = Promise.all(["1", "2", "3"].map((id) => once(runs, id)));
  await relay.give("render", null, { ext: { id: "1", tag: { job: 4, frame: 1 } } });
  await relay.give("render", null, { ext: { id: "2", tag: { job: 4, frame: 2 } } });
  await relay.give("render", null, { ext: { id: "3", tag: { job: 5 } } });
  await run;
  await cancel(relay, { tag: { job: 4 } });
  assert.deepEqual([(await relay.reply()).ext?.id, (await relay.reply()).ext?.id].sort(), ["1", "2"]);
  await cancel(relay, { tag: { job: 5 } });
  assert.equal((await relay.reply()).ext?.id, "3");
});

// Anybody could end anybody's work.
test("only the twin that has asked cancels, only its command, and only what it asked before", async (t) => {
  const runs = new EventEmitter();
  const { relay } = await serve(t, { render: hanging(runs) });
  const run = Promise.all([once(runs, "17"), once(runs, "18")]);
  const now = now_s();
  await relay.give("render", null, { now, ext: { id: "17" } });
  await relay.give("render", null, { now, ext: { id: "18" } });
  await run;
  await cancel(relay, { id: "17" }, { src: 1003 });
  await cancel(relay, { id: "17", cmd: "other" });
  await cancel(relay, { id: "17" }, { now: now - 1 });
  await cancel(relay, {});
  await relay.redis.publish("msgbus.events.msgbus/cancel", "no json");
  await cancel(relay, { id: "18" }); // behind all these
  assert.equal((await relay.reply()).ext?.id, "18");
  await cancel(relay, { id: "17" });
  assert.equal((await relay.reply()).ext?.id, "17");
});

// A long queue would be worked off for nobody.
test("what was cancelled before it is taken is not begun", async (t) => {
  let begun = 0;
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  await relay.give("render", null, { ext: { id: "17", progress: "msgbus.system.reply" } });
  await relay.keep("msgbus", "msgbus/cancel", { cmd: "render", id: "17" });
  await relay.keep("msgbus", "msgbus/other", { cmd: "render", id: "18" });
  await relay.redis.xAdd("msgbus.system.stream.msgbus", "*", { event: "no json" });
  const bus = await Client.open({ redis: redis.url });
  atEnd(t, () => bus.close());
  bus.serve({ render: () => (begun++, "done") });
  assert.equal((await relay.reply()).ext?.status, "accepted");
  const reply = await relay.reply();
  assert.deepEqual([reply.ext?.error, reply.err, begun], [...isCancelled, 0]);
  await relay.give("render", null, { ext: { id: "18" } });
  assert.equal(decodeData((await relay.reply()).dat), "done");
});

test("what a handler has done all the same is the answer", async (t) => {
  const runs = new EventEmitter();
  const { relay } = await serve(t, {
    render: async (_, request) => {
      runs.emit("runs");
      await once(request.signal, "abort");
      return "done";
    },
  });
  const run = once(runs, "runs");
  await relay.give("render", null, { ext: { id: "17" } });
  await run;
  await cancel(relay, { id: "17" });
  const reply = await relay.reply();
  assert.deepEqual([decodeData(reply.dat), reply.err], ["done", ""]);
});

// Redis was restarted, and what was cancelled meanwhile would run to its end.
test("a service learns what was cancelled while it did not hear", async (t) => {
  const runs = new EventEmitter();
  const { redis, relay } = await serve(t, { render: hanging(runs) });
  const run = once(runs, "17");
  await relay.give("render", null, { ext: { id: "17" } });
  await run;
  await relay.keep("msgbus", "msgbus/cancel", { cmd: "render", id: "17" });
  await redis.stop();
  await redis.start();
  await eventually(async () => assert.deepEqual((await relay.reply()).ext?.error, isCancelled[0]));
});

test("an app cancels with a request of the contract", async (t) => {
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  const bus = await Client.open({ redis: redis.url });
  atEnd(t, () => bus.close());
  const cancelled = assert.rejects(bus.call(1002, "render", null, { id: "17" }), { reason: "cancelled" });
  const { message } = await relay.request();
  assert.equal(message.ext?.id, "17");
  await bus.cancel(1002, "render", { id: "17" });
  const { message: asked } = await relay.request();
  assert.deepEqual([asked.cmd, asked.dst, asked.ext, decodeData(asked.dat)], ["msgbus.cancel", [1002], { oneway: true }, { cmd: "render", id: "17" }]);
  await bus.cancel(1002, "render", { tag: { job: 4 } });
  assert.deepEqual(decodeData((await relay.request()).message.dat), { cmd: "render", tag: { job: 4 } });

  // Two that have the same name would get each other's answers.
  await assert.rejects(bus.call(1002, "render", null, { id: "17" }), TypeError);
  await assert.rejects(bus.call(1002, "render", null, { id: "" }), RangeError);
  await relay.answer(message, 1002, undefined, { err: "the app has cancelled the request", ext: { error: { class: "msgbus.cancelled" } } });
  await cancelled;
  const again = bus.call(1002, "render", null, { id: "17" });
  await relay.answer((await relay.request()).message, 1002, "done");
  assert.equal(await again, "done");
});

test("a tag has another when it has at least its members", () => {
  const cases: [whole: unknown, part: unknown, want: boolean][] = [
    [{ job: 4, frame: 1 }, { job: 4 }, true],
    [{ job: 4 }, { job: 4, frame: 1 }, false],
    [{ job: { id: 4, of: 9 } }, { job: { id: 4 } }, true],
    [{ job: 4 }, {}, true],
    [{ job: 4 }, { job: "4" }, false],
    [{ list: [1, 2] }, { list: [1] }, false],
    [{ list: [{ a: 1, b: 2 }] }, { list: [{ b: 2, a: 1 }] }, true],
    ["a", "a", true],
    ["a", {}, false],
    [undefined, {}, false],
    [{}, { toString: null }, false],
    [null, null, true],
  ];
  for (const [whole, part, want] of cases) assert.equal(contains(whole, part), want, `${JSON.stringify(whole)} and ${JSON.stringify(part)}`);
});
