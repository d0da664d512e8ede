/**
 * Something to go through with `for await`, until it is closed, by leaving the loop or
 * by {@link Feed.close}, or its signal is aborted: then the loop throws the signal's reason.
 */
export abstract class Feed<T> implements AsyncIterableIterator<T>, AsyncDisposable {
  readonly #signal: AbortSignal | undefined;
  readonly #onEnd: () => void;
  readonly #abort = () => void this.close();
  #closing: Promise<void> | undefined;
  readonly #waiting = new Set<() => void>(); // for the end

  /** @internal onEnd is called once, when it has ended. */
  constructor(signal: AbortSignal | undefined, onEnd: () => void) {
    signal?.throwIfAborted();
    this.#signal = signal;
    this.#onEnd = onEnd;
    signal?.addEventListener("abort", this.#abort);
  }

  /** @internal The next one; waits with {@link untilEnd}. */
  protected abstract pull(): Promise<T | undefined>;

  /** @internal Gives back what it has. It is called once, and must not reject. */
  protected abstract release(): Promise<void>;

  /** The next one, as iterators return it. */
  async next(): Promise<IteratorResult<T, undefined>> {
    const value = this.isOpen ? await this.pull() : undefined;
    if (this.isOpen && value !== undefined) return { done: false, value };
    this.#signal?.throwIfAborted();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** Ends it. What was not taken is dropped. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  protected get isOpen(): boolean {
    return this.#closing === undefined;
  }

  /** @internal Waits for something, or for the end. */
  protected async untilEnd(what: Promise<unknown>): Promise<void> {
    if (!this.isOpen) return;
    let wake = () => {};
    const ended = new Promise<void>((resolve) => (wake = resolve));
    this.#waiting.add(wake); // one promise for all would keep what each has waited for
    try {
      await Promise.race([what, ended]);
    } finally {
      this.#waiting.delete(wake);
    }
  }

  /**
   * @internal Does what is to be done before it can be used.
   * @throws what is wrong, when it has been closed.
   */
  protected async open(steps: readonly (() => Promise<void>)[]): Promise<void> {
    try {
      for (const step of steps) if (this.isOpen) await this.untilEnd(step());
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#signal?.throwIfAborted();
  }

  async #close(): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#abort);
    for (const wake of this.#waiting) wake();
    await this.release();
    this.#onEnd();
  }
}
