package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// notifySocket stands in for systemd: what units tell it, one state a line.
func notifySocket(t *testing.T) (path string, heard *watched) {
	t.Helper()
	// Not t.TempDir(): a socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	heard = newWatched()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				heard.end()
				return
			}
			fmt.Fprintf(heard, "%s\n", buf[:n])
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return path, heard
}

// startRegistry serves one twin, 1001 of //Alice.
func startRegistry(t *testing.T) (url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "twins.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `[{"id":1001,"account":%q}]`, alice), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, t.TempDir(), nil, "msgbusd", "registry", "--file", file, "--listen", "127.0.0.1:0")
	return "http://" + p.err.await(t, `listen=(\S+)`)[1]
}

func startDaemon(t *testing.T, env []string, redis *redistest.Server, args ...string) *program {
	t.Helper()
	args = append([]string{"--mnemonics", "//Alice", "--redis", redis.URL(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)
	return startProgram(t, t.TempDir(), env, "msgbusd", args...)
}

// systemd starts what depends on the relay when it is ready, shows what it
// waits for until then, restarts it when it makes no progress, and must not
// take a stop for a crash.
func TestSystemdHearsOfEveryStage(t *testing.T) {
	socket, heard := notifySocket(t)
	redis := redistest.Start(t)
	registry := startRegistry(t)
	redis.Shutdown(false)
	d := startDaemon(t, []string{"NOTIFY_SOCKET=" + socket}, redis, "--substrate", registry)
	heard.await(t, `(?m)^STATUS=waiting for Redis: .*connection refused$`)
	if strings.Contains(heard.String(), "READY=1") {
		t.Errorf("ready without Redis: %s", heard)
	}
	redis.Restart()
	heard.await(t, `(?m)^READY=1\nSTATUS=serving twin 1001$`)
	heard.await(t, `READY=1[^$]*\nWATCHDOG=1\n`)
	heard.await(t, `(?m)^STATUS=serving twin 1001: queued 0, in flight 0, peers down 0$`)
	if strings.Contains(heard.String(), "STOPPING") {
		t.Errorf("stopping before the stop: %s", heard)
	}
	if code := d.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit status %d; it said: %s", code, d.err)
	}
	heard.await(t, `(?m)^STOPPING=1\nSTATUS=stopping$`)
}

// systemctl status shows what waits here, what waits for replies and which twins are
// gone, and each of them must be that.
func TestStatusLineTellsWhatWaitsWhere(t *testing.T) {
	o := &inspect.Overview{}
	o.Queues.Local, o.Lanes.Requests, o.Stats.Waiting, o.Census.Dead = 2, 10, 13, 1
	o.Lanes.States = map[backlog.LaneState]int{backlog.LaneFailing: 1, backlog.LaneSending: 5}
	if got, want := statusLine(7, o), "serving twin 7: queued 12, in flight 3, peers down 1, dead letters 1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// An operator who cannot wait for the drain sends a second signal.
func TestSecondSignalEndsTheDaemonAtOnce(t *testing.T) {
	socket, heard := notifySocket(t)
	redis := redistest.Start(t)
	d := startDaemon(t, []string{"NOTIFY_SOCKET=" + socket}, redis, "--substrate", startRegistry(t))
	heard.await(t, "READY=1")
	// A Redis that does not answer keeps the relay from giving back what it holds.
	redis.Stop()
	t.Cleanup(redis.Continue)
	if err := d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	heard.await(t, "STOPPING=1")
	// The first ones may count as one with that: some tools signal twice.
	again := time.NewTicker(together)
	defer again.Stop()
	for ended := false; !ended; {
		select {
		case <-d.Done():
			ended = true
		case <-again.C:
			_ = d.Signal(syscall.SIGTERM)
		}
	}
	if code := d.wait(t); code != exitError {
		t.Errorf("exit status %d, want %d; it said: %s", code, exitError, d.err)
	}
	if text := d.err.String(); !strings.Contains(text, "ended at once by a second signal") || strings.Contains(text, "stopped") {
		t.Errorf("it said: %s", text)
	}
}

// journald adds the time itself: ours would be there twice. Without a priority of each
// line journalctl -p warning shows nothing of the relay.
func TestNoTimeOfItsOwnUnderJournald(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)
	twins := filepath.Join(t.TempDir(), "twins.json")
	if err := os.WriteFile(twins, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, heard := notifySocket(t)
	withTime := regexp.MustCompile(`^\d\d:\d\d:\d\d INF serving`)
	for _, c := range []struct {
		stderr string
		want   bool
	}{{"2>" + name, false}, {"", true}} {
		p := startProgram(t, t.TempDir(), []string{stream, "NOTIFY_SOCKET=" + socket}, "sh", "-c",
			"exec msgbusd registry --listen 127.0.0.1:0 --file "+twins+" "+c.stderr)
		heard.await(t, "READY=1")
		if c.stderr == "" {
			p.err.await(t, "serving")
		}
		if code := p.stop(t, syscall.SIGTERM); code != exitOK {
			t.Fatalf("exit status %d", code)
		}
		text := p.err.String()
		if c.stderr != "" {
			journal, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = string(journal)
		}
		if got := strings.HasPrefix(text, "<6>INF serving"); got == c.want {
			t.Errorf("stderr %q: %q begins with a priority: %v", c.stderr, text, got)
		}
		if got := withTime.MatchString(text); got != c.want || !strings.Contains(text, "INF serving") {
			t.Errorf("stderr %q: %q has a time: %v, want %v", c.stderr, text, got, c.want)
		}
	}
}
