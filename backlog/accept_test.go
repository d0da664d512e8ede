package backlog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A request whose 200 was lost is sent again, and handled twice.
func TestRequestIsAcceptedOncePerSourceEpochAndNumber(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		const other = "ff"
		wantEqual(r, "first", r.accept(s, 1003, sample, arrival(1), arrival(2), arrival(1)), "[accepted accepted repeat]")
		wantEqual(r, "again", r.accept(s, 1003, sample, arrival(2), arrival(3)), "[repeat accepted]")
		wantEqual(r, "another source", r.accept(s, 1004, sample, arrival(1)), "[accepted]")
		wantEqual(r, "another epoch", r.accept(s, 1003, other, arrival(1)), "[accepted]")
		wantEqual(r, "the first epoch", r.accept(s, 1003, sample, arrival(1)), "[repeat]")
		r.wantList("msgbus.calc.add", "request 1", "request 2", "request 3", "request 1", "request 1")
	})
}

// signed hands in requests of one source under one signature.
func (r *rig) signed(s *backlog.Store, digest string, requests ...msgbus.Acceptance) string {
	r.Helper()
	out, err := s.AcceptSigned(r.Context(), &msgbus.Transfer{Source: 1003, Epoch: sample, Digest: digest}, requests)
	switch {
	case errors.Is(err, msgbus.ErrRepeated):
		return "repeated"
	case errors.Is(err, msgbus.ErrStorageFull):
		return "full"
	}
	r.must(err)
	return fmt.Sprint(out)
}

// Somebody records a transfer and plays it again, to any relay of the twin: also one
// whose messages would not tell that they have been here. (accept.lua: without
// sign(ARGV[11]).)
func TestTransferIsAcceptedOncePerSignature(t *testing.T) {
	onBoth(t, func(r *rig) {
		first, second := r.join(instance("a")), r.join(instance("b"))
		wantEqual(r, "first", r.signed(first, "d1", arrival(1)), "[accepted]")
		wantEqual(r, "again", r.signed(first, "d1", arrival(1)), "repeated")
		wantEqual(r, "again, on another relay", r.signed(second, "d1", arrival(1)), "repeated")
		wantEqual(r, "with other requests", r.signed(first, "d1", arrival(2)), "repeated")
		wantEqual(r, "without requests", r.signed(first, "d2"), "[]")
		wantEqual(r, "again", r.signed(second, "d2"), "repeated")
		wantEqual(r, "under another signature", r.signed(second, "d3", arrival(1), arrival(2)), "[repeat accepted]")
		r.wantList("msgbus.calc.add", "request 1", "request 2")
	})
}

// A full Redis takes nothing of a transfer, its signature neither. (accept.lua:
// with a make_room before the writes.)
func TestTransferThatAFullRedisDidNotTakeIsNoRepeat(t *testing.T) {
	r := onReal(t)
	s := r.join()
	r.full()
	wantEqual(r, "while Redis is full", r.signed(s, "d", arrival(1)), "full")
	r.room()
	wantEqual(r, "when it is not", r.signed(s, "d", arrival(1)), "[accepted]")
	r.wantList("msgbus.calc.add", "request 1")
}

// Two relays of one twin get the same request at once, over two connections.
func TestRequestIsAcceptedOnceByTwoRelaysAtOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		const pairs, batch = 10_000, 100
		stores := []*backlog.Store{r.join(instance("a")), r.join(instance("b"))}
		var mu sync.Mutex
		accepted := map[string]int{}
		var running sync.WaitGroup
		for _, s := range stores {
			running.Go(func() {
				for first := uint64(1); first <= pairs; first += batch {
					var all []msgbus.Acceptance
					for n := range uint64(batch) {
						all = append(all, arrival(first+n))
					}
					out, err := s.Accept(r.Context(), nil, 1003, sample, all)
					if err != nil {
						r.Error(err)
						return
					}
					mu.Lock()
					for i, o := range out {
						if o == msgbus.Accepted {
							accepted[all[i].UID]++
						}
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()
		wantEqual(r, "numbers accepted", len(accepted), pairs)
		for uid, n := range accepted {
			if n != 1 {
				r.Fatalf("%s was accepted %d times", uid, n)
			}
		}
		wantEqual(r, "messages for the service", len(r.list("msgbus.calc.add")), pairs)
	})
}

// A recorded version 1 message is replayed: under another epoch, which its
// signature does not cover, or through another relay.
func TestSignatureIsAcceptedOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		signed := arrival(1)
		signed.Digest, signed.Now = "digest", r.now().Unix()
		wantEqual(r, "first", r.accept(a, 1003, "", signed), "[accepted]")
		wantEqual(r, "again", r.accept(b, 1003, "", signed), "[repeat]")
		wantEqual(r, "under an epoch", r.accept(a, 1003, "aa", signed), "[repeat]")
		wantEqual(r, "under another", r.accept(b, 1003, "bb", signed), "[repeat]")
		next := signed
		next.Digest = "other"
		wantEqual(r, "signed anew, without an epoch", r.accept(b, 1003, "", next), "[accepted]")
		r.wantList("msgbus.calc.add", "request 1", "request 1")

		keys := r.rdb.Keys(r.Context(), "msgbus.system.signatures.*").Val()
		wantEqual(r, "sets of signatures", len(keys), 1)
		ttl := r.rdb.TTL(r.Context(), keys[0]).Val()
		wantEqual(r, "kept for over two minutes and not for ever", ttl > 2*time.Minute && ttl <= 10*time.Minute, true)
	})
}

// A relay of ours that retries over version 1 signs anew: only the number
// tells that it is the same request.
func TestRetrySignedAnewIsARepeatByItsNumber(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		signed := arrival(1)
		signed.Digest, signed.Now = "first", r.now().Unix()
		wantEqual(r, "first", r.accept(s, 1003, sample, signed), "[accepted]")
		signed.Digest = "second"
		wantEqual(r, "signed anew", r.accept(s, 1003, sample, signed), "[repeat]")
	})
}

// A request that was refused goes in after all when its sender tries again,
// or its error is sent each time.
func TestRefusedRequestIsAnsweredOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		bad := arrival(9)
		bad.IsReply, bad.Body = true, []byte("expired")
		wantEqual(r, "first", r.accept(s, 1003, sample, bad), "[accepted]")
		wantEqual(r, "again", r.accept(s, 1003, sample, bad), "[repeat]")
		wantEqual(r, "as one to be delivered", r.accept(s, 1003, sample, arrival(9)), "[repeat]")
		r.wantList("msgbus.calc.add")
		wantEqual(r, "lane", fmt.Sprint(r.fetch(s, 1003).Parcels), "[{reply 1003 "+sample+" 1001.9 expired}]")
		wantEqual(r, "open records", len(r.opens(s, "1001.9")), 0)
	})
}

// A peer sends something as an epoch that is none, and from then on none of
// its messages can be told from repeats.
func TestEpochMustBeOneThatARelayMakes(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for _, epoch := range []string{"-", "a b", "A1", "zz", "a\nb", strings.Repeat("a", 65)} {
			r.unchanged("epoch "+epoch, func() {
				if out, err := s.Accept(r.Context(), nil, 1003, epoch, []msgbus.Acceptance{arrival(1)}); err == nil {
					r.Errorf("epoch %q: %v", epoch, out)
				}
			})
		}
		wantEqual(r, "longest", r.accept(s, 1003, strings.Repeat("a", 64), arrival(1)), "[accepted]")
		wantEqual(r, "longest, again", r.accept(s, 1003, strings.Repeat("a", 64), arrival(1)), "[repeat]")
	})
}

// A service key that holds another type stops the whole transfer, or what was
// refused for it cannot be sent again once it is repaired.
func TestMessageForAKeyOfAnotherTypeIsRefusedAlone(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.must(r.rdb.Set(r.Context(), "msgbus.wrong", "text", 0).Err())
		bad := arrival(2)
		bad.Command = "wrong"
		wantEqual(r, "outcomes", r.accept(s, 1003, sample, arrival(1), bad, arrival(3)), "[accepted wrong_type accepted]")
		r.must(r.rdb.Del(r.Context(), "msgbus.wrong").Err())
		wantEqual(r, "after the repair", r.accept(s, 1003, sample, bad), "[accepted]")
	})
}

// A relay that is killed, or loses Redis's answer, between two messages of the
// remote queue must not hand the first one to its service again.
func TestRequestsOfAClaimAreAcceptedOnceHoweverOftenItIsHandedOut(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push("msgbus.system.remote", "a", "b")
		c := r.take(s, msgbus.RemoteQueue)
		second := arrival(2)
		second.Position = 1
		accept := func(c *msgbus.Claim) string {
			t.Helper()
			out, err := s.Accept(r.Context(), c, 1003, "", []msgbus.Acceptance{second})
			r.must(err)
			return string(out[0])
		}
		wantEqual(r, "first", accept(c), "accepted")
		again := r.take(s, msgbus.RemoteQueue)
		wantEqual(r, "what is left", fmt.Sprintf("%q", again.Messages), `["a" "\x00dealt with"]`)
		wantEqual(r, "again", accept(again), "repeat")
		wantEqual(r, "in the service's queue", len(r.list("msgbus."+second.Command)), 1)

		r.must(s.Leave(r.Context()))
		r.unchanged("accepting after the end of the session", func() {
			_, err := s.Accept(r.Context(), c, 1003, "", []msgbus.Acceptance{second})
			r.wantErr(err, msgbus.ErrFenced)
		})
	})
}

// A twin that is not there to fetch its replies makes Redis keep them without
// end.
func TestRequestsOfATwinThatFetchesNoRepliesAreRefused(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxReplies = 2 })
		r.refuseArrival(s, 1003, sample, 1)
		r.refuseArrival(s, 1003, sample, 2)
		refused := arrival(3)
		refused.IsReply = true
		wantEqual(r, "an error reply more", r.accept(s, 1003, sample, refused), "[queue_full]")
		wantEqual(r, "a request more", r.accept(s, 1003, sample, arrival(4)), "[queue_full]")
		wantEqual(r, "of another twin", r.accept(s, 1004, sample, arrival(4)), "[accepted]")
	})
}

// A twin that sends one uid under ever new epochs makes a field of Redis grow,
// and each look at it slower.
func TestOneSourceHasFourOpenRecordsOfAUidAtMost(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.accept(s, 1004, sample, arrival(1))
		for i := range 20 {
			wantEqual(r, "accepted", r.accept(s, 1003, fmt.Sprintf("%x", i+1), arrival(1)), "[accepted]")
		}
		var epochs []string
		for _, o := range r.opens(s, arrival(1).UID) {
			epochs = append(epochs, fmt.Sprint(o.Source, ":", o.Epoch))
		}
		wantEqual(r, "records", fmt.Sprint(epochs), fmt.Sprint([]string{"1004:" + sample, "1003:11", "1003:12", "1003:13", "1003:14"}))
	})
}
