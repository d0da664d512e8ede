// A requester made with the published ts-rmb-redis-client, unmodified. See ../README.md.
"use strict";

// The package prints what it does with console.log; stdout is for answers only.
console.log = console.error;

const { parseArgs } = require("node:util");
const { MessageBusClient } = require("ts-rmb-redis-client");

const failure = "calculator.fail always fails";

const { values: options } = parseArgs({
  options: {
    redis: { type: "string", default: "127.0.0.1:6379" },
    dst: { type: "string", default: "0" },
    cmd: { type: "string", default: "calculator.add" },
    count: { type: "string", default: "1" },
    timeout: { type: "string", default: "60" },
  },
});

async function call(client, dst, cmd, numbers) {
  const message = client.prepare(cmd, [dst], 3600, 0);
  const sent = await client.send(message, JSON.stringify(numbers));
  const [reply] = await client.read(sent);
  if (reply.err) {
    return { result: 0, err: reply.err };
  }
  return { result: JSON.parse(reply.dat), err: "" };
}

async function main() {
  // The client takes nothing but a port; the host is localhost.
  const client = new MessageBusClient(Number(options.redis.split(":").pop()));
  const count = Number(options.count);
  let wrong = 0;
  for (let n = 0; n < count; n++) {
    const [a, b] = [n, 2 * n + 1];
    const { result, err } = await call(client, Number(options.dst), options.cmd, [a, b]);
    const ok = options.cmd === "calculator.fail" ? err.includes(failure) : err === "" && result === a + b;
    if (!ok) {
      wrong++;
    }
    process.stdout.write(JSON.stringify({ n, ok, result, err }) + "\n");
  }
  if (wrong > 0) {
    throw new Error(`${wrong} of ${count} answers are not as expected`);
  }
}

// read waits for ever, and an open client keeps Node running: both end here.
function end(error) {
  if (error) {
    console.error("ts:", error);
  }
  process.exit(error ? 1 : 0);
}

setTimeout(() => end(new Error(`no answer within ${options.timeout} s`)), Number(options.timeout) * 1000);
main().then(() => end(), end);
