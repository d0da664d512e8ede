package gateway

import (
	"strings"

	"github.com/msgbusd/msgbusd/msgbus"
)

// mayHear tells whether a token is for a pattern: it names this very pattern, letter by
// letter, or the pattern is a topic, without wildcards, that one of the token's is for.
//
// That `a.#` covers `a.*.c` would be true too. It is refused: a rule for which patterns are
// within which others is easy to get wrong, and what it gets wrong is who hears what.
func (c *Claims) mayHear(pattern string) bool {
	for _, p := range c.Topics {
		if p == pattern || !strings.ContainsAny(pattern, "*#") && msgbus.MatchTopic(p, pattern) {
			return true
		}
	}
	return false
}

// reservedExchange is that of events by which the bus itself tells: who is there, what is
// cancelled. Whoever could publish there would send others away.
const reservedExchange = "msgbus"

// mayPublish tells whether a token is for events of a topic, which is a valid one.
func (c *Claims) mayPublish(topic string) bool {
	if exchange, _ := msgbus.SplitTopic(topic); exchange == reservedExchange {
		return false
	}
	for _, p := range c.Publish {
		if msgbus.MatchTopic(p, topic) {
			return true
		}
	}
	return false
}

// checkPatterns says why a session of a token may not have patterns, or nil.
func (c *Claims) checkPatterns(patterns []string) *refusal {
	for _, p := range patterns {
		switch {
		case !msgbus.ValidPattern(p):
			return refuse(BadTopic, "%q is no pattern of topics", clip(p))
		case !c.mayHear(p):
			return refuse(NotAllowed, "the token is not for %s", p)
		}
	}
	return nil
}
