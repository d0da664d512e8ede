// Events, presence, groups and cancelling between two twins: nothing here is played.
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { fileURLToPath } from "node:url";
import { after, before, suite, test, type TestContext } from "node:test";

import { Client, type Answer, type BusEvent } from "../src/index.js";
import { eventually } from "./eventually.js";
import { startFleet, type Fleet, type Site } from "./fleet.js";
import { Process } from "./process.js";
import { atEnd } from "./scope.js";

suite("events between two relays", () => {
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

  async function next<T>(events: AsyncIterator<T>): Promise<T> {
    const { done, value } = await events.next();
    assert.ok(!done, "it has ended");
    return value;
  }

  /** The next event of a topic. */
  async function named<E extends BusEvent>(events: AsyncIterator<E>, topic: string): Promise<E> {
    for (;;) {
      const event = await next(events);
      if (event.topic === topic) return event;
    }
  }

  test("an event is heard on its own machine and at the twin that wants it, and counted", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    const own = await there.subscribe("weather.*");
    const others = await here.subscribe("weather.*", { from: [fleet.b.twin] });
    assert.deepEqual(await there.publishCounted("weather.rain", { mm: 4 }, { tag: "t" }), { listeners: 2, errors: [] });
    for (const events of [own, others]) {
      const { topic, data, source, tag } = await next(events);
      assert.deepEqual([topic, data, source, tag], ["weather.rain", { mm: 4 }, fleet.b.twin, "t"]);
    }
    assert.deepEqual(await there.publishCounted("nobody.listens"), { listeners: 0, errors: [] });
  });

  test("who comes later gets the latest of each topic, of another twin, too", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    await there.publishCounted("light.hall", "off", { retain: true });
    await there.publishCounted("light.hall", "on", { retain: true });
    const own = await next(await there.subscribe("light.*", { retained: true }));
    assert.deepEqual([own.topic, own.data, own.latest], ["light.hall", "on", true]);
    const other = await next(await here.subscribe("light.*", { from: [fleet.b.twin], retained: true }));
    assert.deepEqual([other.topic, other.data], ["light.hall", "on"]);
  });

  // It is there for that: an app that is restarted must not miss what happens meanwhile.
  test("a durable event comes, though the relay of its reader was restarted meanwhile", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    const first = await here.stream<number>("jobs", { from: [fleet.b.twin] });
    await there.publish("jobs/do.1", 1, { durable: true });
    const { id, data } = await next(first);
    assert.equal(data, 1);
    await first.close();

    await fleet.a.relay.stop();
    await there.publish("jobs/do.2", 2, { durable: true });
    await fleet.a.relay.start();
    const again = await here.stream<number>("jobs", { from: [fleet.b.twin], after: id });
    assert.equal((await next(again)).data, 2);
  });

  test("a subscription goes on when relays are restarted", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    const events = await here.subscribe("restart.*", { from: [fleet.b.twin] });
    for (const { relay } of [fleet.a, fleet.b]) {
      await relay.stop();
      await relay.start();
    }
    await there.publish("restart.done", "x");
    assert.equal((await next(events)).data, "x");
  });

  test("workers of a group share the work, and what one has finished comes to no other", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    const options = { after: "0", group: "bakers" };
    const one = await here.stream<number>("cakes", { ...options, worker: "one", from: [fleet.b.twin] });
    const two = await here.stream<number>("cakes", { ...options, worker: "two" });
    for (const n of [1, 2]) await there.publish("cakes/bake", n, { durable: true });
    const first = await next(one);
    const second = await next(two);
    assert.deepEqual([first.data, second.data].sort(), [1, 2]);
    await one.ack(first);
    await two.ack(second);
    await there.publish("cakes/bake", 3, { durable: true });
    assert.equal((await next(two)).data, 3);
  });

  // It takes a lease, 15 s, and until the relay looks.
  test("a subscriber that is killed costs the others nothing, and is told to be gone", async (t) => {
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    const gone = await here.subscribe("msgbus/#");
    const events = await here.subscribe("news.#", { from: [fleet.b.twin] });
    const doomed = new Process("subscriber", process.execPath, [fileURLToPath(new URL("subscribing.js", import.meta.url)), fleet.a.redis.url, `${fleet.b.twin}`]);
    atEnd(t, () => doomed.stop("SIGKILL"));
    await doomed.says("it listens");
    assert.deepEqual([(await named(gone, "msgbus/presence.up.doomed")).data, await here.present("doomed")], ["about me", { info: "about me" }]);
    await named(gone, "msgbus/service.up.doomed.echo");
    assert.equal((await there.publishCounted("news.1", 1)).listeners, 2);
    assert.equal((await next(events)).data, 1);
    await doomed.says("it heard news.1");

    await doomed.stop("SIGKILL");
    await eventually(async () => assert.equal((await there.publishCounted("news.2", 2)).listeners, 1));
    assert.equal((await named(events, "news.2")).data, 2);
    const ends = new Set<string>();
    while (ends.size < 2) {
      const { topic } = await next(gone);
      if (topic === "msgbus/presence.down.doomed" || topic === "msgbus/service.down.doomed.echo") ends.add(topic);
    }
    assert.equal(await here.present("doomed"), undefined);
    const redis = await fleet.a.redis.connect(t);
    await eventually(async () => assert.equal((await redis.zRange("msgbus.system.subscriptions", 0, -1)).filter((each) => each.endsWith(" news.#")).length, 1));
  });

  test("a twin that is away is not waited for", async (t) => {
    const errors: Error[] = [];
    const here = await Client.open({ redis: fleet.a.redis.url, onError: (error) => errors.push(error) });
    atEnd(t, () => here.close());
    const events = await here.subscribe("away.*", { from: [fleet.gone, fleet.b.twin], within: 2_000 });
    await (await open(t, fleet.b)).publish("away.not", "x");
    assert.equal((await next(events)).data, "x");
    assert.match(errors.map(String).join(), new RegExp(`twin ${fleet.gone} is away`));
  });

  test("the newer of two has the name", async (t) => {
    const here = await open(t, fleet.a);
    const events = await here.subscribe("msgbus/presence.#");
    const older = await here.announce("runner.7", "older");
    await (await open(t, fleet.a)).announce("runner.7", "newer");
    assert.equal((await named(events, "msgbus/presence.replaced.runner.7")).data, "newer");
    await once(older.lost, "abort");
  });

  test("a group is asked, each twin of it once, and what they say meanwhile is heard", async (t) => {
    const redis = await fleet.a.redis.connect(t);
    await redis.sAdd("msgbus.system.group.rack-7", [`${fleet.a.twin}`, `${fleet.b.twin}`]);
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    await Promise.all([here.serve({ "rack.who": () => "a" }).ready, there.serve({ "rack.who": () => "b" }).ready]);
    const answers: Answer[] = [];
    const started: number[] = [];
    const onProgress = ({ twin, status }: { twin: number; status: string }) => void (status === "started" && started.push(twin));
    for await (const answer of here.callGroup("rack-7", "rack.who", null, { onProgress })) answers.push(answer);
    answers.sort((a, b) => a.twin - b.twin);
    assert.deepEqual(answers, [{ twin: fleet.a.twin, ok: true, data: "a" }, { twin: fleet.b.twin, ok: true, data: "b" }]);
    assert.deepEqual(started.sort(), [fleet.a.twin, fleet.b.twin]);

    const none: Answer[] = [];
    for await (const answer of here.callGroup("nobody", "rack.who")) none.push(answer);
    assert.deepEqual(none.map((answer) => [answer.twin, answer.ok || answer.error.reason]), [[0, "missing_destination"]]);
  });

  test("an app cancels what it has asked of another twin", async (t) => {
    const runs = new EventEmitter();
    const [here, there] = [await open(t, fleet.a), await open(t, fleet.b)];
    await there.serve({
      "long.job": async (_, request) => {
        const aborted = once(request.signal, "abort");
        runs.emit(request.id);
        await aborted;
        throw request.signal.reason;
      },
    }).ready;
    const run = Promise.all([once(runs, "1"), once(runs, "2")]);
    const one = assert.rejects(here.call(fleet.b.twin, "long.job", null, { id: "1" }), { reason: "cancelled", twin: fleet.b.twin });
    const two = assert.rejects(here.call(fleet.b.twin, "long.job", null, { id: "2", tag: { job: 4, of: 9 } }), { reason: "cancelled" });
    await run;
    await here.cancel(fleet.b.twin, "long.job", { id: "1" });
    await one;
    await here.cancel(fleet.b.twin, "long.job", { tag: { job: 4 } });
    await two;
  });
});
