import assert from "node:assert/strict";
import { test } from "node:test";

import { isPattern, isTopic, matchTopic, splitTopic } from "../src/topic.js";

// They are the relay's own cases (msgbus/topic_test.go): a stream would leave out what a
// subscription hears.
test("patterns match by words", () => {
  const cases: [pattern: string, topic: string, want: boolean][] = [
    ["task.finished.17", "task.finished.17", true],
    ["task.finished.*", "task.finished.17", true],
    ["task.*.17", "task.finished.17", true],
    ["*", "task.finished", false],
    ["task.*", "task.finished.17", false],
    ["task.*", "task", false],
    ["#", "task.finished.17", true],
    ["task.#", "task", true],
    ["task.#", "task.finished.17", true],
    ["task.#", "tasks.finished", false],
    ["#.17", "17", true],
    ["#.17", "task.finished.17", true],
    ["#.17", "task.17.finished", false],
    ["a.#.b.#.c", "a.b.c", true],
    ["a.#.b.#.c", "a.x.b.y.b.z.c", true],
    ["a.#.b.#.c", "a.x.c.y.b", false],
    ["#.*", "a", true],
    ["#.*.*", "a", false],
    ["*.#", "a", true],
    ["#.#", "a.b", true],
    ["task/run.*", "task/run.17", true],
    ["task/run.*", "run.17", false],
    ["run.*", "task/run.17", false],
    ["*/run.*", "task/run.17", true],
    ["*/run.*", "run.17", true],
    ["default/run.*", "run.17", true],
    ["task/#", "task/run", true],
    ["task/#", "logging/run", false],
  ];
  for (const [pattern, topic, want] of cases) assert.equal(matchTopic(pattern, topic), want, `${pattern} for ${topic}`);
});

test("no pattern takes long", () => {
  assert.equal(matchTopic("#.a.".repeat(63) + "b", "a.".repeat(127) + "c"), false);
});

// The relay would refuse the event a while later, and nobody be told.
test("what is no topic, and no pattern, is known at once", () => {
  for (const topic of ["task", "task.finished.17", "task/run.17", "a_-:@Z9"]) assert.ok(isTopic(topic) && isPattern(topic), topic);
  for (const pattern of ["*", "#", "*/a", "task/*.#"]) assert.ok(!isTopic(pattern) && isPattern(pattern), pattern);
  for (const none of ["", ".", "a..b", "a.", "/a", "a/", "a/b/c", "ü", "a b", "#/a", "a*", "x".repeat(257)]) {
    assert.ok(!isTopic(none) && !isPattern(none), JSON.stringify(none));
  }
  assert.deepEqual([splitTopic("a.b"), splitTopic("x/a.b")], [{ exchange: "default", key: "a.b" }, { exchange: "x", key: "a.b" }]);
});
