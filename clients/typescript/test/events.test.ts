import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";

import { BusError, Client, type ClientOptions, type HeardEvent, type Subscription } from "../src/index.js";
import { decodeData } from "../src/wire.js";
import { connections, eventually, leavesConnections } from "./eventually.js";
import { RedisServer } from "./redis.js";
import { eventOf, Relay } from "./relay.js";
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

const briefly = ({ topic, data, lost, latest }: HeardEvent) => [topic, data, lost, latest];

test("an event is a request of the contract", async (t) => {
  const { relay, bus } = await start(t);
  await bus.publish("task.finished.17", { ok: true });
  let message = await relay.published();
  assert.deepEqual([message.dst, message.ret, message.exp, message.ext], [[], "", 30, { topic: "task.finished.17", oneway: true }]);
  assert.deepEqual(decodeData(message.dat), { ok: true });

  await bus.publish("task/run.17", null, { durable: true, retain: true, tag: { job: 4 } });
  message = await relay.published();
  assert.deepEqual([message.exp, message.ext], [86_400, { tag: { job: 4 }, durable: true, retain: true, topic: "task/run.17", oneway: true }]);

  await assert.rejects(bus.publish("no topic"), RangeError);
});

// One machine that is off must not hide that all others have heard it.
test("who counts is told how many have heard an event, and which twin has not got it", async (t) => {
  const { relay, bus } = await start(t);
  const counted = bus.publishCounted("news", "x");
  const message = await relay.published();
  assert.deepEqual([message.dst, message.ext?.oneway], [[], undefined]);
  await relay.answer(message, 1001, { listeners: 2 }, { ext: { of: 4 } });
  await relay.answer(message, 1002, { listeners: 3 }, { ext: { of: 4 } });
  await relay.answer(message, 1003, undefined, { err: "nobody wants it", ext: { of: 4, error: { class: "msgbus.not_subscribed" } } });
  await relay.answer(message, 1004, undefined, { err: "request timeout", ext: { of: 4, error: { class: "msgbus.expired" } } });
  const { listeners, errors } = await counted;
  assert.equal(listeners, 5);
  assert.deepEqual(errors.map(({ twin, reason }) => [twin, reason]), [[1004, "expired"]]);
});

test("what is published from when a subscription is there is heard, in order", async (t) => {
  const { relay, bus } = await start(t);
  const events = await bus.subscribe<number>("task.finished.*");
  assert.equal(await relay.publish("task.finished.*", "task.finished.1", 1, { now: 1795767852, shm: "text", tag: { job: 4 } }), 1);
  await relay.publish("task.finished.*", "task.finished.2", 2);
  assert.deepEqual(await next(events), {
    topic: "task.finished.1", source: 1002, time: new Date(1795767852_000), data: 1, schema: "text", tag: { job: 4 }, lost: 0, latest: false,
  });
  const waits = next(events);
  assert.equal((await waits).data, 2);
  await assert.rejects(bus.subscribe("no pattern"), RangeError);
});

// Each would cost Redis a connection, of which it has ten thousand for all apps.
test("all subscriptions of a client are over one connection, which ends with the last", async (t) => {
  const { relay, bus } = await start(t);
  const before = await connections(relay.redis);
  const [one, two, same] = await Promise.all([bus.subscribe("one"), bus.subscribe("two"), bus.subscribe("one")]);
  assert.equal(await connections(relay.redis), before + 1);
  assert.equal(await relay.publish("one", "one", 1), 1);
  assert.deepEqual([(await next(one)).data, (await next(same)).data], [1, 1]);

  await same.close();
  assert.equal(await relay.publish("one", "one", 2), 1);
  assert.equal((await next(one)).data, 2);
  await one.close();
  await eventually(async () => assert.equal(await relay.publish("one", "one", 3), 0));
  await relay.publish("two", "two", 4);
  assert.equal((await next(two)).data, 4);
  await two.close();
  await leavesConnections(relay.redis, before);

  const again = await bus.subscribe("one");
  await relay.publish("one", "one", 5);
  assert.equal((await next(again)).data, 5);
});

test("who leaves the loop, aborts it or closes the client leaves no connection", async (t) => {
  const { server, relay, bus } = await start(t);
  const before = await connections(relay.redis);

  const left = await bus.subscribe("left");
  await relay.publish("left", "left", 1);
  for await (const event of left) {
    assert.equal(event.data, 1);
    break;
  }
  await leavesConnections(relay.redis, before);

  const why = new Error("the page is closed");
  const aborter = new AbortController();
  const aborted = next(await bus.subscribe("aborted", { signal: aborter.signal }));
  aborter.abort(why);
  await assert.rejects(aborted, why);
  await leavesConnections(relay.redis, before);
  await assert.rejects(bus.subscribe("aborted", { signal: aborter.signal }), why);

  const other = await Client.open({ redis: server.url });
  const ended = (await other.subscribe("closed")).next();
  await other.close();
  assert.deepEqual(await ended, { done: true, value: undefined });
  await leavesConnections(relay.redis, before);
  await assert.rejects(other.subscribe("closed"), { reason: "closed" });
});

// It would fill the memory of an app that is slow.
test("of too many events the oldest are dropped, and the next one tells", async (t) => {
  const { relay, bus } = await start(t);
  const events = await bus.subscribe<number>("news", { buffer: 2 });
  const witness = await bus.subscribe<number>("news");
  for (const n of [1, 2, 3, 4, 5]) await relay.publish("news", "news", n);
  while ((await next(witness)).data !== 5);
  assert.deepEqual([briefly(await next(events)), briefly(await next(events))], [["news", 4, 3, false], ["news", 5, 0, false]]);
  await assert.rejects(bus.subscribe("news", { buffer: 0 }), RangeError);
});

test("after Redis was away events are heard again, and the first tells that some may be missing", async (t) => {
  const lost = new EventEmitter();
  const { server, bus } = await start(t, { onError: (error) => lost.emit("lost", error) });
  const events = await bus.subscribe("news");
  const gone = once(lost, "lost");
  await server.stop();
  await gone;
  await assert.rejects(bus.subscribe("other"), { reason: "storage_failed" });
  await server.start();
  const redis = await server.connect(t);
  await eventually(async () => assert.equal(await redis.publish("msgbus.events.news", eventOf("news", "back")), 1));
  assert.deepEqual(briefly(await next(events)), ["news", "back", -1, false]);
  await redis.publish("msgbus.events.news", eventOf("news", "more"));
  assert.deepEqual(briefly(await next(events)), ["news", "more", 0, false]);
});

test("what is no event is told, and the next one heard", async (t) => {
  const errors: Error[] = [];
  const { relay, bus } = await start(t, { onError: (error) => errors.push(error) });
  const events = await bus.subscribe("news");
  await relay.redis.publish("msgbus.events.news", "no json");
  await relay.publish("news", "news", null, { dat: "bm8ganNvbg==" });
  await relay.publish("news", "news", "good");
  assert.equal((await next(events)).data, "good");
  assert.deepEqual(errors.map((error) => error instanceof BusError && error.reason), ["malformed", "malformed"]);
});

test("who asks for it gets the latest of each topic first", async (t) => {
  const { relay, bus } = await start(t);
  await relay.redis.hSet("msgbus.system.retained", {
    "1002 light.kitchen": eventOf("light.kitchen", "on"),
    "1002 light.hall": eventOf("light.hall", "off"),
    "1002 heat.hall": eventOf("heat.hall", 21),
    "1003 light.odd": "no json",
  });
  const events = await bus.subscribe<string>("light.*", { retained: true });
  await relay.publish("light.*", "light.kitchen", "off");
  const first = [briefly(await next(events)), briefly(await next(events))].sort();
  assert.deepEqual(first, [["light.hall", "off", 0, true], ["light.kitchen", "on", 0, true]]);
  assert.deepEqual(briefly(await next(events)), ["light.kitchen", "off", 0, false]);

  const none = await bus.subscribe("light.*");
  await relay.publish("light.*", "light.hall", "on");
  assert.deepEqual(briefly(await next(none)), ["light.hall", "on", 0, false]);
});

/** Subscribes to twins; the test answers for them. */
async function wish(t: TestContext, within?: number, options: ClientOptions = {}) {
  const { relay, bus } = await start(t, options);
  const aborter = new AbortController();
  const subscribed = bus.subscribe("news.#", { from: [1002, 1003], signal: aborter.signal, ...(within === undefined ? {} : { within }) });
  subscribed.catch(() => {});
  const { message } = await relay.request();
  return { relay, bus, subscribed, message, aborter };
}

const wanted = (relay: Relay) => relay.redis.zRange("msgbus.system.subscriptions", 0, -1);
const leases = (relay: Relay) => relay.redis.keys("msgbus.system.consumer.*");

async function heardBy(relay: Relay, events: Subscription, data: unknown): Promise<void> {
  await relay.publish("news.#", "news.x", data);
  assert.equal((await next(events)).data, data);
}

test("events of other twins are asked for, and while somebody hears them the relay asks again", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { relay, subscribed, message } = await wish(t);
  assert.deepEqual([message.cmd, message.dst, decodeData(message.dat)], ["msgbus.subscribe", [1002, 1003], { patterns: ["news.#"], lease: 60 }]);
  const [lease] = await leases(relay);
  assert.ok(lease);
  const name = lease.slice("msgbus.system.consumer.".length);
  assert.deepEqual(await wanted(relay), [`${name} 1002 news.#`, `${name} 1003 news.#`]);
  const left_ms = await relay.redis.pTTL(lease);
  assert.ok(left_ms > 0 && left_ms <= 15_000, `${left_ms}`);

  await relay.answer(message, 1002, {});
  await relay.answer(message, 1003, {});
  const events = await subscribed;
  await heardBy(relay, events, "x");

  await relay.redis.del(lease);
  t.mock.timers.tick(5_000);
  await eventually(async () => assert.equal(await relay.redis.exists(lease), 1));

  await events.close();
  assert.deepEqual([await wanted(relay), await leases(relay)], [[], []]);
});

test("a twin that refuses its events is an error, and nothing is left behind", async (t) => {
  const { relay, subscribed, message } = await wish(t, 60_000);
  const before = (await connections(relay.redis)) - 1;
  await relay.answer(message, 1003, undefined, { err: "no", ext: { error: { class: "msgbus.not_exposed" } } });
  await assert.rejects(subscribed, { twin: 1003, reason: "not_exposed" });
  await leavesConnections(relay.redis, before);
  assert.deepEqual([await wanted(relay), await leases(relay)], [[], []]);
});

// One machine of many is down, and no app of the others can listen to anything.
test("a subscription does not wait for twins that are away", async (t) => {
  const away: [string, (relay: Relay, message: Parameters<Relay["answer"]>[0]) => Promise<void>][] = [
    ["it does not answer", async () => {}],
    ["it cannot be joined", (relay, message) => relay.answer(message, 1003, undefined, { err: "away", ext: { error: { class: "msgbus.retries_exhausted" } } })],
    ["the request has died", (relay, message) => relay.answer(message, 1003, undefined, { err: "away", ext: { error: { class: "msgbus.expired" } } })],
  ];
  for (const [name, answer] of away) {
    await t.test(name, async (t) => {
      const errors: Error[] = [];
      const { relay, subscribed, message } = await wish(t, 500, { onError: (error) => errors.push(error) });
      await relay.answer(message, 1002, {});
      await answer(relay, message);
      const events = await subscribed;
      assert.match(errors.map(String).join(), /twin 1003 is away: its events come when it is there again/);
      assert.ok((await wanted(relay)).some((each) => each.endsWith(" 1003 news.#"))); // or the relay never asks it again
      await heardBy(relay, events, "x");
    });
  }
});

test("who gives up while twins are asked leaves nothing behind", async (t) => {
  const { relay, subscribed, aborter } = await wish(t);
  const before = (await connections(relay.redis)) - 1;
  aborter.abort();
  await assert.rejects(subscribed, { name: "AbortError" });
  await eventually(async () => assert.deepEqual([await wanted(relay), await leases(relay)], [[], []]));
  await leavesConnections(relay.redis, before);
});
