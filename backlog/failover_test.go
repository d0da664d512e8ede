package backlog_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A fail-over takes back the last moments: the new master knows the session of the process
// that ran before this one, and not this one's. The relay would end for good, and blame
// another process that does not exist.
//
// Broken by: in join.lua, `local known = current == ARGV[3] or current == ARGV[2]`.
func TestJoinThatAFailOverTookBackCanBeRepeated(t *testing.T) {
	onBoth(t, func(r *rig) {
		const sessions, instances = "msgbus.system.sessions", "msgbus.system.instances"
		r.join() // the process of before
		lives, err := r.rdb.ZRangeWithScores(r.Context(), sessions, 0, -1).Result()
		r.must(err)
		names, err := r.rdb.HGetAll(r.Context(), instances).Result()
		r.must(err)
		s := r.join()
		r.must(s.Join(r.Context()))

		r.must(r.rdb.Del(r.Context(), sessions, instances).Err())
		r.must(r.rdb.ZAdd(r.Context(), sessions, lives...).Err())
		r.must(r.rdb.HSet(r.Context(), instances, names).Err())
		r.wantErr(s.Renew(r.Context()), msgbus.ErrFenced)
		r.must(s.Join(r.Context()))
		r.must(s.Renew(r.Context()))
	})
}

// A master fails over and is the master again before a relay has pushed anything: numbers
// that were given before are given again, and peers drop new requests as repeats of the old
// ones.
//
// Broken by: in admit.lua, no look at history.
func TestServerThatIsPromotedAgainBeginsAnEpoch(t *testing.T) {
	r := onReal(t)
	s := r.join()
	n, epoch := r.numberOf(s, 1002)
	r.must(r.rdb.ReplicaOf(r.Context(), "127.0.0.1", "1").Err())
	r.must(r.rdb.ReplicaOf(r.Context(), "NO", "ONE").Err())
	again, now := r.numberOf(s, 1002)
	if now == epoch || again <= n+1 {
		r.Errorf("number %d after %d, epoch %s after %s", again, n, now, epoch)
	}
}

// A master of yesterday refuses what is written to it. That is a Redis that does not serve,
// and no verdict about a session or a message: a relay that took it for one would throw the
// message away.
func TestMasterOfYesterdayGivesNoVerdict(t *testing.T) {
	r := onReal(t)
	w := &watcher{}
	s := r.join(observed(w))
	r.push(localQueue, "one")
	c := r.take(s, msgbus.LocalQueue)
	r.must(r.rdb.ReplicaOf(r.Context(), "127.0.0.1", "1").Err())
	for what, err := range map[string]error{
		"renew":  s.Renew(r.Context()),
		"drop":   s.Drop(r.Context(), c),
		"refuse": s.Refuse(r.Context(), c, 0, msgbus.Refuse(msgbus.Malformed, "x"), "ret", []byte("x"), true),
	} {
		var refusal *msgbus.Refusal
		if err == nil || errors.Is(err, msgbus.ErrFenced) || errors.Is(err, msgbus.ErrStorageFull) || errors.As(err, &refusal) {
			r.Errorf("%s on a server that is no master: %v", what, err)
		}
	}
	w.mu.Lock()
	if w.failures["unready"] == 0 || len(w.failures) != 1 {
		r.Errorf("failures %v, want them to be unready", w.failures)
	}
	w.mu.Unlock()
	r.must(r.rdb.ReplicaOf(r.Context(), "NO", "ONE").Err())
	again := r.take(s, msgbus.LocalQueue)
	wantEqual(r, "messages", len(again.Messages), 1)
}

// What a network says of a server must not read like what a script tells.
func TestOnlyAnswersOfRedisAreVerdicts(t *testing.T) {
	r := onReal(t)
	s := r.join()
	s.BeforeCommand(func() error { return errors.New("dial FENCED-host: REPLAYED STALE OOM") })
	err := s.Renew(r.Context())
	if err == nil || errors.Is(err, msgbus.ErrFenced) || errors.Is(err, msgbus.ErrRepeated) {
		r.Errorf("a connection that fails: %v", err)
	}
	var answered redis.Error
	if errors.As(err, &answered) {
		r.Errorf("%v counts as an answer of Redis", err)
	}
}
