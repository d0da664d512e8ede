import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";

import { Client, type ClientOptions } from "../src/index.js";
import { decodeData } from "../src/wire.js";
import { eventually } from "./eventually.js";
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

/** The next event, as topic and data. */
async function told(relay: Relay): Promise<[topic: unknown, data: unknown]> {
  const { message } = await relay.request();
  assert.equal(message.cmd, "msgbus.event");
  return [message.ext?.topic, decodeData(message.dat)];
}

const key = "msgbus.system.presence.runner.7";

test("who has a name is known, and told when it comes and when it goes", async (t) => {
  const { relay, bus } = await start(t);
  assert.equal(await bus.present("runner.7"), undefined);
  const presence = await bus.announce("runner.7", { cores: 8 });
  assert.deepEqual(await told(relay), ["msgbus/presence.up.runner.7", { cores: 8 }]);
  assert.deepEqual(await bus.present("runner.7"), { info: { cores: 8 } });
  assert.deepEqual(await relay.redis.zRangeWithScores("msgbus.system.presence", 0, -1), [{ value: "runner.7", score: 0 }]);
  const left_ms = await relay.redis.pTTL(key);
  assert.ok(left_ms > 0 && left_ms <= 15_000, `${left_ms}`);

  await presence.close();
  assert.deepEqual(await told(relay), ["msgbus/presence.down.runner.7", { cores: 8 }]);
  assert.equal(await bus.present("runner.7"), undefined);
  assert.equal(await relay.redis.exists("msgbus.system.presence"), 0);
  assert.equal(presence.lost.aborted, false);
  await assert.rejects(bus.announce("no name"), RangeError);
});

// Two of a kind would both think that they are the one.
test("the newer one has the name, and the older one learns it", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { server, relay, bus } = await start(t);
  const older = await bus.announce("runner.7", "older");
  await told(relay);
  const other = await Client.open({ redis: server.url });
  atEnd(t, () => other.close());
  await other.announce("runner.7", "newer");
  assert.deepEqual(await told(relay), ["msgbus/presence.replaced.runner.7", "newer"]);
  assert.deepEqual(await bus.present("runner.7"), { info: "newer" });

  const lost = once(older.lost, "abort");
  t.mock.timers.tick(5_000);
  await lost;
  await older.close();
  assert.deepEqual(await bus.present("runner.7"), { info: "newer" });
  assert.equal(await relay.redis.lLen("msgbus.system.local"), 0);
});

test("a name is kept up, and taken again when nobody has it any more", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { relay, bus } = await start(t);
  await bus.announce("runner.7");
  assert.deepEqual(await told(relay), ["msgbus/presence.up.runner.7", undefined]);
  await relay.redis.pExpire(key, 10_000);
  t.mock.timers.tick(5_000);
  await eventually(async () => assert.ok((await relay.redis.pTTL(key)) > 10_000));

  await relay.redis.del(key);
  await relay.redis.del("msgbus.system.presence");
  t.mock.timers.tick(5_000);
  assert.deepEqual(await told(relay), ["msgbus/presence.up.runner.7", undefined]);
  assert.deepEqual(await relay.redis.zRange("msgbus.system.presence", 0, -1), ["runner.7"]);
});

test("a name is there again as soon as Redis is", async (t) => {
  const lost = new EventEmitter();
  const { server, relay, bus } = await start(t, { onError: (error) => lost.emit("lost", error) });
  await bus.announce("runner.7");
  await relay.redis.del(key);
  const gone = once(lost, "lost");
  await server.stop();
  await gone;
  await assert.rejects(bus.present("runner.7"), { reason: "storage_failed" });
  await assert.rejects(bus.announce("runner.8"), { reason: "storage_failed" });
  await server.start();
  await eventually(async () => assert.deepEqual(await bus.present("runner.7"), { info: undefined }));
});

test("who closes the client gives up its names", async (t) => {
  const { relay, bus } = await start(t);
  await bus.announce("runner.7");
  await told(relay);
  await bus.close();
  assert.deepEqual(await told(relay), ["msgbus/presence.down.runner.7", undefined]);
  assert.equal(await relay.redis.exists(key), 0);
  await assert.rejects(bus.announce("runner.7"), { reason: "closed" });
});

test("a service tells when it comes and when it goes, and what no topic can name is left out", async (t) => {
  const { relay, bus } = await start(t);
  const server = bus.serve({ render: () => {}, "no topic": () => {} });
  await server.ready;
  const [lease] = await relay.redis.keys("msgbus.system.consumer.*");
  const consumer = lease?.slice("msgbus.system.consumer.".length);
  assert.deepEqual(await told(relay), ["msgbus/service.up.render", { consumer }]);
  await server.stop();
  assert.deepEqual(await told(relay), ["msgbus/service.down.render", { consumer }]);
});

// The relay has said that it went: who listens would ask another one for ever.
test("a service that was taken for gone tells that it is there", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { relay, bus } = await start(t);
  await bus.serve({ render: () => {} }).ready;
  const up = await told(relay);
  t.mock.timers.tick(5_000); // which tells nothing
  const [lease] = await relay.redis.keys("msgbus.system.consumer.*");
  assert.ok(lease);
  await relay.redis.del(lease);
  t.mock.timers.tick(5_000);
  assert.deepEqual(await told(relay), up);
  assert.equal(await relay.redis.lLen("msgbus.system.local"), 0);
});
