package backlog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// archived returns an entry as the archived daemon wrote it.
func archived(uid string, now, exp int64) string {
	return fmt.Sprintf(`{"ver":1,"uid":"%s","cmd":"calc.add","exp":%d,"try":2,"dat":"MQ==","src":1001,"dst":[1002],"ret":"app.ret","shm":"","now":%d,"err":"","tag":1}`, uid, exp, now)
}

func (r *rig) adopt(s *backlog.Store, want int) {
	r.Helper()
	n, err := s.Adopt(r.Context())
	r.must(err)
	wantEqual(r, "adopted", n, want)
}

// Whoever changes over from the archived daemon loses what it had under way:
// its entries never expire, its retries are forgotten.
func TestEntriesAndRetriesOfTheArchivedDaemonAreAdopted(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = 24 * time.Hour })
		now := r.now().Unix()
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog",
			"1002.5", archived("1002.5", now-60, 600),
			"1002.6", archived("1002.6", 0, 0),
			"1002.7", archived("1002.7", now, now+300),
			"1002.8", "garbage").Err())
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.retry", "1", "retry one", "2", "retry two").Err())
		ours := r.admit(s, request(1003))[0]

		r.adopt(s, 5)
		e := r.entry(s, "1002.5")
		want, err := msgbus.Decode([]byte(archived("1002.5", now-60, 600)))
		r.must(err)
		wantEqual(r, "message", string(e.Message.AppendWire(nil)), string(want.AppendWire(nil)))
		r.within("deadline", e.Deadline, time.Unix(now+540, 0), time.Minute)
		r.within("deadline of exp 0", r.entry(s, "1002.6").Deadline, time.Unix(now+3600, 0), time.Minute)
		r.within("absolute deadline", r.entry(s, "1002.7").Deadline, time.Unix(now+300, 0), time.Second)
		wantEqual(r, "dead letters", fmt.Sprint(r.dead()), "[backlog malformed garbage]")
		wantEqual(r, "retries left", r.rdb.Exists(r.Context(), "msgbus.system.retry").Val(), 0)
		wantEqual(r, "retries queued", len(r.list(localQueue)), 2)
		r.unchanged("Adopt again", func() { r.adopt(s, 0) })

		wantEqual(r, "a reply", r.answer(s, reply(e, "done")), "[answered]")
		r.wantList("app.ret", "done")
		r.advance(10 * time.Minute)
		wantEqual(r, "due", r.due(s), fmt.Sprint([]string{ours, "1002.7"}))
	})
}

// Each start of a relay reads a backlog of a million entries.
func TestNothingIsReadWhenAllEntriesHaveDeadlines(t *testing.T) {
	r := onReal(t)
	s := r.join()
	var all []*msgbus.Message
	for range 100 {
		all = append(all, request(1002))
	}
	r.admit(s, all...)
	r.must(r.rdb.ConfigResetStat(r.Context()).Err())
	r.adopt(s, 0)
	wantEqual(r, "HSCANs: the archived retries alone", r.calls("hscan"), 1)
}

// calls returns how often a command was called since the last CONFIG RESETSTAT.
func (r *rig) calls(command string) int {
	r.Helper()
	stats := r.rdb.InfoMap(r.Context(), "commandstats").Val()
	var n int
	_, _ = fmt.Sscanf(stats["Commandstats"]["cmdstat_"+command], "calls=%d", &n)
	return n
}

// Two relays start at once, and each retry of the archived daemon is sent twice.
func TestRelaysThatStartTogetherAdoptEachRetryOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		stores := []*backlog.Store{r.join(instance("a")), r.join(instance("b"))}
		for i, m := range numbered(2000) {
			r.must(r.rdb.HSet(r.Context(), "msgbus.system.retry", fmt.Sprint(i), m).Err())
		}
		var running sync.WaitGroup
		total := make([]int, len(stores))
		for i, s := range stores {
			running.Go(func() {
				n, err := s.Adopt(r.Context())
				if err != nil {
					r.Error(err)
				}
				total[i] = n
			})
		}
		running.Wait()
		wantEqual(r, "adopted", total[0]+total[1], 2000)
		wantEqual(r, "queued", len(r.list(localQueue)), 2000)
	})
}
