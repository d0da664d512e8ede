package fleettest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// A Process is a msgbusd that this test started, with its output.
type Process struct {
	t      testing.TB
	name   string
	log    string // path of what it writes
	Proc   *child.Process
	asked  sync.Once // to end: a second SIGTERM would end it at once
	ended  bool      // the test has seen to its end
	killed bool
}

// StartProcess starts msgbusd. The process ends with the test, and must end
// well: with status 0, and never with a race or a panic.
func StartProcess(t testing.TB, name string, env []string, args ...string) *Process {
	t.Helper()
	return start(t, []string{binary}, name, env, args...)
}

// start is StartProcess with another program, or by means of another command, which
// must become msgbusd and not start it.
func start(t testing.TB, program []string, name string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, log: filepath.Join(t.TempDir(), "stderr")}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the process has its own descriptor
	line := append(append([]string(nil), program...), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.Dir = filepath.Dir(p.log)
	cmd.Stdout, cmd.Stderr = out, out
	if p.Proc, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			most := 12_000
			if p.killed {
				most = 500 // its successor has more to tell
			}
			t.Logf("%s, pid %d, said:\n%s", name, p.Proc.Pid(), Tail(p.Said(), most))
		}
	})
	return p
}

// end stops the process and looks at how it ends.
func (p *Process) end() {
	p.t.Helper()
	if !p.ended {
		p.Stop()
	}
	said := p.Said()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(said, bad) {
			p.t.Errorf("%s: %s", p.name, bad)
		}
	}
}

// Stop ends the process as systemd would, and wants it to end well.
func (p *Process) Stop() {
	p.t.Helper()
	p.Interrupt()
	p.WantExit(0)
}

func (p *Process) Interrupt() {
	p.asked.Do(func() { _ = p.Proc.Signal(syscall.SIGTERM) })
}

// Kill ends the process as a crash would.
func (p *Process) Kill() {
	p.ended, p.killed = true, true
	p.Proc.Kill()
}

// WantExit waits for the end of the process.
func (p *Process) WantExit(code int) {
	p.t.Helper()
	p.ended = true
	over := time.NewTimer(Patience)
	defer over.Stop()
	select {
	case <-p.Proc.Done():
	case <-over.C:
		p.Proc.Kill()
		p.t.Fatalf("%s has not ended within %s", p.name, Patience)
	}
	var exit *exec.ExitError
	got := 0
	if err := p.Proc.Err(); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		got = -1
	}
	if got != code {
		p.t.Errorf("%s ended with %v, want status %d", p.name, p.Proc.Err(), code)
	}
}

func (p *Process) HasEnded() bool {
	select {
	case <-p.Proc.Done():
		return true
	default:
		return false
	}
}

// Said returns what the process has written so far.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WantSaid waits until the process has written each of the texts.
func (p *Process) WantSaid(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		Eventually(p.t, p.name, func() error {
			ended := p.HasEnded() // looked at first: then it has said all
			if strings.Contains(p.Said(), text) {
				return nil
			}
			if ended {
				p.t.Fatalf("%s has ended and did not say %q", p.name, text)
			}
			return fmt.Errorf("it does not say %q", text)
		})
	}
}

func Tail(s string, most int) string {
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// A Daemon is a relay process.
type Daemon struct {
	*Process
	admin string // host:port
}

// AwaitReady waits until the relay serves.
func (d *Daemon) AwaitReady() {
	d.t.Helper()
	Eventually(d.t, d.name+" gets ready", func() error {
		if d.HasEnded() {
			d.ended = true
			d.t.Fatalf("%s has ended: %v", d.name, d.Proc.Err())
		}
		code, body, err := d.Look("/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d: %s", code, body)
		}
		return err
	})
}

// AwaitNotReady waits until the relay says why it does not serve.
func (d *Daemon) AwaitNotReady(reason string) {
	d.t.Helper()
	Eventually(d.t, d.name+" is not ready", func() error {
		code, body, err := d.Look("/readyz")
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(body, reason)) {
			err = fmt.Errorf("status %d: %s", code, body)
		}
		return err
	})
}

// Look asks the admin side.
func (d *Daemon) Look(path string) (code int, body string, err error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + d.admin + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = io.Copy(&text, resp.Body)
	return resp.StatusCode, text.String(), err
}

// Metrics returns what Prometheus sees: the value of each series.
func (d *Daemon) Metrics() map[string]float64 {
	d.t.Helper()
	code, body, err := d.Look("/metrics")
	if err != nil || code != http.StatusOK {
		d.t.Fatalf("/metrics of %s: status %d: %s, %v", d.name, code, body, err)
	}
	series := make(map[string]float64)
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			d.t.Fatalf("/metrics of %s says %q", d.name, line)
		}
		series[line[:space]] = value
	}
	return series
}
