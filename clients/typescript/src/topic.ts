/** How many bytes a topic or a pattern has at most. */
const maxTopic_bytes = 256;
/** Where topics without an exchange are. */
export const defaultExchange = "default";

const word = /^[A-Za-z0-9_:@-]+$/;

/** Words with a dot between two of them, and in front, if anything, an exchange and a slash. */
export function isTopic(topic: string): boolean {
  const { exchange, key } = splitTopic(topic);
  return topic.length <= maxTopic_bytes && [exchange, ...key.split(".")].every((each) => word.test(each));
}

/** As {@link isTopic}, but `*` and `#` may stand for words, and `*` for the exchange. */
export function isPattern(pattern: string): boolean {
  const { exchange, key } = splitTopic(pattern);
  if (pattern.length > maxTopic_bytes || !(exchange === "*" || word.test(exchange))) return false;
  return key.split(".").every((each) => each === "*" || each === "#" || word.test(each));
}

export function splitTopic(topic: string): { exchange: string; key: string } {
  const slash = topic.indexOf("/");
  return slash < 0 ? { exchange: defaultExchange, key: topic } : { exchange: topic.slice(0, slash), key: topic.slice(slash + 1) };
}

/** Tells whether a pattern is for a topic: `*` stands for one word, `#` for any number of them. */
export function matchTopic(pattern: string, topic: string): boolean {
  const wanted = splitTopic(pattern);
  const has = splitTopic(topic);
  return (wanted.exchange === "*" || wanted.exchange === has.exchange) && matchWords(wanted.key.split("."), has.key.split("."));
}

/** It goes back to the latest `#` only: what an earlier one could stand for, a later one can. */
function matchWords(pattern: readonly string[], words: readonly string[]): boolean {
  let p = 0;
  let w = 0;
  let hash = -1; // where the latest `#` is
  let from = 0; // the first word that it does not stand for
  while (w < words.length) {
    if (pattern[p] === "#") {
      hash = p++;
      from = w;
    } else if (p < pattern.length && (pattern[p] === "*" || pattern[p] === words[w])) {
      p++;
      w++;
    } else if (hash >= 0) {
      p = hash + 1;
      w = ++from;
    } else {
      return false;
    }
  }
  return pattern.slice(p).every((each) => each === "#");
}
