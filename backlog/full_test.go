package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// full makes Redis refuse whatever needs memory; room ends that.
func (r *rig) full() { r.maxMemory("1") }
func (r *rig) room() { r.maxMemory("0") }

func (r *rig) maxMemory(bytes string) {
	r.Helper()
	r.must(r.rdb.ConfigSet(r.Context(), "maxmemory", bytes).Err())
}

// Redis is full, and the relay cannot take out of it what would make room:
// that machine is stuck until somebody deletes messages by hand.
func TestFullRedisCanBeDrained(t *testing.T) {
	r := onReal(t)
	s := r.join()
	first := r.admit(s, request(1002), request(1002))
	r.accept(s, 1003, sample, arrival(1))
	opens := r.opens(s, "1001.1")
	for n := range uint64(3) {
		r.refuseArrival(s, 1005, sample, n+1)
	}
	r.push(localQueue, "good", "bad")
	r.push(replyQueue, "answer", "reply")
	ctx := r.Context()
	r.full()

	if err := r.rdb.RPush(ctx, localQueue, "more").Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("an app's push is answered by %v, want OOM", err)
	}
	r.must(s.Renew(ctx))

	c := r.take(s, msgbus.LocalQueue)
	wantEqual(r, "local", fmt.Sprint(c.Messages), "[good bad]")
	r.must(s.Refuse(ctx, c, 1, refusal(), "app.refused", []byte("error"), true))
	r.wantList("app.refused", "error")
	uids, err := s.Admit(ctx, c, []msgbus.Admission{{Message: request(1004)}})
	r.must(err)
	wantEqual(r, "admitted", fmt.Sprint(uids), "[1004.1]")

	c = r.take(s, msgbus.ReplyQueue)
	wantEqual(r, "replies", fmt.Sprint(c.Messages), "[answer reply]")
	out, err := s.Answer(ctx, c, []msgbus.Answer{{Entry: r.entry(s, first[0]), Body: []byte("answer")}})
	r.must(err)
	wantEqual(r, "answered", fmt.Sprint(out), "[answered]")
	out, err = s.Depart(ctx, c, []msgbus.Departure{{Open: &opens[0], Body: []byte("reply")}})
	r.must(err)
	wantEqual(r, "departed", fmt.Sprint(out), "[sent]")
	r.wantList("app.ret", "answer")

	wantEqual(r, "lane of 1003", len(r.fetch(s, 1003).Parcels), 1)
	b := r.fetch(s, 1002)
	wantEqual(r, "lane of 1002", ids(b), fmt.Sprint(first[1:]))
	r.fail(s, 1002, unreachable())
	_, err = s.Hasten(ctx, 1002)
	r.must(err)
	wantEqual(r, "probe", r.fetch(s, 1002).Probe, true)
	r.settle(s, 1002, true, b.Parcels...)
	wantEqual(r, "expired", r.answer(s, failure(r.entry(s, first[1]), "expired")), "[failed]")
	_, err = s.ForgetExpired(ctx)
	r.must(err)
	r.must(s.TakeStock(ctx))
	r.recover(s, 0)
}

// An entry that nobody can read keeps a full Redis from ending any request.
func TestUnreadableEntryIsDiscardedWhenRedisIsFull(t *testing.T) {
	r := onReal(t)
	s := r.join()
	uids := r.admit(s, request(1002))
	r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog", uids[0], "garbage").Err())
	r.must(r.rdb.ZAdd(r.Context(), "msgbus.system.deadlines", redis.Z{Score: 1, Member: uids[0]}).Err())
	r.full()
	wantEqual(r, "due", r.due(s), "[]")
	wantEqual(r, "backlog", r.rdb.HLen(r.Context(), "msgbus.system.backlog").Val(), 0)
}

// Requests of others fill what little room is left for the own replies, or are
// lost because they were noted as seen and never pushed.
func TestFullRedisAcceptsNothingNew(t *testing.T) {
	r := onReal(t)
	s := r.join()
	r.accept(s, 1003, sample, arrival(1))
	signed, refused := arrival(3), arrival(4)
	signed.Digest, signed.Now = "d", r.now().Unix()
	refused.IsReply = true
	proxied, tail := r.proxied("d2", "calc.add")
	cases := map[string]func() error{
		"in a known epoch": func() error {
			_, err := s.Accept(r.Context(), nil, 1003, sample, []msgbus.Acceptance{arrival(2)})
			return err
		},
		"in a new epoch": func() error {
			_, err := s.Accept(r.Context(), nil, 1003, "aa", []msgbus.Acceptance{arrival(2)})
			return err
		},
		"far ahead": func() error {
			_, err := s.Accept(r.Context(), nil, 1003, sample, []msgbus.Acceptance{arrival(200_000)})
			return err
		},
		"signed": func() error { _, err := s.Accept(r.Context(), nil, 1003, "", []msgbus.Acceptance{signed}); return err },
		"refused": func() error {
			_, err := s.Accept(r.Context(), nil, 1003, sample, []msgbus.Acceptance{refused})
			return err
		},
		"proxied": func() error { _, _, err := s.Proxy(r.Context(), 1003, "q", proxied, tail); return err },
	}
	r.full()
	for name, step := range cases {
		r.unchanged("a request "+name, func() { r.wantErr(step(), msgbus.ErrStorageFull) })
	}
	wantEqual(r, "a repeat", r.accept(s, 1003, sample, arrival(1)), "[repeat]")
	r.room()
	for name, step := range cases {
		if err := step(); err != nil {
			r.Errorf("a request %s, when there is room: %v", name, err)
		}
	}
}

// A crash while Redis is full: what was claimed cannot be given back, or the
// relay cannot start.
func TestFullRedisLetsARelayStartAndRecover(t *testing.T) {
	r := onReal(t)
	dead := r.join()
	r.push(localQueue, "1", "2", "3")
	r.take(dead, msgbus.LocalQueue)
	r.full()
	s := r.join()
	r.wantList(localQueue, "1", "2", "3")
	wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[1]")
	r.must(s.Leave(r.Context()))
	r.wantList(localQueue, "1", "2", "3")
}

// While Redis is full it refuses BLMOVE: the taker must neither end nor spin,
// and go on when a message comes with the room for it.
func TestTakerOutlastsAFullRedis(t *testing.T) {
	r := onReal(t)
	s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
	r.full()
	c := r.take(s, msgbus.LocalQueue)
	wantEqual(r, "messages", len(c.Messages), 0)
	r.room()
	r.push(localQueue, "one")
	wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[one]")
}
