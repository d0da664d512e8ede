package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
)

// A page hears events out of order, or not at all, or of what it did not ask for.
func TestEventsArriveInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.listen(hears(t, "task.#", "other"), "&topic=task.%23")
	r.publish("other", 0)
	const n = 200
	for i := range n {
		r.publish(fmt.Sprint("task.", i), map[string]int{"n": i})
	}
	for i := range n {
		page.want(fmt.Sprint("task.", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	if v := page.head; v.Get("Cache-Control") != "no-store" || v.Get("X-Accel-Buffering") != "no" {
		t.Errorf("a proxy may keep the events: %v", v)
	}
}

// Pages lose their connections after a minute or two, each time, since a server has limits for
// requests that do not end.
func TestAConnectionOutlivesTheLimitsOfItsServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *gateway.Options) { o.Ping = 100 * time.Millisecond })
	page, other := r.listen(hears(t, "a"), ""), r.connect(hears(t, "a"))
	other.subscribe("a")
	for pings := 0; pings < 20; { // two seconds: the limits are one
		line, err := page.body.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d pings: %v", pings, err)
		}
		if line == ": ping\n" {
			pings++
		}
	}
	r.publish("a", 1)
	page.want("a", "1")
	other.want("a", "1")
}

// A page that wants all that its token is for names nothing.
func TestWithoutATopicThePageHearsAllOfItsToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.listen(hears(t, "a", "b.*"), "")
	r.publish("a", 1)
	page.want("a", "1")
	r.publish("b.c", 2)
	page.want("b.c", "2")
}

// A page gets an event as often as it has patterns that it is for.
func TestAnEventThatTwoPatternsAreForComesOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.listen(hears(t, "task.*", "task.#", "task.1"), "")
	for i := range 3 {
		r.publish("task.1", i)
	}
	for i := range 3 {
		page.want("task.1", fmt.Sprint(i))
	}
}

// A page gets data that it cannot read, or breaks on it: what is no JSON, what is JSON on
// several lines, what is not UTF-8, nothing at all.
func TestDataIsJSONOrBase64(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page, other := r.listen(hears(t, "a"), ""), r.connect(hears(t, "a"))
	other.subscribe("a")
	for _, c := range []struct{ published, data, dat string }{
		{"{\n  \"n\": 1,\r\n\n \"text\": \"a\\nb\"}", `{"n":1,"text":"a\nb"}`, ""},
		{"plain text", "", "cGxhaW4gdGV4dA=="},
		{"\"\xff\"", "", "Iv8i"},
		{"", "", ""},
		{"null", "null", ""},
	} {
		r.publishRaw("a", "a", []byte(c.published))
		byEvents := page.next()
		bySocket, _ := other.next()
		for _, m := range []*told{byEvents, bySocket} {
			if e := m.Event; e == nil || string(e.Data) != c.data || e.Dat != c.dat || e.Src != 1002 || e.Time != 1_800_000_000 || string(e.Tag) != `{"job":4}` {
				t.Errorf("%q comes as %s", c.published, m)
			}
		}
	}
}

// A page that has just been opened shows nothing until something happens.
func TestTheLatestEventsComeFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.publish("state.a", 1, client.Retain())
	r.publish("state.b", 2, client.Retain())
	r.publish("state.a", 3, client.Retain())
	r.publish("state.b", 4) // not kept
	eventually(t, "the latest events", func() error {
		if n := r.rdb.LLen(t.Context(), "msgbus.system.local").Val(); n > 0 {
			return fmt.Errorf("%d are on their way", n)
		}
		return r.rdb.HGet(t.Context(), "msgbus.system.retained", "1001 state.b").Err()
	})
	all := hears(t, "state.*", "state.#")
	check := func(next func() *told) {
		t.Helper()
		wantEvent(t, next(), "state.a", "3")
		if m := wantEvent(t, next(), "state.b", "2"); !m.Event.Latest {
			t.Errorf("%s does not say that it is the latest", m)
		}
		r.publish("state.a", 5)
		if m := wantEvent(t, next(), "state.a", "5"); m.Event.Latest {
			t.Errorf("%s says that it is the latest", m)
		}
	}
	check(r.listen(all, "&latest=1").next)
	page := r.connect(all)
	page.say(`{"subscribe":["state.*","state.#"],"latest":true}`)
	page.wantSubscribed("state.*", "state.#")
	check(func() *told { m, _ := page.next(); return m })

	without := r.listen(all, "")
	r.publish("state.a", 6)
	without.want("state.a", "6")
}

// A thousand pages of one topic cost Redis a thousand subscriptions; or what nobody listens
// to any more is still subscribed to.
func TestPagesShareASubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var pages []*source
	for range 5 {
		pages = append(pages, r.listen(hears(t, "a"), ""))
	}
	socket := r.connect(hears(t, "a"))
	socket.subscribe("a")
	if n := r.countChannel("a"); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
	for _, p := range pages[1:] {
		p.end()
	}
	r.wantConnected(gateway.SSE, 1)
	r.publish("a", 1)
	pages[0].want("a", "1")
	socket.want("a", "1")
	socket.say(`{"unsubscribe":["a"]}`)
	socket.wantSubscribed()
	pages[0].end()
	eventually(t, "the subscription", func() error {
		if n := r.countChannel("a"); n != 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

// One machine of many is down, and no page hears anything; or each of them costs Redis
// a connection.
func TestPagesDoNotWaitForTwinsThatAreAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bus := gateway.OnClient(r.open(), []uint32{1002, 1003})
	s, err := bus.Subscribe(patient(t), "far.*") // nobody answers for those twins
	if err != nil {
		t.Fatal(err)
	}
	if n := r.countChannel("far.*"); n != 1 {
		t.Errorf("%d connections listen", n)
	}
	wanted, err := r.rdb.ZRange(t.Context(), "msgbus.system.subscriptions", 0, -1).Result()
	if err != nil || len(wanted) != 2 {
		t.Errorf("the relay is to ask %q, %v", wanted, err)
	}
	r.publish("far.here", 1)
	if e, err := s.Next(patient(t)); err != nil || e.Topic != "far.here" {
		t.Errorf("heard %+v, %v", e, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Somebody gets in without a token that is good, and what he showed stands in the log.
func TestWhoMayNotIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *gateway.Options) { o.Origins = []string{"https://app.example.org"} })
	good := hears(t, "a")
	forged := good[:len(good)-4] + "AAAA"
	expired := mint(t, gateway.Claims{Topics: []string{"a"}, Expires: now.Unix() - 1_000_000_000})
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	from := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	for _, c := range []struct {
		path   string
		header http.Header
		status int
		why    gateway.Reason
	}{
		{"/events?topic=a", nil, 401, gateway.NoToken},
		{"/events?topic=a&token=" + forged, nil, 401, gateway.BadToken},
		{"/events?topic=a&token=" + expired, nil, 401, gateway.TokenExpired},
		{"/events?topic=a", bearer(forged), 401, gateway.BadToken},
		{"/events?topic=a", bearer(good), 200, ""},
		{"/events?topic=b&token=" + good, nil, 403, gateway.NotAllowed},
		{"/events?topic=a&topic=b&token=" + good, nil, 403, gateway.NotAllowed},
		{"/events?topic=a..b&token=" + good, nil, 400, gateway.BadTopic},
		{"/events?topic=a&token=" + good, from("https://app.example.org"), 200, ""},
		{"/events?topic=a&token=" + good, from(r.url), 200, ""},
		{"/events?topic=a&token=" + good, from("https://evil.example"), 403, gateway.BadOrigin},
		{"/ws", nil, 401, gateway.NoToken},
		{"/ws?token=" + forged, nil, 401, gateway.BadToken},
		{"/ws?token=" + good, from("https://evil.example"), 403, gateway.BadOrigin},
		{"/ws", http.Header{"Sec-Websocket-Protocol": {"msgbus, msgbus.token." + forged}}, 401, gateway.BadToken},
		{"/ws", http.Header{"Sec-Websocket-Protocol": {"msgbus.token." + good}}, 400, gateway.BadMessage},
		{"/ws?token=" + good, nil, 426, ""}, // it is no WebSocket
		{"/elsewhere?token=" + good, nil, 404, gateway.NotFound},
	} {
		status, why, header := r.ask(c.path, c.header)
		if status != c.status || why != string(c.why) {
			t.Errorf("%s with %v: %d %s, want %d %s", c.path, c.header, status, why, c.status, c.why)
		}
		if origin := c.header.Get("Origin"); c.why != gateway.BadOrigin && header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s of %q: the browser is told %v", c.path, origin, header)
		}
	}
	for _, secret := range []string{good, forged, expired} {
		if logged := r.log.String(); len(logged) == 0 || strings.Contains(logged, secret) {
			t.Errorf("a token is in the log, or nothing is:\n%s", logged)
		}
	}
	r.wantConnected(gateway.SSE, 0)
}
