import assert from "node:assert/strict";

import { decodeMessage, encodeData, now_s, type Ext, type Message } from "../src/wire.js";
import type { Connection, RedisServer } from "./redis.js";
import type { Scope } from "./scope.js";

/** Nobody waits so long unless something is wrong. */
const patience_s = 20;

/** Twin of the app and of the service that stand at the {@link Relay}'s Redis. */
export const self = 1001;

/** A test that plays the relay, by hand: nothing happens that it does not do. */
export class Relay {
  readonly redis: Connection;
  #given = 0;

  private constructor(redis: Connection) {
    this.redis = redis;
  }

  static async play(t: Scope, server: RedisServer): Promise<Relay> {
    return new Relay(await server.connect(t));
  }

  /** The next request of an app, and what stands in Redis of it. */
  async request(): Promise<{ raw: string; message: Message }> {
    return this.#next("msgbus.system.local");
  }

  /** Gives an app what came for its request: an answer with data, if nothing else is said. */
  async answer(request: Message, twin: number, data: unknown, fields: Partial<Message> = {}): Promise<void> {
    const reply: Message = { ...request, uid: `${twin}.1`, src: twin, dst: [self], dat: encodeData(data), now: now_s(), ...fields };
    reply.ext = { ...idOf(request), ...fields.ext };
    const list = reply.ext.status === undefined ? request.ret : request.ext?.progress;
    assert.ok(list, "the app does not want this");
    await this.redis.rPush(list, JSON.stringify(reply));
  }

  /** Gives an app an event, as it was published by another one, and says how many heard it. */
  async publish(pattern: string, topic: string, data: unknown, fields: Record<string, unknown> = {}): Promise<number> {
    return this.redis.publish(`msgbus.events.${pattern}`, eventOf(topic, data, fields));
  }

  /** Keeps a durable event, and returns its id. */
  async keep(exchange: string, topic: string, data: unknown, fields: Record<string, unknown> = {}): Promise<string> {
    return this.redis.xAdd(`msgbus.system.stream.${exchange}`, "*", { event: eventOf(topic, data, fields) });
  }

  /** The next event that an app publishes; what services say of themselves is left out. */
  async published(): Promise<Message> {
    for (;;) {
      const { message } = await this.request();
      if (message.cmd === "msgbus.event" && !message.ext?.topic?.startsWith("msgbus/service.")) return message;
    }
  }

  /** Gives a service a request, and returns what stands in its queue. */
  async give(cmd: string, data: unknown, fields: Partial<Message> = {}): Promise<string> {
    const request: Message = {
      ver: 1, uid: `${self}.${++this.#given}`, cmd, exp: 60, try: 3, dat: encodeData(data), src: 1002, dst: [self],
      ret: "msgbus.system.reply", shm: "", now: now_s(), err: "", ...fields,
    };
    const raw = JSON.stringify(request);
    await this.redis.rPush(`msgbus.${cmd}`, raw);
    return raw;
  }

  /** The next thing that a service says. */
  async reply(): Promise<Message> {
    return (await this.#next("msgbus.system.reply")).message;
  }

  async #next(list: string): Promise<{ raw: string; message: Message }> {
    const popped = await this.redis.blPop(list, patience_s);
    assert.ok(popped, `nothing comes to ${list}`);
    return { raw: popped.element, message: decodeMessage(popped.element) };
  }
}

/** An event as the relay writes it. */
export function eventOf(topic: string, data: unknown, fields: Record<string, unknown> = {}): string {
  return JSON.stringify({ topic, src: 1002, now: now_s(), dat: encodeData(data), shm: "", ...fields });
}

function idOf(request: Message): Ext {
  const { id, tag } = request.ext ?? {};
  return { ...(id === undefined ? {} : { id }), ...(tag === undefined ? {} : { tag }) };
}
