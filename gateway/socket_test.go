package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
)

// A page subscribes as it goes along, and hears too much or too little.
func TestAWebSocketHearsWhatItSubscribesTo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.connect(hears(t, "a", "b", "c.*"))
	page.subscribe("a")
	page.say(`{"subscribe":["c.*","a"]}`)
	page.wantSubscribed("a", "c.*")
	r.publish("b", 1)
	r.publish("a", 2)
	page.want("a", "2")
	r.publish("c.d", 3)
	page.want("c.d", "3")
	page.say(`{"unsubscribe":["a","never"]}`)
	page.wantSubscribed("c.*")
	r.publish("a", 4)
	r.publish("c.e", 5)
	page.want("c.e", "5")
	if p := page.conn.Subprotocol(); p != "msgbus" {
		t.Errorf("the subprotocol is %q: the token must not be repeated, and a browser wants one of its own", p)
	}
}

// A page publishes, and apps do not hear it; or it publishes what it may not.
func TestAWebSocketPublishesWhatItsTokenAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app, err := r.app.Subscribe(r.context(), "*/#")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	page := r.connect(token(t, gateway.Claims{User: "666", Publish: []string{"chat.*", "*/any.#"}}))
	page.say(`{"publish":{"topic":"secret","data":1}}`)
	page.wantError(gateway.NotAllowed)
	page.say(`{"publish":{"topic":"msgbus/any.thing","data":1}}`)
	page.wantError(gateway.NotAllowed)
	page.say(`{"publish":{"topic":"chat.*","data":1}}`)
	page.wantError(gateway.BadTopic)
	page.say(`{"publish":{"topic":"chat.17","data":{"text":"hello"}}}`)
	page.say(`{"publish":{"topic":"chat.18"}}`)
	wantHeard(t, r, app, "chat.17", `{"text":"hello"}`)
	wantHeard(t, r, app, "chat.18", `null`)
	page.say(`{"subscribe":["chat.17"]}`)
	page.wantError(gateway.NotAllowed)
}

func wantHeard(t *testing.T, r *rig, app *client.Subscription, topic, data string) {
	t.Helper()
	e, err := app.Next(r.context())
	if err != nil || e.Topic != topic || string(e.Data) != data {
		t.Fatalf("an app hears %+v, %v; want %s under %s", e, err, data, topic)
	}
}

// A page that says something wrong is not told what, or loses its connection for it.
func TestAMessageThatIsWrongIsAnsweredAndCostsNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.connect(hears(t, "a"))
	for _, text := range []string{
		"", "hello", "[]", "{}", `{"subscribe":"a"}`, `{"subscribe":[]}`, `{"subscribe":["a"],"unsubscribe":["a"]}`, `{"latest":true}`,
		`{"unsubscribe":["a"],"latest":true}`, `{"Subscribe":["a"]}`, `{"subscribe":["a"],"more":1}`, `{"subscribe":["a"]}{}`, `{"publish":{}} `, `{"publish":null}`,
	} {
		page.say(text)
		want := gateway.BadMessage
		if strings.HasPrefix(text, `{"publish":{}}`) {
			want = gateway.BadTopic
		}
		page.wantError(want)
	}
	if err := page.conn.Write(r.context(), websocket.MessageBinary, []byte(`{"subscribe":["a"]}`)); err != nil {
		t.Fatal(err)
	}
	page.wantError(gateway.BadMessage)
	page.say(`{"subscribe":["a..b"]}`)
	page.wantError(gateway.BadTopic)
	page.subscribe("a")
	r.publish("a", 1)
	page.want("a", "1")
}

// A page sends messages without end, and the relay's memory grows.
func TestALargeMessageEndsItsConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *gateway.Options) { o.MaxMessage = 1000 })
	page := r.connect(token(t, gateway.Claims{Publish: []string{"a"}, Topics: []string{"a"}}))
	page.subscribe("a")
	page.say(`{"publish":{"topic":"a","data":"` + strings.Repeat("x", 900) + `"}}`)
	page.want("a", `"`+strings.Repeat("x", 900)+`"`)
	page.say(`{"publish":{"topic":"a","data":"` + strings.Repeat("x", 1000) + `"}}`)
	if m, code := page.next(); code != websocket.StatusMessageTooBig {
		t.Errorf("told %s, closed with %d", m, code)
	}
	r.wantConnected(gateway.WebSocket, 0)
}

// One page has all connections, one user the memory, or one connection all of Redis's.
func TestConnectionsAndPatternsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *gateway.Options) { o.MaxConnections, o.MaxUser, o.MaxPatterns = 4, 2, 3 })
	user := func(name string) string {
		return token(t, gateway.Claims{User: name, Topics: []string{"t.#", "t.*"}})
	}
	refused := func(path string, status int, why gateway.Reason) {
		t.Helper()
		if got, reason, _ := r.ask(path, nil); got != status || reason != string(why) {
			t.Errorf("%d %s, want %d %s", got, reason, status, why)
		}
	}
	page := r.connect(user("1"))
	page.subscribe("t.1", "t.2")
	page.say(`{"subscribe":["t.3","t.4"]}`)
	page.wantError(gateway.TooManyPatterns)
	page.say(`{"subscribe":["t.1","t.2","t.3"]}`)
	page.wantSubscribed("t.1", "t.2", "t.3")
	refused("/events?topic=t.1&topic=t.2&topic=t.3&topic=t.4&token="+user("2"), 400, gateway.TooManyPatterns)

	second := r.listen(user("1"), "&topic=t.1")
	refused("/events?token="+user("1"), 429, gateway.TooManyOfUser)
	refused("/ws?token="+user("1"), 429, gateway.TooManyOfUser)
	r.listen(user("2"), "&topic=t.1")
	r.listen(hears(t, "t.1"), "&topic=t.1")
	refused("/events?token="+user("3"), 503, gateway.TooManyConnections)
	second.end()
	r.wantConnected(gateway.SSE, 2)
	r.listen(user("1"), "&topic=t.1")
}

// While Redis is away a page waits for ever, or hears nothing when it is back.
func TestAPageIsToldThatTheBusIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.listen(hears(t, "a"), "")
	r.server.Shutdown(false)
	if status, why, _ := r.ask("/events?token="+hears(t, "b"), nil); status != 503 || why != string(gateway.Unavailable) {
		t.Errorf("%d %s", status, why)
	}
	if status, why, _ := r.ask("/events?token="+token(t, gateway.Claims{User: "1", Single: true}), nil); status != 503 || why != string(gateway.Unavailable) {
		t.Errorf("%d %s of a single user", status, why)
	}
	r.server.Restart()
	eventually(t, "the subscription", func() error { return r.wantListeners("a", 1) })
	eventually(t, "the relay", func() error { return r.app.Publish(r.context(), "a", 1) })
	if m := before.next(); m == nil || m.Name != "lost" || m.Lost != -1 {
		t.Errorf("told %s, want that nobody knows what was lost", m)
	}
	before.want("a", "1")
	if n := r.rdb.LLen(t.Context(), "msgbus.system.local").Val(); n > 5 {
		t.Error(fmt.Sprint(n, " wait"))
	}
}
