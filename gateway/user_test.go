package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/msgbusd/msgbusd/gateway"
)

func single(t *testing.T, user string) string {
	t.Helper()
	return token(t, gateway.Claims{User: user, Topics: []string{"a"}, Single: true})
}

// wantKick wants a WebSocket to be sent away.
func (c *socket) wantKick() {
	c.t.Helper()
	if m, _ := c.next(); m == nil || m.Kick == nil || m.Kick.Reason != string(gateway.Replaced) {
		c.t.Fatalf("told %s, want a kick", m)
	}
	if _, code := c.next(); code != 4002 {
		c.t.Errorf("closed with %d", code)
	}
}

func (c *source) wantKick() (id string) {
	c.t.Helper()
	m := c.next()
	if m == nil || m.Name != "kick" || m.Kick == nil || m.Kick.Reason != string(gateway.Replaced) {
		c.t.Fatalf("told %s, want a kick", m)
	}
	if next := c.next(); next != nil {
		c.t.Errorf("it goes on with %s", next)
	}
	return m.ID
}

// A user is signed in twice where he may be once; or of two pages each sends the other away
// for ever, since an EventSource connects again by itself.
func TestANewerSessionOfAUserEndsTheOlderOnes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := r.newSite()
	first := r.listen(single(t, "666"), "")
	somebody := r.listen(single(t, "667"), "")
	second := r.connect(single(t, "666")) // of the same gateway
	id := first.wantKick()
	if status, _, _ := r.ask("/events?token="+single(t, "666"), http.Header{"Last-Event-Id": {id}}); status != http.StatusNoContent {
		t.Errorf("the page that was sent away comes again: status %d", status)
	}
	third := other.listen(single(t, "666"), "") // of another one
	second.wantKick()
	fourth := r.listen(single(t, "666"), "")
	third.wantKick()

	twice := r.listen(token(t, gateway.Claims{User: "666", Topics: []string{"a"}}), "") // who may be there beside
	r.publish("a", 1)
	for _, page := range []*source{fourth, twice, somebody} {
		page.want("a", "1")
	}
}

// Two pages connect at the same moment, and both are sent away.
func TestOfSessionsThatBeginAtOnceOneStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sites := []*site{r.site, r.newSite(), r.newSite()}
	const each = 5
	ended, ctx := make(chan websocket.StatusCode, each*len(sites)), r.context()
	offer := &websocket.DialOptions{Subprotocols: []string{"msgbus", "msgbus.token." + single(t, "666")}}
	var pages sync.WaitGroup
	defer pages.Wait()
	for _, s := range sites {
		for range each {
			pages.Go(func() {
				conn, _, err := websocket.Dial(ctx, s.url+"/ws", offer)
				for err == nil {
					_, _, err = conn.Read(ctx)
				}
				ended <- websocket.CloseStatus(err)
			})
		}
	}
	for range each*len(sites) - 1 {
		if code := await(t, ended, "the end of an older session"); code != 4002 {
			t.Errorf("closed with %d", code)
		}
	}
	eventually(t, "connections", func() error { return wantOne(sites) })
	for _, s := range sites {
		s.interrupt()
	}
	if code := await(t, ended, "the end of the last"); code != websocket.StatusGoingAway {
		t.Errorf("the last is closed with %d", code)
	}
}

func wantOne(sites []*site) error {
	n := 0
	for _, s := range sites {
		s.seen.note(func() { n += s.seen.connected[gateway.WebSocket] })
	}
	if n != 1 {
		return errors.New("there are " + strconv.Itoa(n))
	}
	return nil
}

// A session that was replaced while Redis was away goes on beside the newer one.
func TestASessionHearsOfItsReplacementWithoutTheEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.connect(single(t, "666"))
	page.subscribe("a") // by then it has the name
	newer := fmt.Sprintf(`{"id":"another","since":1,"info":{"session":"another","since":%d}}`, time.Now().Add(time.Hour).UnixMilli())
	if err := r.rdb.Set(r.context(), "msgbus.system.presence.user.666", newer, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	page.wantKick()
}

// An app uses the name of a user for something else, and users are sent away.
func TestOnlyGatewaysSendAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.connect(single(t, "666"))
	page.subscribe("a")
	name, err := r.app.Announce(r.context(), "user.666", "not a session")
	if err != nil {
		t.Fatal(err)
	}
	defer name.Close()
	r.publish("a", 1)
	page.want("a", "1")
}

// When the relay stops, pages are not told, and it waits for them.
func TestAStopTellsThePages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page, socket := r.listen(single(t, "666"), ""), r.connect(hears(t, "a"))
	r.interrupt()
	if m := page.next(); m == nil || m.Name != "end" || m.End.Reason != string(gateway.Stopping) || m.ID != "" {
		t.Errorf("the EventSource is told %s, with the id %s", m, m.ID)
	}
	if m, _ := socket.next(); m == nil || m.Error == nil || m.Error.Reason != string(gateway.Stopping) {
		t.Errorf("the WebSocket is told %s", m)
	}
	if _, code := socket.next(); code != websocket.StatusGoingAway {
		t.Errorf("it is closed with %d", code)
	}
	r.stop()
	if n := r.rdb.Exists(t.Context(), "msgbus.system.presence.user.666").Val(); n != 0 {
		t.Error("the user's name is not given back")
	}
	if status, why, _ := r.ask("/events?token="+hears(t, "a"), nil); status != 503 || why != string(gateway.Stopping) {
		t.Errorf("who comes now is told %d %s", status, why)
	}
}
