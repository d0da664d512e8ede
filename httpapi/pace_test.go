package httpapi_test

import (
	"testing"
	"testing/synctest"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A twin behind a slow line gets sixteen messages side by side, of which none
// arrives in its time, again and again: it must get fewer at once until they do.
//
// Broken by: in Send, group.SetLimit(c.opts.InFlight); in note, without `n/2` or
// without `n + 1`.
func TestSlowTwinGetsFewerMessagesAtOnceUntilTheyArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPeer()
		c := client(t, httpapi.ClientOptions{Dial: p.dial}, endpoint("peer:8051"))
		batch := func() (messages []*msgbus.Message) {
			for range 20 {
				messages = append(messages, requestOf(4))
			}
			return messages
		}
		arrived := func() (n int) {
			synctest.Wait()
			for len(p.arrived) > 0 {
				<-p.arrived
				n++
			}
			return n
		}
		for _, want := range []int{16, 8, 4, 2, 1, 1} {
			done := send(t.Context(), c, batch()...)
			if n := arrived(); n != want {
				t.Errorf("%d messages at once to a twin that is too slow, want %d", n, want)
			}
			failureOf(t, (<-done)[0])
			for range want { // nobody waits for these answers any more
				p.let <- struct{}{}
			}
		}
		for _, want := range []int{1, 2, 3} {
			done := send(t.Context(), c, batch()...)
			if n := arrived(); n != want {
				t.Errorf("%d messages at once to a twin that takes them, want %d", n, want)
			}
			for range 20 {
				p.let <- struct{}{}
			}
			for _, err := range <-done {
				if err != nil {
					t.Error(err)
				}
			}
			arrived()
		}
		close(p.let)
		p.server.Close()
	})
}
