import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, suite, test, type TestContext } from "node:test";

import { startFleet, type Fleet } from "./fleet.js";
import { Process } from "./process.js";
import { atEnd } from "./scope.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

// Who begins with the package copies them.
suite("the examples of the README", () => {
  let fleet: Fleet;
  let dir: string;
  const untested = new Set<string>();
  let end = async () => {};
  before(async () => {
    const scope = { after: (all: () => Promise<void>) => (end = all) };
    fleet = await startFleet(scope);
    dir = await mkdtemp(join(tmpdir(), "msgbus-client-readme-"));
    atEnd(scope, () => rm(dir, { recursive: true }));
    await mkdir(join(dir, "node_modules"));
    await symlink(root, join(dir, "node_modules", "msgbus-client"));
    const readme = await readFile(join(root, "README.md"), "utf8");
    for (const [, name, text] of readme.matchAll(/`(\w+\.mjs)`:\n\n```js\n(.*?)```/gs)) {
      assert.ok(name && text);
      untested.add(name);
      await writeFile(join(dir, name), text.replaceAll("127.0.0.1:7001", `127.0.0.1:${fleet.a.redis.port}`).replaceAll("127.0.0.1:7002", `127.0.0.1:${fleet.b.redis.port}`));
    }
    assert.equal(readme.split("```js").length - 1, untested.size, "an example has no name");
  });
  after(() => end());

  function run(t: TestContext, name: string): Process {
    untested.delete(name);
    const running = new Process(name, process.execPath, [name], dir);
    atEnd(t, () => running.stop("SIGKILL"));
    return running;
  }

  test("an app asks a service", async (t) => {
    const service = run(t, "service.mjs");
    const said = (await run(t, "app.mjs").output()).trim().split("\n");
    assert.deepEqual(said.slice(0, 5), ["42", "accepted undefined undefined", "started undefined undefined", "progress 1 2", "42"]);
    assert.deepEqual(said.slice(5).sort(), ["1002 Domain division by zero", "1009 twin_not_found destination not found"]);
    await service.stop();
  });

  test("a group is asked", async (t) => {
    await (await fleet.a.redis.connect(t)).sAdd("msgbus.system.group.all", ["1001", "1002"]);
    assert.deepEqual((await run(t, "group.mjs").output()).trim().split("\n").sort(), ["1001 true", "1002 true"]);
  });

  test("an app hears events, and a worker does what there is to do", async (t) => {
    const listener = run(t, "listen.mjs");
    await listener.says("listening");
    assert.equal(await run(t, "publish.mjs").output(), "1 0\n");
    assert.equal(await listener.output(), "listening\n1002 sensor.cellar.temperature 12\n1002 sensor.roof.temperature 31\n");
    assert.equal(await run(t, "worker.mjs").output(), "jobs/bake { cake: 1 }\n");
  });

  test("an app watches who comes and goes", async (t) => {
    assert.equal(await run(t, "watch.mjs").output(), [
      "{ info: { degrees: 180 } }",
      "msgbus/presence.up.kitchen.oven { degrees: 180 }",
      "msgbus/service.up.oven.open a service",
      "msgbus/service.down.oven.open a service",
      "msgbus/presence.down.kitchen.oven { degrees: 180 }",
    ].join("\n") + "\n");
  });

  test("an app cancels what it has asked for", async (t) => {
    assert.equal(await run(t, "cancel.mjs").output(), "one cancelled\ntwo cancelled\n");
  });

  test("none is left out", () => assert.deepEqual([...untested], []));
});
