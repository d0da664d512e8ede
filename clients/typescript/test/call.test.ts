import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";

import { BusError, Client, type Answer, type ClientOptions, type Interim } from "../src/index.js";
import { decodeData, encodeData } from "../src/wire.js";
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

const reasonOf = (reason: string) => (error: unknown) => {
  assert.ok(error instanceof BusError, String(error));
  assert.equal(error.reason, reason, error.message);
  return true;
};

test("a call is a request of the contract, and its answer is what it returns", async (t) => {
  const { relay, bus } = await start(t);
  const sum = bus.call<number>(1002, "calculator.add", [20, 22], { expire: 2500, retries: 7, tag: { job: 4 }, mandatory: true });
  const { message } = await relay.request();

  const { now, ret, ext, ...rest } = message;
  assert.deepEqual(rest, { ver: 1, uid: "", cmd: "calculator.add", exp: 3, try: 7, dat: encodeData([20, 22]), src: 0, dst: [1002], shm: "application/json", err: "" });
  assert.ok(Math.abs(now - Date.now() / 1000) < 10);
  assert.ok(ext?.id && ext.id.length <= 64);
  assert.deepEqual(ext, { id: ext.id, tag: { job: 4 }, mandatory: true });
  assert.ok(!ret.startsWith("msgbus."));

  await relay.answer(message, 1002, 42);
  assert.equal(await sum, 42);
});

// Answers overtake each other. Told by their order they would go to the wrong callers.
test("calls that wait at the same time get the answers that are theirs", async (t) => {
  const { relay, bus } = await start(t);
  const first = bus.call(1002, "echo", "first");
  const { message: one } = await relay.request();
  const second = bus.call(1002, "echo", "second");
  const { message: two } = await relay.request();
  assert.equal(one.ret, two.ret);

  await relay.answer(two, 1002, "of the second");
  assert.equal(await second, "of the second");
  await relay.answer(one, 1002, "of the first");
  assert.equal(await first, "of the first");
});

test("of several twins each has one answer, as it comes, and an error is one", async (t) => {
  const { relay, bus } = await start(t);
  const answers: Answer[] = [];
  const all = (async () => {
    for await (const answer of bus.callAll([1002, 1003, 1004, 1003], "echo")) answers.push(answer);
  })();
  const { message } = await relay.request();
  assert.deepEqual(message.dst, [1002, 1003, 1004]);

  await relay.answer(message, 1004, "four");
  await relay.answer(message, 1004, "four again");
  await relay.answer(message, 1009, "nobody asked me");
  await relay.answer(message, 1002, undefined, { err: "destination not found", ext: { error: { class: "msgbus.twin_not_found", message: "destination not found" } } });
  await relay.answer(message, 1003, "three");
  await all;

  assert.deepEqual(answers.map(({ twin, ok }) => [twin, ok]), [[1004, true], [1002, false], [1003, true]]);
  const failed = answers[1];
  assert.ok(failed && !failed.ok);
  assert.deepEqual([failed.error.twin, failed.error.reason, failed.error.message], [1002, "twin_not_found", "destination not found"]);
});

// The relay answers once for all of them, and with its own twin as the source.
test("a request that is refused as a whole fails for each twin", async (t) => {
  const { relay, bus } = await start(t);
  const all = collect(bus.callAll([1001, 1002], "system.local"));
  const { message } = await relay.request();
  await relay.answer(message, 1001, undefined, { uid: "", err: "received invalid message", ext: { error: { class: "msgbus.reserved_name" } } });
  assert.deepEqual((await all).map((a) => [a.twin, a.ok || a.error.reason]), [[1001, "reserved_name"], [1002, "reserved_name"]]);
});

async function collect<T>(all: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const each of all) list.push(each);
  return list;
}

// Only the relay knows who they are, and says with each answer how many.
test("of a group all answer, each once, whatever they say before", async (t) => {
  const { relay, bus } = await start(t);
  const heard: [twin: number, status: string][] = [];
  const all = collect(bus.callGroup("rack-7", "echo", "x", { onProgress: ({ twin, status }) => heard.push([twin, status]) }));
  const { message } = await relay.request();
  assert.deepEqual([message.dst, message.ext?.group], [[], "rack-7"]);
  await relay.answer(message, 1003, undefined, { ext: { status: "started", seq: 1, of: 3 } });
  await relay.answer(message, 1003, "three", { ext: { of: 3 } });
  await relay.answer(message, 1003, "three again", { ext: { of: 3 } });
  await relay.answer(message, 1003, undefined, { ext: { status: "late", seq: 2, of: 3 } });
  await relay.answer(message, 1002, undefined, { err: "away", ext: { of: 3, error: { class: "msgbus.expired" } } });
  await relay.answer(message, 1004, "four", { ext: { of: 3 } });
  assert.deepEqual((await all).map((answer) => [answer.twin, answer.ok ? answer.data : answer.error.reason]), [[1003, "three"], [1002, "expired"], [1004, "four"]]);
  assert.deepEqual(heard, [[1003, "started"]]);
});

test("a group that cannot be asked, or is silent, is one error", async (t) => {
  const { relay, bus } = await start(t);
  const refused = collect(bus.callGroup("nobody", "echo"));
  await relay.answer((await relay.request()).message, 1001, undefined, { uid: "", err: "no destination", ext: { error: { class: "msgbus.missing_destination" } } });
  assert.deepEqual((await refused).map((answer) => [answer.twin, answer.ok || answer.error.reason]), [[0, "missing_destination"]]);

  t.mock.timers.enable({ apis: ["setTimeout"] });
  const silent = collect(bus.callGroup("rack-7", "echo", null, { expire: 30_000 }));
  await relay.answer((await relay.request()).message, 1002, "two", { ext: { of: 3 } });
  t.mock.timers.tick(41_000);
  assert.deepEqual((await silent).at(-1)?.twin, 0);
});

test("nobody is asked where there is no twin, and what is no twin is refused", async (t) => {
  const { relay, bus } = await start(t);
  assert.deepEqual(await collect(bus.callAll([], "echo")), []);
  await bus.notify([], "echo");
  await assert.rejects(bus.call(-1, "echo"), RangeError);
  await assert.rejects(bus.call(1002, "echo", null, { tag: "x".repeat(4097) }), RangeError);
  assert.equal(await relay.redis.lLen("msgbus.system.local"), 0);
});

test("an error of the service is what the call throws", async (t) => {
  const { relay, bus } = await start(t);
  const call = bus.call(1002, "rooms.book", 7);
  const failed = assert.rejects(call, { name: "BusError", twin: 1002, code: 42, errorClass: "NotFound", message: "no such room", data: { room: 7 }, reason: "" });
  const { message } = await relay.request();
  await relay.answer(message, 1002, undefined, { err: "no such room", ext: { error: { code: 42, class: "NotFound", message: "no such room", data: { room: 7 } } } });
  await failed;
});

test("an answer that is not JSON is an error", async (t) => {
  const { relay, bus } = await start(t);
  const failed = assert.rejects(bus.call(1002, "echo"), reasonOf("malformed"));
  const { message } = await relay.request();
  await relay.answer(message, 1002, undefined, { dat: "bm8ganNvbg==" });
  await failed;
});

test("what a service says before its answer comes in order", async (t) => {
  const { relay, bus } = await start(t);
  const heard: Interim[] = [];
  const done = bus.call(1002, "render", null, { onProgress: (interim) => heard.push(interim) });
  const { message } = await relay.request();
  assert.equal(message.ext?.progress, message.ret);

  await relay.answer(message, 1002, undefined, { ext: { status: "accepted", seq: 1 } });
  await relay.answer(message, 1002, { total: 10, completed: 4, details: "frame 4" }, { ext: { status: "progress", seq: 2 } });
  await relay.answer(message, 1002, undefined, { dat: "bm8ganNvbg==", ext: { status: "resting", seq: 3 } });
  await relay.answer(message, 1002, "done");
  assert.equal(await done, "done");
  assert.deepEqual(heard, [
    { twin: 1002, status: "accepted", seq: 1, data: undefined },
    { twin: 1002, status: "progress", seq: 2, data: { total: 10, completed: 4, details: "frame 4" }, total: 10, completed: 4, details: "frame 4" },
    { twin: 1002, status: "resting", seq: 3, data: undefined },
  ]);
});

test("what a service says twice is heard once, and again when another one does the work", async (t) => {
  const { relay, bus } = await start(t);
  const heard: number[] = [];
  const done = bus.call(1002, "render", null, { onProgress: ({ seq }) => heard.push(seq) });
  const { message } = await relay.request();
  for (const seq of [1, 1, 2, 2, 3, 1, 2]) await relay.answer(message, 1002, undefined, { ext: { status: "resting", seq } });
  await relay.answer(message, 1002, "done");
  await done;
  assert.deepEqual(heard, [1, 2, 3, 1, 2]);
});

test("an app that throws while it is told of progress gets its answer", async (t) => {
  const errors: Error[] = [];
  const { relay, bus } = await start(t, { onError: (error) => errors.push(error) });
  const done = bus.call(1002, "render", null, { onProgress: () => { throw new Error("in the app"); } });
  const { message } = await relay.request();
  await relay.answer(message, 1002, undefined, { ext: { status: "started", seq: 1 } });
  await relay.answer(message, 1002, "done");
  assert.equal(await done, "done");
  assert.deepEqual(errors.map(String), ["Error: in the app"]);
});

// A list that anybody may write to must not end the reader: all calls would hang.
test("what is no reply is told, and hurts no call", async (t) => {
  const errors: Error[] = [];
  const { relay, bus } = await start(t, { onError: (error) => errors.push(error) });
  const done = bus.call(1002, "echo");
  const { message } = await relay.request();
  await relay.redis.rPush(message.ret, "no json");
  await relay.answer({ ...message, ext: { id: "of nobody" } }, 1002, "late");
  await relay.answer(message, 1002, "mine");
  assert.equal(await done, "mine");
  assert.equal(errors.length, 1);
  assert.match(String(errors[0]), /is no reply/);
});

test("a call ends with its signal's reason", async (t) => {
  const { relay, bus } = await start(t);
  const why = new Error("the user left");
  const already = AbortSignal.abort(why);
  await assert.rejects(bus.call(1002, "echo", null, { signal: already }), why);

  const aborter = new AbortController();
  const left = assert.rejects(bus.call(1002, "echo", null, { signal: aborter.signal }), why);
  const { message } = await relay.request();
  aborter.abort(why);
  await left;
  await relay.answer(message, 1002, "late"); // and is nobody's
});

// A page that is closed would wait for a Redis that stands still.
test("a signal ends a call also while Redis does not take it", async (t) => {
  const { server, relay, bus } = await start(t);
  const other = await server.connect(t);
  await other.sendCommand(["CLIENT", "PAUSE", "60000", "WRITE"]);
  const why = new Error("the user left");
  const aborter = new AbortController();
  const left = assert.rejects(bus.call(1002, "echo", null, { signal: aborter.signal }), why);
  aborter.abort(why);
  await left;
  await other.sendCommand(["CLIENT", "UNPAUSE"]);
  await relay.request();
});

// Without it an app that asks a Redis where no relay runs would hang for ever.
test("a call to which nothing comes ends ten seconds after its deadline", async (t) => {
  const { relay, bus } = await start(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hangs = bus.call(1002, "echo", null, { expire: 30_000 });
  await relay.request();
  t.mock.timers.tick(39_000);
  assert.equal(await Promise.race([hangs.catch(() => "ended"), Promise.resolve("waits")]), "waits");
  t.mock.timers.tick(2_000);
  await assert.rejects(hangs, reasonOf("no_answer"));
});

test("a notification wants nothing back", async (t) => {
  const { relay, bus } = await start(t);
  await bus.notify([1002, 1003], "log.line", { level: 3 }, { tag: "t" });
  const { message } = await relay.request();
  assert.deepEqual([message.dst, message.ret, message.exp, message.try, message.ext], [[1002, 1003], "", 3600, 1000, { tag: "t", oneway: true }]);
  assert.deepEqual(decodeData(message.dat), { level: 3 });
});

test("keys begin with the prefix", async (t) => {
  const { relay, bus } = await start(t, { prefix: "other" });
  const done = bus.call(1002, "echo");
  const popped = await relay.redis.blPop("other.system.local", 20);
  const message = JSON.parse(popped?.element ?? "null");
  assert.ok(message.ret.startsWith("other-app."));
  await relay.answer(message, 1002, "answer");
  assert.equal(await done, "answer");
});

test("who closes the client ends what waits, and it asks nothing more", async (t) => {
  const { relay, bus } = await start(t);
  const waits = bus.call(1002, "echo");
  const ended = assert.rejects(waits, reasonOf("closed"));
  await relay.request();
  await bus.close();
  await ended;
  await assert.rejects(bus.call(1002, "echo"), reasonOf("closed"));
  assert.throws(() => bus.serve({ echo: (input) => input }), reasonOf("closed"));
});

test("a Redis that is away is told at once, without its password", async (t) => {
  const server = await RedisServer.start(t);
  await server.stop();
  await assert.rejects(Client.open({ redis: `redis://me:secret@127.0.0.1:${server.port}` }), (error) => {
    assert.match(String(error), /Redis at 127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
    return reasonOf("storage_failed")(error);
  });
});

// An app that waits an hour for a long job must not lose it over a restart of Redis.
test("while Redis is away new calls fail and those that wait go on", async (t) => {
  const lost = new EventEmitter();
  const { server, relay, bus } = await start(t, { onError: (error) => lost.emit("lost", error) });
  const waits = bus.call(1002, "echo");
  const { message } = await relay.request();

  const gone = once(lost, "lost");
  await server.stop();
  await gone;
  await assert.rejects(bus.call(1002, "echo"), (error) => {
    assert.match(String(error), /Redis at 127\.0\.0\.1:\d+ (is away: the request was not sent|went away)/);
    return reasonOf("storage_failed")(error);
  });

  await server.start();
  await relay.answer(message, 1002, "after all");
  assert.equal(await waits, "after all");
});

test("a Redis that refuses the request is told with its words", async (t) => {
  const { relay, bus } = await start(t);
  await relay.redis.set("msgbus.system.local", "no list");
  await assert.rejects(bus.call(1002, "echo"), (error) => {
    assert.match(String(error), /does not take the request: WRONGTYPE/);
    return reasonOf("storage_failed")(error);
  });
});
