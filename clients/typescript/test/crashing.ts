// A service that is killed while it works, for relays.test.ts: node crashing.js REDIS.
import { Client } from "../src/index.js";

const bus = await Client.open({ redis: process.argv[2] ?? "" });
const server = bus.serve({
  "job.run": async () => {
    console.log("it runs");
    await new Promise(() => {}); // for ever
  },
});
await server.ready;
console.log("it serves");
