// An app that is killed while it hears events, has a name and serves, for
// between.test.ts: node subscribing.js REDIS TWIN.
import { Client } from "../src/index.js";

const bus = await Client.open({ redis: process.argv[2] ?? "" });
await bus.announce("doomed", "about me");
await bus.serve({ "doomed.echo": (input) => input }).ready;
const events = await bus.subscribe("news.#", { from: [Number(process.argv[3])] });
console.log("it listens");
for await (const event of events) console.log(`it heard ${event.topic}`);
