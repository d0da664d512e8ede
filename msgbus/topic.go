package msgbus

import "strings"

// MaxTopic is how many bytes a topic or a pattern has at most.
const MaxTopic = 256

// DefaultExchange is where topics without an exchange are.
const DefaultExchange = "default"

// ValidTopic tells whether an event can have a topic: words of letters, digits, `_`, `-`,
// `:` and `@`, with a dot between two of them, and in front of them, if anything, one such
// word and a slash: the exchange, as in `task/run.17`.
func ValidTopic(topic string) bool { return validTopic(topic, false) }

// ValidPattern is [ValidTopic] for patterns of topics, in which `*` and `#` may stand for
// words. The exchange is a word, or `*`.
func ValidPattern(pattern string) bool { return validTopic(pattern, true) }

func validTopic(topic string, wild bool) bool {
	exchange, key, found := strings.Cut(topic, "/")
	if !found {
		exchange, key = DefaultExchange, topic
	}
	if len(topic) > MaxTopic || !validWord(exchange, wild) || exchange == "#" {
		return false
	}
	for word := range strings.SplitSeq(key, ".") {
		if !validWord(word, wild) {
			return false
		}
	}
	return true
}

func validWord(word string, wild bool) bool {
	if wild && (word == "*" || word == "#") {
		return true
	}
	for i := range len(word) {
		c := word[i]
		if letter := 'a' <= c|0x20 && c|0x20 <= 'z'; !letter && !isDigit(c) && !strings.ContainsRune("_-:@", rune(c)) {
			return false
		}
	}
	return word != ""
}

// ValidGroup tells whether a group of twins can have a name: one word of a topic, and no
// longer than [MaxID].
func ValidGroup(name string) bool { return len(name) <= MaxID && validWord(name, false) }

// SplitTopic returns the exchange of a topic or pattern and what follows it.
func SplitTopic(topic string) (exchange, key string) {
	if exchange, key, found := strings.Cut(topic, "/"); found {
		return exchange, key
	}
	return DefaultExchange, topic
}

// MatchTopic tells whether a pattern is for a topic, as on AMQP's topic exchanges: `*`
// stands for one word, `#` for any number of them, none included.
func MatchTopic(pattern, topic string) bool {
	wanted, words := SplitTopic(pattern)
	exchange, key := SplitTopic(topic)
	if wanted != exchange && wanted != "*" {
		return false
	}
	return matchWords(strings.Split(words, "."), strings.Split(key, "."))
}

// matchWords goes back to the latest `#` only: what an earlier one could stand for, a
// later one can.
func matchWords(pattern, words []string) bool {
	p, w := 0, 0
	hash, from := -1, 0 // where the latest `#` is, and the first word that it does not stand for
	for w < len(words) {
		switch {
		case p < len(pattern) && pattern[p] == "#":
			hash, from = p, w
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == words[w]):
			p++
			w++
		case hash >= 0:
			from++
			p, w = hash+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "#" {
		p++
	}
	return p == len(pattern)
}
