// A service made with the published ts-rmb-redis-client, unmodified. See ../README.md.
"use strict";

// The package prints what it does with console.log; stdout is for "ready" only.
console.log = console.error;

const { parseArgs } = require("node:util");
const { MessageBusServer } = require("ts-rmb-redis-client");

const { values: options } = parseArgs({
  options: { redis: { type: "string", default: "127.0.0.1:6379" } },
});

// The server takes nothing but a port; the host is localhost.
const server = new MessageBusServer(Number(options.redis.split(":").pop()));

server.withHandler("calculator.add", async (message, payload) =>
  JSON.parse(payload).reduce((sum, n) => sum + n, 0),
);
server.withHandler("calculator.fail", async () => {
  throw new Error("calculator.fail always fails");
});

process.on("SIGTERM", () => process.exit(0));
server.run();
process.stdout.write("ready\n");
