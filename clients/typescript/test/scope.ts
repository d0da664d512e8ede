/** What ends at some time, such as a test. */
export interface Scope {
  after(end: () => Promise<void>): void;
}

const stacks = new WeakMap<Scope, (() => unknown)[]>();

/** Has end called at the end of a scope, the last first: what is used ends after its users. */
export function atEnd(scope: Scope, end: () => unknown): void {
  let stack = stacks.get(scope);
  if (stack === undefined) {
    const all: (() => unknown)[] = (stack = []);
    stacks.set(scope, all);
    scope.after(async () => {
      for (let next; (next = all.pop()) !== undefined; ) await next();
    });
  }
  stack.push(end);
}
