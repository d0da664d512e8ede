import assert from "node:assert/strict";
import { EventEmitter, on, once } from "node:events";
import { test, type TestContext } from "node:test";

import { BusError, Client, type ClientOptions, type Handlers, type Request, type ServeOptions, type Server } from "../src/index.js";
import { Cancellations } from "../src/cancel.js";
import { Consumer } from "../src/consumer.js";
import type { Core } from "../src/core.js";
import { Listener } from "../src/listener.js";
import { openCommands } from "../src/redis.js";
import { Requester } from "../src/requester.js";
import { Taker } from "../src/taker.js";
import { decodeData, now_s } from "../src/wire.js";
import { RedisServer } from "./redis.js";
import { Relay, self } from "./relay.js";
import { atEnd } from "./scope.js";

async function serve(t: TestContext, handlers: Handlers, options: ServeOptions & ClientOptions = {}) {
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  const bus = await Client.open({ redis: redis.url, ...options });
  const server = bus.serve(handlers, options);
  atEnd(t, () => bus.close());
  await server.ready;
  return { redis, relay, bus, server };
}

/** What a client has inside. */
async function coreAt(url: string): Promise<Core> {
  const at = { url, onError: () => {} };
  const commands = await openCommands(at);
  return { at, prefix: "msgbus", commands, requester: new Requester(at, "msgbus", commands), listener: new Listener(at, "msgbus") };
}

/** Something that a handler waits for. */
function gate(): { open: () => void; passed: Promise<void> } {
  let open = () => {};
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { open, passed };
}

const takenLists = (relay: Relay) => relay.redis.keys("msgbus.system.taken.*");

test("a handler gets its input and who asks, and what it returns is the answer", async (t) => {
  let seen: Request | undefined;
  const { relay } = await serve(t, {
    "calculator.add": (input: number[], request) => {
      seen = request;
      return input.reduce((sum, n) => sum + n, 0);
    },
  });
  const now = now_s();
  await relay.give("calculator.add", [20, 22], { now, exp: 30, ext: { id: "17", tag: { job: 4 } } });
  const reply = await relay.reply();

  assert.deepEqual([decodeData(reply.dat), reply.err, reply.src, reply.dst, reply.uid, reply.ext], [42, "", self, [1002], "1001.1", { id: "17", tag: { job: 4 } }]);
  assert.ok(seen);
  assert.deepEqual([seen.source, seen.command, seen.uid, seen.tag, seen.oneway], [1002, "calculator.add", "1001.1", { job: 4 }, false]);
  assert.equal(seen.deadline.getTime(), (now + 30) * 1000);
  // In the same step as the answer: a crash between the two would have it done twice.
  assert.deepEqual(await takenLists(relay), []);
});

test("an error that a handler throws is the answer", async (t) => {
  const { relay } = await serve(t, {
    typed: () => { throw new BusError("no such room", { code: 42, errorClass: "NotFound", data: { room: 7 } }); },
    plain: async () => { throw new RangeError("too far"); },
    unsayable: () => 1n,
    unsayableError: () => { throw new BusError("no JSON", { data: 1n }); },
  });
  await relay.give("typed", null, { ext: { id: "1" } });
  let reply = await relay.reply();
  assert.deepEqual([reply.err, reply.dat, reply.ext], ["no such room", "", { id: "1", error: { code: 42, class: "NotFound", message: "no such room", data: { room: 7 } } }]);
  await relay.give("plain", null);
  reply = await relay.reply();
  assert.deepEqual([reply.err, reply.ext], ["too far", { error: { class: "RangeError", message: "too far" } }]);
  await relay.give("unsayable", null);
  assert.match((await relay.reply()).err, /BigInt/);
  await relay.give("unsayableError", null);
  assert.equal((await relay.reply()).err, "no JSON");
});

test("input that is not JSON is the app's error", async (t) => {
  const { relay } = await serve(t, { echo: (input) => input });
  await relay.give("echo", null, { dat: "bm8ganNvbg==" });
  const reply = await relay.reply();
  assert.equal(reply.ext?.error?.class, "SyntaxError");
});

// One old client takes a reply without data for no reply.
test("a handler that returns nothing answers null", async (t) => {
  const { relay } = await serve(t, { silent: () => {} });
  await relay.give("silent", null);
  assert.equal((await relay.reply()).dat, Buffer.from("null").toString("base64"));
});

test("an app that wants to hear of it is told how far the work is", async (t) => {
  const { relay } = await serve(t, {
    render: (_, request) => {
      request.progress(10, 4, "frame 4");
      return "done";
    },
  });
  await relay.give("render", null, { ext: { id: "17", progress: "msgbus.system.reply" } });
  const said = [await relay.reply(), await relay.reply(), await relay.reply(), await relay.reply()];
  assert.deepEqual(said.map((m) => [m.ext, decodeData(m.dat), m.src, m.dst]), [
    [{ id: "17", status: "accepted", seq: 1 }, undefined, self, [1002]],
    [{ id: "17", status: "started", seq: 2 }, undefined, self, [1002]],
    [{ id: "17", status: "progress", seq: 3 }, { total: 10, completed: 4, details: "frame 4" }, self, [1002]],
    [{ id: "17" }, "done", self, [1002]],
  ]);
});

test("an app that does not want to is told nothing but the answer, and nothing after it", async (t) => {
  let request: Request | undefined;
  const { relay } = await serve(t, {
    render: (_, r) => {
      request = r;
      r.progress(10, 4);
    },
  });
  await relay.give("render", null, { ext: { id: "1" } });
  assert.equal((await relay.reply()).ext?.status, undefined);

  await relay.give("render", null, { ext: { id: "2", progress: "msgbus.system.reply" } });
  while ((await relay.reply()).ext?.status !== undefined);
  request?.progress(10, 10);
  await relay.give("render", null, { ext: { id: "3" } });
  assert.equal((await relay.reply()).ext?.id, "3");
});

test("a notification is carried out, and not answered", async (t) => {
  const { relay } = await serve(t, { log: () => "written", echo: (input) => input }, { workers: 1 });
  await relay.give("log", "line", { ret: "", ext: { oneway: true } });
  await relay.give("log", "line", { ext: { oneway: true } });
  await relay.give("log", "line");
  assert.deepEqual(decodeData((await relay.reply()).dat), "written");
  assert.equal(await relay.redis.lLen("msgbus.system.reply"), 0);
  assert.deepEqual(await takenLists(relay), []);
});

test("what is no request, or has expired, is removed and hurts no other", async (t) => {
  const errors: Error[] = [];
  let asked = 0;
  const { relay } = await serve(t, { echo: (input) => (asked++, input) }, { onError: (error) => errors.push(error), workers: 1 });
  await relay.redis.rPush("msgbus.echo", "no json");
  await relay.give("echo", "too late", { now: now_s() - 61, exp: 60 });
  await relay.give("echo", "in time");
  assert.equal(decodeData((await relay.reply()).dat), "in time");
  assert.deepEqual(await takenLists(relay), []);
  assert.equal(asked, 1);
  assert.match(errors.map(String).join(), /is no request/);
});

test("middleware stands around each handler, the first outermost", async (t) => {
  const order: string[] = [];
  const named = (name: string) => (next: Handlers[string]) => async (input: unknown, request: Request) => {
    order.push(`${name} in`);
    const output = await next(input, request);
    order.push(`${name} out`);
    return output;
  };
  const { relay } = await serve(t, { echo: (input) => (order.push("handler"), input) }, { middleware: [named("a"), named("b")] });
  await relay.give("echo", 1);
  await relay.reply();
  assert.deepEqual(order, ["a in", "b in", "handler", "b out", "a out"]);
});

// More at once than it has workers for would be kept from the other services.
test("no more is taken than there are workers for", async (t) => {
  const { open, passed } = gate();
  const running = new EventEmitter();
  const { relay } = await serve(t, {
    slow: async (input) => {
      running.emit("runs", input);
      await passed;
      return input;
    },
  }, { workers: 2 });
  const second = once(running, "runs").then(() => once(running, "runs"));
  for (const n of [1, 2, 3]) await relay.give("slow", n);
  await second;
  const [list] = await takenLists(relay);
  assert.ok(list);
  assert.equal(await relay.redis.lLen(list), 2);
  assert.equal(await relay.redis.lLen("msgbus.slow"), 1);
  open();
  const answers = [await relay.reply(), await relay.reply(), await relay.reply()];
  assert.deepEqual(answers.map((m) => decodeData(m.dat)).sort(), [1, 2, 3]);
});

test("a service says that it lives, and for what", async (t) => {
  const { relay, server } = await serve(t, { echo: (input) => input, add: () => 0 });
  const members = await relay.redis.zRangeWithScores("msgbus.system.consumers", 0, -1);
  const [consumer] = members[0]?.value.split(" ") ?? [];
  assert.ok(consumer);
  assert.match(consumer, /^[A-Za-z0-9_-]{1,64}$/);
  assert.deepEqual(members, [{ value: `${consumer} add`, score: 0 }, { value: `${consumer} echo`, score: 0 }]);
  const lease = `msgbus.system.consumer.${consumer}`;
  const about = JSON.parse((await relay.redis.get(lease)) ?? "null");
  assert.deepEqual([about.pid, typeof about.host, typeof about.since], [process.pid, "string", "number"]);
  const left_ms = await relay.redis.pTTL(lease);
  assert.ok(left_ms > 0 && left_ms <= 15_000, `${left_ms}`);

  await server.stop();
  assert.deepEqual(await relay.redis.keys("msgbus.system.consumer*"), []);
});

// Without it the relay would give its requests to others while it works on them.
test("a lease is renewed every five seconds", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { redis, relay } = await serve(t, { echo: (input) => input });
  const [lease] = await relay.redis.keys("msgbus.system.consumer.*");
  assert.ok(lease);
  const events = new EventEmitter();
  await (await redis.connect(t)).pSubscribe("__keyspace@0__:*", (event, channel) => events.emit("event", `${event} ${channel}`));
  const renewed = (async () => {
    for await (const [text] of on(events, "event")) if (text === `set __keyspace@0__:${lease}`) return;
  })();
  await relay.redis.del(lease);
  t.mock.timers.tick(5_000);
  await renewed;
  assert.ok((await relay.redis.pTTL(lease)) > 0);
});

test("who stops a service waits for what it has taken", async (t) => {
  const { open, passed } = gate();
  const runs = new EventEmitter();
  const { relay, server } = await serve(t, {
    slow: async () => {
      runs.emit("runs");
      await passed;
      return "done";
    },
  });
  const running = once(runs, "runs");
  await relay.give("slow", null);
  await running;
  const stopped = server.stop();
  open();
  await stopped;
  assert.equal(decodeData((await relay.reply()).dat), "done");
  await relay.give("slow", null);
  assert.equal(await relay.redis.lLen("msgbus.slow"), 1);
});

// What is not done when the time is over is another's to do, in the old order.
test("a service that is stopped gives back what it has not done", async (t) => {
  const signals: AbortSignal[] = [];
  const runs = new EventEmitter();
  const { relay, server } = await serve(t, {
    hangs: async (_, request) => {
      signals.push(request.signal);
      runs.emit("runs");
      await once(request.signal, "abort");
      return "too late";
    },
  }, { workers: 2 });
  const both = once(runs, "runs").then(() => once(runs, "runs"));
  const given: string[] = [];
  for (const n of [1, 2, 3]) given.push(await relay.give("hangs", n));
  await both;
  await server.stop({ grace: 0 });
  assert.deepEqual(await relay.redis.lRange("msgbus.hangs", 0, -1), given);
  assert.ok(signals.every((signal) => signal.aborted));
  assert.equal(await relay.redis.lLen("msgbus.system.reply"), 0);
  assert.deepEqual(await relay.redis.keys("msgbus.system.consumer*"), []);
});

test("a request's signal is aborted at its deadline, and what it answers then is dropped", async (t) => {
  const { open: aborted, passed } = gate();
  const { relay, server } = await serve(t, {
    hangs: async (_, request) => {
      await once(request.signal, "abort");
      aborted();
    },
  });
  await relay.give("hangs", null, { exp: 3 });
  await passed;
  await server.stop();
  assert.equal(await relay.redis.lLen("msgbus.system.reply"), 0);
  assert.equal(await relay.redis.lLen("msgbus.hangs"), 0);
});

// The answer is made, and only Redis is away: it must not be lost.
test("an answer outlives a Redis that goes away", async (t) => {
  const { open, passed } = gate();
  const runs = new EventEmitter();
  const lost = new EventEmitter();
  const { redis, relay } = await serve(t, {
    slow: async () => {
      runs.emit("runs");
      await passed;
      return "done";
    },
  }, { onError: (error) => lost.emit("lost", error) });
  const running = once(runs, "runs");
  await relay.give("slow", null);
  await running;
  const gone = once(lost, "lost");
  await redis.stop();
  await gone;
  open();
  await redis.start();
  assert.equal(decodeData((await relay.reply()).dat), "done");
  await relay.give("slow", null);
  assert.equal(decodeData((await relay.reply()).dat), "done");
  assert.deepEqual(await takenLists(relay), []);
});

// Redis had moved it when the connection broke. The lease would keep it there until
// this process ends.
test("a request that was taken and never arrived is found", async (t) => {
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  const core = await coreAt(redis.url);
  atEnd(t, () => core.commands.destroy());
  const consumer = new Consumer(core, ["echo"]);
  const taker = new Taker(core, consumer, new Cancellations(core), "echo", (input) => input, 1);
  atEnd(t, () => (taker.stop(), taker.run())); // which ends its connection
  await relay.give("echo", "stray");
  await relay.redis.lMove("msgbus.echo", consumer.taken("echo"), "LEFT", "RIGHT");

  await taker.adoptStrays(); // it may still be on its way
  assert.equal(await relay.redis.lLen(consumer.taken("echo")), 1);
  await taker.adoptStrays();
  assert.equal(decodeData((await relay.reply()).dat), "stray");
  await taker.finish();
});

test("a server needs a handler and a worker", async (t) => {
  const redis = await RedisServer.start(t);
  const bus = await Client.open({ redis: redis.url });
  atEnd(t, () => bus.close());
  assert.throws(() => bus.serve({}), TypeError);
  assert.throws(() => bus.serve({ echo: (input) => input }, { workers: 0 }), RangeError);
});

test("what goes out of scope is stopped and closed", async (t) => {
  const redis = await RedisServer.start(t);
  const relay = await Relay.play(t, redis);
  const bus = await Client.open({ redis: redis.url });
  const server: Server = bus.serve({ echo: (input) => input });
  await server.ready;
  await bus[Symbol.asyncDispose]();
  assert.deepEqual(await relay.redis.keys("msgbus.system.consumer*"), []);
  await server[Symbol.asyncDispose]();
});
