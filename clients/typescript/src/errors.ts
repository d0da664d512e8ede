import { isObject, type Ext, type ExtError, type Message } from "./wire.js";

/** What a {@link BusError} may be made with. */
export interface BusErrorDetails {
  /** of the twin that failed, or for which something failed */
  twin?: number;
  /** integer, the service's own; 0: none */
  code?: number;
  /** up to 256 characters, such as `ValueError` */
  errorClass?: string;
  /** anything JSON */
  data?: unknown;
  cause?: unknown;
}

/** Classes that begin so are of the bus, and the rest is the reason. */
const ofBus = "msgbus.";
const maxClass_chars = 256;

/**
 * Why a call failed. A handler that throws one answers with its message, code,
 * class and data.
 *
 * `reason` is `""` for an error of the service. For one of the bus it is the word of
 * the relay's logs, such as `expired`, `twin_not_found` or `no_service`. This client
 * itself says
 * - `storage_failed`: Redis cannot be reached, or does not take the request,
 * - `no_answer`: nothing came, not even an error of the relay: is it running?
 * - `malformed`: an answer is not JSON,
 * - `cancelled`: to a handler, as the reason of its signal; the app gets it as the answer,
 * - `closed`: the client was closed meanwhile.
 */
export class BusError extends Error {
  override readonly name = "BusError";
  readonly twin: number | undefined;
  readonly code: number;
  readonly errorClass: string;
  readonly data: unknown;

  constructor(message: string, details: BusErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.twin = details.twin;
    this.code = details.code ?? 0;
    this.errorClass = details.errorClass ?? "";
    this.data = details.data;
  }

  get reason(): string {
    return this.errorClass.startsWith(ofBus) ? this.errorClass.slice(ofBus.length) : "";
  }
}

/** An error of the bus itself. */
export function busError(reason: string, message: string, details: BusErrorDetails = {}): BusError {
  return new BusError(message, { ...details, errorClass: ofBus + reason });
}

/** What a reply with an `err` means to the app. */
export function errorOfReply(reply: Message, twin: number): BusError {
  const said: unknown = reply.ext?.error;
  const details: BusErrorDetails = { twin };
  if (isObject(said)) {
    if (typeof said["code"] === "number") details.code = said["code"];
    if (typeof said["class"] === "string") details.errorClass = said["class"];
    details.data = said["data"];
  }
  return new BusError(reply.err, details);
}

/** `err` and `ext` of the reply to a request that was cancelled: no other class of the bus is a service's to say. */
export function replyOfCancelled(cancelled: BusError): { err: string; ext: Ext } {
  return { err: cancelled.message, ext: { error: { class: cancelled.errorClass, message: cancelled.message } } };
}

/** `err` and `ext` of the reply of a handler that threw. */
export function replyOfError(thrown: unknown): { err: string; ext: Ext } {
  const error = describe(thrown);
  return { err: error.message, ext: { error } };
}

function describe(thrown: unknown): ExtError & { message: string } {
  if (!(thrown instanceof Error)) return { message: String(thrown) || "error" };
  // Without a text the reply would pass for a success.
  const error: ExtError & { message: string } = { message: thrown.message || thrown.name || "error" };
  if (!(thrown instanceof BusError)) return { ...error, class: thrown.name.slice(0, maxClass_chars) };

  if (thrown.code !== 0) error.code = thrown.code;
  // The bus failed a call that the handler made; the one that it answers it did not.
  const kind = thrown.reason === "" ? thrown.errorClass : thrown.name;
  if (kind !== "") error.class = kind.slice(0, maxClass_chars);
  if (thrown.data !== undefined) error.data = thrown.data;
  return error;
}
