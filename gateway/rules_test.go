package gateway_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/gateway"
)

// A page hears what is another user's.
func TestATokenIsForItsPatternsAndTheirTopics(t *testing.T) {
	for _, c := range []struct {
		token, asked string
		want         bool
	}{
		{"user.666", "user.666", true},
		{"user.666", "user.667", false},
		{"user.666", "user.*", false},
		{"user.666", "#", false},
		{"user.666", "default/user.666", true},
		{"user.666", "other/user.666", false},
		{"user.666", "*/user.666", false},
		{"user.*", "user.*", true},
		{"user.*", "user.666", true},
		{"user.*", "user", false},
		{"user.*", "user.666.x", false},
		{"user.*", "user.#", false},
		{"user.#", "user.666.x", true},
		{"user.#", "user.*", false}, // covered, and refused: see rules.go
		{"user.#", "user.#", true},
		{"#", "*", false},
		{"#", "anything.at.all", true},
		{"#", "task/run", false},
		{"*/#", "task/run", true},
		{"*/#", "task/#", false},
		{"task/#", "task/run.17", true},
	} {
		claims := gateway.Claims{Topics: []string{"unrelated", c.token}}
		if got := claims.MayHear(c.asked); got != c.want {
			t.Errorf("a token for %s, asked for %s: %t, want %t", c.token, c.asked, got, c.want)
		}
	}
}

// What a token hears is never more than what its patterns are for.
func TestAPatternThatIsGrantedBringsNothingElse(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b", "*", "#"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(word, 1, 4).Draw(t, "words"), ".")
	})
	topic := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 4).Draw(t, "words"), ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		claims := gateway.Claims{Topics: []string{pattern.Draw(t, "token")}}
		asked, heard := pattern.Draw(t, "asked"), topic.Draw(t, "topic")
		if !claims.MayHear(asked) {
			return
		}
		// What is heard by a pattern that is granted could have been asked for by itself.
		if matches(asked, heard) && !claims.MayHear(heard) {
			t.Fatalf("a token for %s brings %s by %s", claims.Topics[0], heard, asked)
		}
	})
}

// matches asks a token that may hear exactly this pattern.
func matches(pattern, topic string) bool {
	c := gateway.Claims{Topics: []string{pattern}}
	return c.MayHear(topic)
}

// A page publishes what it may not: in another's name, or in the bus's own.
func TestATokenPublishesUnderItsPatternsOnly(t *testing.T) {
	for _, c := range []struct {
		token, topic string
		want         bool
	}{
		{"chat.17", "chat.17", true},
		{"chat.17", "chat.18", false},
		{"chat.*", "chat.18", true},
		{"chat.*", "task/chat.18", false},
		{"*/#", "task/run", true},
		{"*/#", "msgbus/presence.up.user.666", false},
		{"msgbus/#", "msgbus/cancel", false},
	} {
		claims := gateway.Claims{Publish: []string{c.token}}
		if got := claims.MayPublish(c.topic); got != c.want {
			t.Errorf("a token for %s, publishing %s: %t, want %t", c.token, c.topic, got, c.want)
		}
		if hears := (&gateway.Claims{Topics: []string{c.token}}); hears.MayPublish(c.topic) {
			t.Errorf("a token that may hear %s may publish %s", c.token, c.topic)
		}
	}
}

// A page of another site uses a token that it has got hold of; or the operator's own page
// is refused.
func TestPagesOfOtherSitesAreTold(t *testing.T) {
	for _, c := range []struct {
		origins      []string
		origin, host string
		want         bool
	}{
		{nil, "", "relay:8053", true}, // no page of another site
		{nil, "http://relay:8053", "relay:8053", true},
		{nil, "https://relay:8053", "relay:8053", true}, // TLS ends before the gateway
		{nil, "https://RELAY:8053", "relay:8053", true},
		{nil, "https://relay", "relay:8053", false},
		{nil, "https://evil.example", "relay:8053", false},
		{nil, "null", "relay:8053", false},
		{nil, "null", "", false},
		{[]string{"https://app.example.org"}, "https://app.example.org", "relay:8053", true},
		{[]string{"https://App.example.org/"}, "https://app.example.org", "relay:8053", true},
		{[]string{"https://app.example.org"}, "http://app.example.org", "relay:8053", false},
		{[]string{"https://app.example.org"}, "https://app.example.org:8443", "relay:8053", false},
		{[]string{"https://app.example.org"}, "https://app.example.org.evil.example", "relay:8053", false},
		{[]string{"https://app.example.org"}, "https://evil.example/https://app.example.org", "relay:8053", false},
		{[]string{"*"}, "https://evil.example", "relay:8053", true},
		{[]string{"*"}, "null", "relay:8053", true},
	} {
		got, err := gateway.AllowsOrigin(c.origins, c.origin, c.host)
		if err != nil || got != c.want {
			t.Errorf("%q at %s, with %q: %t, %v; want %t", c.origin, c.host, c.origins, got, err, c.want)
		}
	}
	for _, wrong := range []string{"", "app.example.org", "https://", "https://app.example.org/page", "https://user@app.example.org", "https://*.example.org/x", "https://app.example.org?x"} {
		if gateway.CheckOrigins([]string{wrong}) == nil {
			t.Errorf("%q is taken for an origin", wrong)
		}
	}
}
