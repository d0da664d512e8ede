package backlog_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A load is what relays do with one Redis, all at once, until it ends.
type load struct {
	*rig
	ctx     context.Context
	running sync.WaitGroup
}

// loop repeats a step until the load ends. A relay that has been fenced goes on.
func (l *load) loop(step func() error) {
	l.running.Go(func() {
		for l.ctx.Err() == nil {
			if err := step(); err != nil && l.ctx.Err() == nil && !errors.Is(err, msgbus.ErrFenced) && !errors.Is(err, msgbus.ErrNotFound) {
				l.Errorf("the load: %v", err)
				return
			}
		}
	})
}

// requests carries requests of apps to their lanes.
func (l *load) requests(s *backlog.Store) error {
	if l.rdb.ZCard(l.ctx, "msgbus.system.deadlines").Val() < 500 { // more would end late, and rightly be found
		for range 5 { // each its own, or one suspect makes suspects of all
			l.rdb.RPush(l.ctx, localQueue, strconv.FormatUint(rand.Uint64(), 16))
		}
	}
	c, err := s.Take(l.ctx, msgbus.LocalQueue)
	if err != nil || len(c.Messages) == 0 {
		return err
	}
	var all []msgbus.Admission
	for range c.Messages {
		m := request(1002, 1003, 1004, self)
		m.Expiration = 1 + rand.Int64N(3)
		all = append(all, msgbus.Admission{Message: m})
	}
	uids, err := s.Admit(l.ctx, c, all)
	for _, uid := range uids {
		switch rand.IntN(20) {
		case 0: // comes before the lane has settled it
			err = errors.Join(err, l.reply(s, uid))
		case 1: // as if it could not be read
			err = errors.Join(err, s.Discard(l.ctx, uid, l.rdb.HGet(l.ctx, "msgbus.system.backlog", uid).Val()))
		}
	}
	return err
}

func (l *load) reply(s *backlog.Store, uid string) error {
	e, err := s.Entry(l.ctx, uid)
	if err != nil {
		return err
	}
	_, err = s.Answer(l.ctx, nil, []msgbus.Answer{{Entry: e, Failed: rand.IntN(2) == 0, Position: -1, Body: []byte("reply")}})
	return err
}

// lane serves the lane to one twin, which answers what it gets.
func (l *load) lane(s *backlog.Store, twin uint32) error {
	b, err := s.Fetch(l.ctx, twin)
	if err != nil || len(b.Parcels) == 0 {
		return err
	}
	if rand.IntN(8) == 0 {
		_, err = s.Fail(l.ctx, twin, unreachable())
		_, more := s.Hasten(l.ctx, twin)
		return errors.Join(err, more)
	}
	if last := b.Parcels[len(b.Parcels)-1]; rand.IntN(4) == 0 && last.Kind == msgbus.RequestParcel {
		o := msgbus.Settlement{Answered: true, PutOff: []msgbus.Parcel{last}, Why: msgbus.Deferral{Reason: msgbus.QueueFull}}
		if err := s.Settle(l.ctx, twin, o); err != nil {
			return err
		}
		b.Parcels = b.Parcels[:len(b.Parcels)-1]
	}
	if err := s.Settle(l.ctx, twin, msgbus.Settlement{Answered: true, Settled: b.Parcels}); err != nil {
		return err
	}
	for _, p := range b.Parcels {
		if p.Kind == msgbus.RequestParcel && rand.IntN(2) == 0 {
			if err := l.reply(s, p.ID); err != nil && !errors.Is(err, msgbus.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// arrivals accepts requests of one twin and sends their replies.
func (l *load) arrivals(s *backlog.Store, source uint32, n *uint64) error {
	var all []msgbus.Acceptance
	for range 5 {
		*n += 1 + rand.Uint64N(3)
		a := arrival(*n)
		a.IsReply = rand.IntN(3) == 0
		a.Life = time.Duration(rand.IntN(2000)) * time.Millisecond
		all = append(all, a)
	}
	if _, err := s.Accept(l.ctx, nil, source, sample, all); err != nil {
		return err
	}
	l.rdb.RPush(l.ctx, replyQueue, all[0].UID, all[1].UID, all[2].UID)
	c, err := s.Take(l.ctx, msgbus.ReplyQueue)
	if err != nil || len(c.Messages) == 0 {
		return err
	}
	opens, err := s.Opens(l.ctx, c.Messages)
	if err != nil {
		return err
	}
	var out []msgbus.Departure
	for _, of := range opens {
		for j := range of {
			out = append(out, msgbus.Departure{Open: &of[j], Body: []byte("reply")})
		}
	}
	if len(out) == 0 {
		return s.Drop(l.ctx, c)
	}
	_, err = s.Depart(l.ctx, c, out)
	return err
}

// ends ends what is due, and keeps house.
func (l *load) ends(s *backlog.Store) error {
	due, err := s.Due(l.ctx)
	var answers []msgbus.Answer
	for _, e := range due {
		answers = append(answers, failure(e, "expired"))
	}
	_, answered := s.Answer(l.ctx, nil, answers)
	_, forgotten := s.ForgetExpired(l.ctx)
	_, given := s.Recover(l.ctx)
	return errors.Join(err, answered, forgotten, given, s.TakeStock(l.ctx))
}

// Somebody runs the check on a busy machine, and is told that messages are lost
// which are on their way.
func TestCheckFindsNothingWhileRelaysWork(t *testing.T) {
	r := onReal(t)
	ctx, end := context.WithCancel(r.Context())
	l := &load{rig: r, ctx: ctx}
	steady, restarted := r.join(instance("a")), r.open(instance("b"))
	for i, s := range []*backlog.Store{steady, restarted} {
		var n uint64
		l.loop(func() error { return l.requests(s) })
		for _, twin := range []uint32{1002, 1003, 1004, 1005 + uint32(i)} {
			l.loop(func() error { return l.lane(s, twin) })
		}
		l.loop(func() error { return l.arrivals(s, 1005+uint32(i), &n) })
		l.loop(func() error { return l.ends(s) })
	}
	l.loop(func() error { l.rdb.LPop(ctx, "msgbus.calc.add"); return nil })
	l.loop(func() error { // b is restarted again and again
		if err := restarted.Join(ctx); err != nil {
			return err
		}
		for range 200 {
			if err := restarted.Renew(ctx); err != nil {
				return err
			}
		}
		return restarted.Leave(ctx)
	})
	looked, rounds := 0, 0
	eventually(r, "enough rounds of the check", func() bool {
		report := r.check(steady)
		for _, f := range report.Findings {
			if f.State != backlog.Overdue { // this machine may be busy with other tests
				r.Errorf("finding: %+v", f)
			}
		}
		r.wantSum(steady)
		looked += report.Messages
		rounds++
		return r.Failed() || rounds >= 20 && looked > 2_000
	})
	end()
	l.running.Wait()
	r.Logf("%d rounds looked at %d messages", rounds, looked)
	r.wantSum(steady)
}
