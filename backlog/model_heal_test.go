package backlog_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// look compares what Redis shows with the promise. Apps fetch what there is.
func (w *world) look() {
	w.Helper()
	pipe := w.source.rdb.Pipeline()
	waiting := pipe.HLen(w.Context(), "msgbus.system.backlog")
	var replies []*redis.StringSliceCmd
	for n := range w.requests {
		replies = append(replies, pipe.LPopCount(w.Context(), ret(n), 9))
	}
	_, _ = pipe.Exec(w.Context()) // an absent return queue is no failure
	w.must(waiting.Err())
	for n, r := range replies {
		for _, body := range r.Val() {
			w.answered(n, body)
		}
	}
	s, err := w.source.observer.Stats(w.Context())
	w.must(err)
	w.counted(s, waiting.Val())

	queue, err := w.peer.rdb.LRange(w.Context(), serviceQueue, 0, -1).Result()
	w.must(err)
	w.waiting(queue)
	w.placed()
	w.tallied()
}

// placed: what is to be sent is on its lane once, next or put off.
func (w *world) placed() {
	w.Helper()
	on := func(index string) []string {
		uids, err := w.source.rdb.ZRange(w.Context(), "msgbus.system.lane.1002."+index, 0, -1).Result()
		w.must(err)
		return uids
	}
	got, want := slices.Concat(on("requests"), on("later")), on("tries")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Fatalf("on the lane are %q, to be sent are %q", got, want)
	}
}

// tallied: each twin has as many requests open as are counted.
func (w *world) tallied() {
	w.Helper()
	records, err := w.peer.rdb.HVals(w.Context(), "msgbus.system.open").Result()
	w.must(err)
	got, err := w.peer.rdb.HGetAll(w.Context(), "msgbus.system.open.counts").Result()
	w.must(err)
	want := map[string]int{}
	for _, line := range strings.Split(strings.Join(records, "\n"), "\n") {
		if f := strings.SplitN(line, " ", 5); len(f) == 5 {
			want[f[0]+" "+f[4]]++
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.Fatalf("%v requests are counted as open, %v are", got, want)
	}
}

// heal ends all trouble, lets the relays do what is left, and then lets the rest
// expire.
func (w *world) heal() {
	w.Helper()
	w.wire = nil
	for _, t := range []*twin{w.source, w.peer} {
		for i := range t.relays {
			w.stop(t, i)
		}
		w.start(t, 0) // others stay away
	}
	w.push(2*time.Hour, served)
	for range 40 {
		w.wait(25 * time.Second) // longer than a lease and than a lane's longest rest
		w.work()
		for len(w.answers) > 0 {
			w.answer(0)
		}
		w.look()
		if w.length(w.source, localQueue)+w.length(w.peer, replyQueue) == 0 && len(w.there.queue) == 0 &&
			w.source.rdb.ZCard(w.Context(), "msgbus.system.lane.1002.tries").Val() == 0 &&
			w.peer.rdb.HLen(w.Context(), "msgbus.system.replies").Val() == 0 {
			break
		}
	}
	healed := w.clock

	w.wait(3 * time.Hour)
	w.expire(w.source.relays[0], false)
	for _, t := range []*twin{w.source, w.peer} {
		_, err := t.relays[0].ForgetExpired(w.Context())
		w.must(err)
	}
	w.work() // forgets lanes
	w.look()
	w.kept(healed)
	w.nothingLeft()
}

// work does what there is to do.
func (w *world) work() {
	w.Helper()
	carry := func(r *worker, to uint32) {
		for {
			w.send(r, to)
			if len(r.sent) == 0 {
				return
			}
			for _, l := range w.wire {
				w.deliver(l, 0, true, false)
			}
			w.wire = nil
			w.settle(r, to, true)
		}
	}
	here, there := w.source.relays[0], w.peer.relays[0]
	for w.claimable(here, msgbus.LocalQueue) {
		w.take(here)
		w.admit(here)
	}
	carry(here, peerTwin)
	for len(w.there.queue) > 0 {
		w.serve(1)
	}
	for w.claimable(there, msgbus.ReplyQueue) {
		w.collect(there)
		w.depart(there, false)
	}
	carry(there, self)
}

// nothingLeft: what is not known for later is gone.
func (w *world) nothingLeft() {
	w.Helper()
	for _, t := range []*twin{w.source, w.peer} {
		keys, err := t.rdb.Keys(w.Context(), "*").Result()
		w.must(err)
		for _, key := range keys {
			if !forLater.MatchString(key) {
				w.Fatalf("twin %d: %s is left", t.id, key)
			}
		}
	}
}

var forLater = regexp.MustCompile(`^msgbus\.(counter\.\d+|system\.(epoch|ended|stats|sessions|instances|served|lane\.\d+|seen\.\d+(\.\d)?))$`)
