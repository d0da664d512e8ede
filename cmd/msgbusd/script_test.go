package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/msgbusd/msgbusd/internal/freeport"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/internal/tlstest"
)

// TestScripts runs testdata/script: what the program does, one behaviour a file.
// Besides testscript's own commands there are
//
//	exits CODE PROGRAM ARG…    run, and compare the exit status
//	redis NAME                 start a Redis server; $NAME is its address
//	redis-away NAME, redis-back NAME
//	address NAME…              find a free address for each
//	start NAME PROGRAM ARG…    run until it is stopped
//	await NAME PATTERN         wait for a line on its standard error
//	ended NAME CODE            wait for its end
//	halt NAME SIGNAL CODE      end it, and compare the exit status
//	certificate NAME…          NAME.crt and NAME.key for 127.0.0.1, of the authority in ca.pem
//	fleet                      two twins: $REDIS1, $REDIS2, $LISTEN1, $LISTEN2, $ADMIN1, $ADMIN2, $REGISTRY
//
// What a started process said is in NAME.err and NAME.out, once it has ended.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(7 * time.Minute), // for a program that should have ended, before go test ends all
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey{}] = &world{
				t: env.T().(testing.TB), programs: map[string]*program{}, servers: map[string]*redistest.Server{},
			}
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("PHRASE", phrase)
			env.Setenv("ALICE", alice)
			env.Setenv("BOB", bob)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      cmdExits,
			"redis":      cmdRedis,
			"redis-away": cmdRedisAway,
			"redis-back": cmdRedisBack,
			"address":    cmdAddress,
			"start":      cmdStart,
			"await":      cmdAwait,
			"ended":      cmdEnded,
			"halt":       cmdHalt,
			"fleet":      cmdFleet,

			"certificate": cmdCertificate,
		},
	})
}

const (
	phrase = "neck stage box cup core magic produce exercise happy rely vocal then"
	alice  = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY" // sr25519 of //Alice
	bob    = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty" // sr25519 of //Bob
)

type worldKey struct{}

// A world is what one script has started.
type world struct {
	t        testing.TB
	programs map[string]*program
	servers  map[string]*redistest.Server
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func need(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits CODE PROGRAM ARG…")
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit status %d, want %s", code, args[0])
	}
}

func cmdRedis(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "redis NAME")
	worldOf(ts).redis(ts, args[0])
}

func (w *world) redis(ts *testscript.TestScript, name string) *redistest.Server {
	s := redistest.Start(w.t)
	w.servers[name] = s
	ts.Setenv(name, s.Addr())
	ts.Setenv(name+"_PORT", strconv.Itoa(s.Port()))
	return s
}

func cmdRedisAway(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "redis-away NAME")
	worldOf(ts).servers[args[0]].Kill()
}

func cmdRedisBack(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "redis-back NAME")
	worldOf(ts).servers[args[0]].Restart()
}

func cmdAddress(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "address NAME…")
	for _, name := range args {
		ts.Setenv(name, freeport.Address(worldOf(ts).t))
	}
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "start NAME PROGRAM ARG…")
	worldOf(ts).start(ts, args[0], args[1], args[2:]...)
}

// start passes on what variables the script has set.
func (w *world) start(ts *testscript.TestScript, name, file string, args ...string) *program {
	var env []string
	for _, v := range []string{"HOME", "TMPDIR", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"} {
		env = append(env, v+"="+ts.Getenv(v))
	}
	p := startProgram(w.t, ts.Getenv("WORK"), env, file, args...)
	w.programs[name] = p
	ts.Setenv(name+"_PID", strconv.Itoa(p.Pid()))
	return p
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "await NAME PATTERN")
	worldOf(ts).programs[args[0]].err.await(worldOf(ts).t, args[1])
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "ended NAME CODE")
	worldOf(ts).ended(ts, args[0], args[1])
}

var signals = map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}

func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "halt NAME SIGNAL CODE")
	ts.Check(worldOf(ts).programs[args[0]].Signal(signals[args[1]]))
	worldOf(ts).ended(ts, args[0], args[2])
}

func (w *world) ended(ts *testscript.TestScript, name, code string) {
	p := w.programs[name]
	got := p.wait(w.t)
	for suffix, text := range map[string]*watched{".err": p.err, ".out": p.out} {
		ts.Check(os.WriteFile(ts.MkAbs(name+suffix), []byte(text.String()), 0o600))
	}
	ts.Logf("%s said:\n%s", name, p.err)
	if strconv.Itoa(got) != code {
		ts.Fatalf("%s: exit status %d, want %s", name, got, code)
	}
}

func cmdCertificate(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "certificate NAME…")
	ca := tlstest.New(worldOf(ts).t)
	ts.Check(os.Rename(ca.File, ts.MkAbs("ca.pem")))
	for _, name := range args {
		ca.Renew(tlstest.Pair{Certificate: ts.MkAbs(name + ".crt"), Key: ts.MkAbs(name + ".key")}, "127.0.0.1")
	}
}

func cmdFleet(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "fleet")
	w := worldOf(ts)
	cmdAddress(ts, false, []string{"REGISTRY", "LISTEN1", "LISTEN2", "ADMIN1", "ADMIN2"})
	type record struct {
		ID      int    `json:"id"`
		Account string `json:"account"`
		IP      string `json:"ip"`
	}
	records, err := json.Marshal([]record{{1001, alice, ts.Getenv("LISTEN1")}, {1002, bob, ts.Getenv("LISTEN2")}})
	ts.Check(err)
	file := filepath.Join(ts.Getenv("WORK"), "fleet.json")
	ts.Check(os.WriteFile(file, records, 0o600))
	w.start(ts, "registry", "msgbusd", "registry", "--file", file, "--listen", ts.Getenv("REGISTRY")).err.await(w.t, "serving twin records")
	for i, secret := range []string{"//Alice", "//Bob"} {
		n := strconv.Itoa(i + 1)
		redis := w.redis(ts, "REDIS"+n)
		w.start(ts, "daemon"+n, "msgbusd", "--substrate", "http://"+ts.Getenv("REGISTRY"), "--twin", fmt.Sprint(1001+i), "--mnemonics", secret,
			"--redis", redis.Addr(), "--listen", ts.Getenv("LISTEN"+n), "--admin-listen", ts.Getenv("ADMIN"+n), "--allow-network", "127.0.0.0/8", "--allow-port", "1-65535")
	}
	for _, name := range []string{"daemon1", "daemon2"} {
		w.programs[name].err.await(w.t, `serving .*twin=100`)
	}
}
