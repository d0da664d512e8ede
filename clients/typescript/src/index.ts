export type { Answer, Interim } from "./asked.js";
export { Client, type CallOptions, type ClientOptions, type NotifyOptions } from "./client.js";
export { BusError, type BusErrorDetails } from "./errors.js";
export type { Request } from "./request.js";
export type { Handler, Handlers, Middleware, ServeOptions, Server, StopOptions } from "./server.js";
