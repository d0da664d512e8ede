import { decodeData, isObject } from "./wire.js";

/** What somebody has published. */
export interface BusEvent<Data = unknown> {
  topic: string;
  /** the twin whose app has published it */
  source: number;
  /** when its relay sent it, in whole seconds */
  time: Date;
  /** JSON, unchecked; `undefined` if there is none */
  data: Data;
  /** type of the data, if the publisher says */
  schema: string;
  /** what the publisher has put beside the data */
  tag: unknown;
}

/**
 * Reads an event as the relay writes it.
 * @throws Error that says what is wrong with it.
 */
export function decodeEvent(raw: string): BusEvent {
  const json: unknown = JSON.parse(raw);
  if (!isObject(json)) throw new TypeError("it is not an object");
  const { topic, src, now, dat, shm, tag } = json;
  if (typeof topic !== "string" || typeof src !== "number" || typeof now !== "number") throw new TypeError("it has no topic, no src or no now");
  return {
    topic,
    source: src,
    time: new Date(now * 1000),
    data: decodeData(typeof dat === "string" ? dat : ""),
    schema: typeof shm === "string" ? shm : "",
    tag,
  };
}
