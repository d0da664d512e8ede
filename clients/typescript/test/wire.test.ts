import assert from "node:assert/strict";
import { test } from "node:test";

import { BusError, busError, errorOfReply, replyOfError } from "../src/errors.js";
import { deadlineOf, decodeData, decodeMessage, encodeData, newReply, newRequest, now_s, type Message } from "../src/wire.js";

const request = newRequest({ cmd: "calculator.add", dst: [1002], ret: "msgbus-app.1", exp: 60, try: 3, dat: "WzIwLDIyXQ==", ext: { id: "17" } });

// The relay takes a request without these for one of the newer dialect, and answers in
// it: every answer would be dropped.
test("a request says that it is of the classic dialect", () => {
  assert.deepEqual([request.uid, request.src, request.try], ["", 0, 3]);
  assert.ok(!("ref" in request) && !("con" in request));
});

test("data is base64 of JSON, and undefined is none", () => {
  assert.equal(encodeData([20, 22]), "WzIwLDIyXQ==");
  assert.deepEqual(decodeData("WzIwLDIyXQ=="), [20, 22]);
  assert.equal(decodeData(encodeData("ü€")), "ü€");
  assert.equal(encodeData(undefined), "");
  assert.equal(decodeData(""), undefined);
  assert.throws(() => decodeData("bm8ganNvbg=="), SyntaxError);
});

test("a reply is its request turned round, with the request's id and tag", () => {
  const asked: Message = { ...request, uid: "1002.7", src: 1001, ext: { id: "17", tag: { job: 4 }, progress: "x", mandatory: true }, traceparent: "00-1" };
  const reply = newReply(asked, { dat: "NDI=", err: "", ext: {} });
  assert.deepEqual([reply.uid, reply.src, reply.dst, reply.dat], ["1002.7", 1002, [1001], "NDI="]);
  assert.deepEqual(reply.ext, { id: "17", tag: { job: 4 } });
  assert.equal(reply["traceparent"], "00-1");
});

// An old app compares the keys that come back with those that it knows.
test("the reply to a request without ext has none", () => {
  const { ext: _, ...old } = request;
  assert.ok(!("ext" in newReply(old as Message, { dat: "", err: "", ext: {} })));
});

test("a message is read with zero values for what it has not", () => {
  const m = decodeMessage('{"ver":1,"cmd":"echo","err":null,"ext":7,"other":[1]}');
  assert.deepEqual([m.cmd, m.err, m.uid, m.src, m.dst, m.ext, m["other"]], ["echo", "", "", 0, [], undefined, [1]]);
  assert.throws(() => decodeMessage("[]"), /not an object/);
  assert.throws(() => decodeMessage('{"src":"2"}'), /src is not a number/);
  assert.throws(() => decodeMessage('{"dst":["2"]}'), /dst is not a list/);
  assert.throws(() => decodeMessage("no json"), SyntaxError);
});

test("a deadline is exp after now, or exp itself where that is a time", () => {
  const now = now_s();
  assert.equal(deadlineOf({ ...request, now, exp: 60 }), (now + 60) * 1000);
  assert.equal(deadlineOf({ ...request, now, exp: 0 }), (now + 3600) * 1000);
  assert.equal(deadlineOf({ ...request, now, exp: now + 7 }), (now + 7) * 1000);
});

test("an error comes through whole", () => {
  const { err, ext } = replyOfError(new BusError("no such room", { code: 42, errorClass: "NotFound", data: { room: 7 } }));
  assert.deepEqual(ext.error, { code: 42, class: "NotFound", message: "no such room", data: { room: 7 } });
  const error = errorOfReply({ ...request, err, ext }, 1002);
  assert.deepEqual([error.twin, error.code, error.errorClass, error.message, error.data, error.reason], [1002, 42, "NotFound", "no such room", { room: 7 }, ""]);
});

test("any other error has its name as the class", () => {
  assert.deepEqual(replyOfError(new RangeError("too far")).ext.error, { message: "too far", class: "RangeError" });
  assert.deepEqual(replyOfError("a text").ext.error, { message: "a text" });
});

// With an empty err the reply would be a success without data.
test("an error without a text has one in the reply", () => {
  for (const thrown of [new Error(""), "", new BusError("")]) assert.notEqual(replyOfError(thrown).err, "");
});

// The app would take it for an error of its own call, and perhaps ask again.
test("an error of the bus that a handler got is not passed on as one", () => {
  const { err, ext } = replyOfError(busError("expired", "request timeout"));
  assert.deepEqual([err, ext.error?.class], ["request timeout", "BusError"]);
});

test("an error of the bus has a reason", () => {
  const error = errorOfReply({ ...request, err: "nobody serves it", ext: { error: { class: "msgbus.no_service" } } }, 1002);
  assert.equal(error.reason, "no_service");
});

test("an err without ext is an error all the same", () => {
  const error = errorOfReply({ ...request, err: "boom" }, 1002);
  assert.deepEqual([error.message, error.code, error.errorClass, error.reason], ["boom", 0, "", ""]);
});
