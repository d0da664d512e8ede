package relay_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest/child"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// asVictim makes this test binary a relay that some messages kill. It holds the
// URL of its Redis.
const asVictim = "RELAY_TEST_AS_VICTIM"

// What the messages that kill have, and no time or random name can have.
const (
	killerUID  = "1001.666"
	killerData = "0666" // as it is: base64 of three bytes
)

func victim(url string) {
	where, err := backlog.ParseURL(url)
	if err != nil {
		panic(err)
	}
	store, err := backlog.Open(backlog.Options{Redis: where, Twin: 1001, Instance: "victim"})
	if err != nil {
		panic(err)
	}
	custody := &trapped{store, func(step, text string) {
		if strings.Contains(text, killerUID) || step == "Admit" && text == killerData {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal is there
		}
	}}
	log := zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	fmt.Fprintln(os.Stderr, relay.New(relay.Options{Twin: 1001, Log: log}, custody, busyPeers{}).Run(context.Background()))
	os.Exit(1)
}

// busyPeers leave everything on its lane.
type busyPeers struct{}

func (busyPeers) Send(_ context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	return all(messages, busy(twin, 20*time.Second))
}

// One message that kills the process kills it after each restart, for ever, and
// nothing else is served any more. (recover.lua: end_claims with false; take.lua:
// other_in_hand returns false, or no hand_out: others are buried too;
// handleClaim: leave out the look at Poison.)
func TestMessageThatKillsTheRelayIsBuriedAtItsThirdRecovery(t *testing.T) {
	t.Parallel()
	for name, killers := range map[string][]string{
		"local": {"local"}, "remote": {"remote"}, "reply": {"reply"}, "each queue": {"local", "remote", "reply"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newSite(t, newWire(), 1001) // not run: the victims are its relays
			var want []string
			for n := range uint64(40) {
				for _, queue := range []string{"local", "remote", "reply"} {
					number := n + 1
					if n == 20 {
						if !slices.Contains(killers, queue) {
							continue
						}
						number = 666
					}
					uid := msgbus.FormatUID(1001, number)
					m := with(ask("x", "app.killer", 1002), map[string]any{"dat": fmt.Sprintf("%04d", number)})
					switch queue {
					case "remote":
						m = with(m, map[string]any{"src": 1003, "dst": []int{1001}, "uid": uid})
					case "reply": // to another twin: none of these requests
						m = with(m, map[string]any{"src": 1001, "dst": []int{1004}, "uid": uid, "ret": "msgbus.system.reply"})
					}
					a.push("msgbus.system."+queue, m)
				}
				if n != 20 {
					want = append(want, msgbus.FormatUID(1001, n+1))
				}
			}

			crashes := countCrashes(a, func() bool {
				// At one instant: a recovery moves messages from claims to queues.
				tx := a.rdb.TxPipeline()
				queues := tx.Exists(t.Context(), "msgbus.system.local", "msgbus.system.remote", "msgbus.system.reply")
				claims := tx.Keys(t.Context(), "msgbus.system.claim.*")
				if _, err := tx.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
				return queues.Val() == 0 && len(claims.Val()) == 0
			})
			if least, most := 3, 3*len(killers); crashes < least || crashes > most { // one may count for each queue
				t.Errorf("%d crashes, want %d to %d", crashes, least, most)
			}
			var buried []string
			for _, letter := range a.letters() {
				buried = append(buried, fmt.Sprint(letter["queue"]))
				if letter["reason"] != "poison" || !has(letter["message"], killerData) {
					t.Errorf("buried: %v", letter)
				}
			}
			slices.Sort(buried)
			if !slices.Equal(buried, killers) {
				t.Errorf("buried from %v, want from %v", buried, killers)
			}
			if slices.Contains(killers, "local") {
				expect(t, "the app", a.pop("app.killer"), map[string]any{"err": "received invalid message: the relay ended three times while it handled this message"})
			}
			if n := a.length("app.killer"); n != 0 {
				t.Errorf("%d more errors for apps", n)
			}
			expectServed(t, a, want)
		})
	}
}

// countCrashes runs victims, one after the other, until there is nothing left
// to do, and returns how many died.
func countCrashes(a *site, done func() bool) (crashes int) {
	t := a.t
	t.Helper()
	start := func() *child.Process {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asVictim+"="+a.redis.URL())
		cmd.Stderr = a.log
		p, err := child.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	p := start()
	eventually(t, "all is dealt with", func() bool {
		select {
		case <-p.Done():
			if crashes++; crashes > 12 {
				t.Fatalf("the relay died %d times", crashes)
			}
			p = start()
			return false
		default:
			return done()
		}
	})
	p.Kill()
	return crashes
}

// expectServed looks for every bystander in its place, once and in order.
func expectServed(t *testing.T, a *site, want []string) {
	t.Helper()
	var requests, replies []string
	for _, raw := range a.rdb.LRange(t.Context(), "msgbus.x", 0, -1).Val() {
		requests = append(requests, fmt.Sprint(parse(t, raw)["uid"]))
	}
	if !slices.Equal(requests, want) {
		t.Errorf("the service got %v,\nwant %v", requests, want)
	}
	for _, id := range a.rdb.ZRange(t.Context(), "msgbus.system.lane.1004.replies", 0, -1).Val() {
		replies = append(replies, strings.Fields(id)[2])
	}
	if !slices.Equal(replies, want) {
		t.Errorf("replies on the lane: %v,\nwant %v", replies, want)
	}
	var admitted []string
	for n := range want {
		raw := a.rdb.HGet(t.Context(), "msgbus.system.backlog", msgbus.FormatUID(1002, uint64(n+1))).Val()
		if raw == "" {
			t.Errorf("request 1002.%d is not there", n+1)
			continue
		}
		var number uint64
		_, _ = fmt.Sscanf(fmt.Sprint(parse(t, raw)["dat"]), "%d", &number)
		admitted = append(admitted, msgbus.FormatUID(1001, number))
	}
	if n := len(a.waiting()); !slices.Equal(admitted, want) || n != len(want) {
		t.Errorf("%d were admitted: %v,\nwant %v", n, admitted, want)
	}
}
