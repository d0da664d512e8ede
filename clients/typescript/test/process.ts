import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";

/** A program that a test started. It ends with the test's process. */
export class Process {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = "";

  constructor(name: string, command: string, args: readonly string[], cwd?: string) {
    this.#name = name;
    this.#child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    this.#ended = once(this.#child, "close").catch((error: unknown) => void (this.#said += String(error)));
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#said += text;
        this.#child.emit("said");
      });
    }
    const kill = () => this.#child.kill("SIGKILL");
    process.once("exit", kill);
    void this.#ended.then(() => process.off("exit", kill));
  }

  /** Waits until the program has written text, and throws if it ends before. */
  async says(text: string): Promise<void> {
    let ended = false;
    const end = this.#ended.then(() => (ended = true));
    while (!this.#said.includes(text)) {
      if (ended) throw new Error(`${this.#name} has ended and did not say ${JSON.stringify(text)}, but:\n${this.#said}`);
      await Promise.race([once(this.#child, "said"), end]);
    }
  }

  /** Asks the program to end, and waits until it has. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }

  async output(): Promise<string> {
    await this.#ended;
    if (this.#child.exitCode !== 0) throw new Error(`${this.#name} ended with ${this.#child.exitCode}:\n${this.#said}`);
    return this.#said;
  }
}
