package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// A process is a msgbusd that this test started, with its output.
type process struct {
	t     testing.TB
	name  string
	log   string // path of what it writes
	proc  *child.Process
	asked sync.Once // to end: a second SIGTERM would end it at once
	ended bool      // the test has seen to its end
}

// startProcess starts msgbusd. The process ends with the test, and must end
// well: with status 0, and never with a race or a panic.
func startProcess(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, log: filepath.Join(t.TempDir(), "stderr")}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the process has its own descriptor
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.Dir = filepath.Dir(p.log)
	cmd.Stdout, cmd.Stderr = out, out
	if p.proc, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s, pid %d, said:\n%s", name, p.proc.Pid(), tail(p.said(), 12_000))
		}
	})
	return p
}

// end stops the process and looks at how it ends.
func (p *process) end() {
	p.t.Helper()
	if !p.ended {
		p.stop()
	}
	said := p.said()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(said, bad) {
			p.t.Errorf("%s: %s", p.name, bad)
		}
	}
}

// stop ends the process as systemd would, and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	p.interrupt()
	p.wantExit(0)
}

func (p *process) interrupt() {
	p.asked.Do(func() { _ = p.proc.Signal(syscall.SIGTERM) })
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.ended = true
	p.proc.Kill()
}

// wantExit waits for the end of the process.
func (p *process) wantExit(code int) {
	p.t.Helper()
	p.ended = true
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case <-p.proc.Done():
	case <-over.C:
		p.proc.Kill()
		p.t.Fatalf("%s has not ended within %s", p.name, patience)
	}
	var exit *exec.ExitError
	got := 0
	if err := p.proc.Err(); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		got = -1
	}
	if got != code {
		p.t.Errorf("%s ended with %v, want status %d", p.name, p.proc.Err(), code)
	}
}

func (p *process) hasEnded() bool {
	select {
	case <-p.proc.Done():
		return true
	default:
		return false
	}
}

// said returns what the process has written so far.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// wantSaid waits until the process has written each of the texts.
func (p *process) wantSaid(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		eventually(p.t, p.name, func() error {
			ended := p.hasEnded() // looked at first: then it has said all
			if strings.Contains(p.said(), text) {
				return nil
			}
			if ended {
				p.t.Fatalf("%s has ended and did not say %q", p.name, text)
			}
			return fmt.Errorf("it does not say %q", text)
		})
	}
}

func tail(s string, most int) string {
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// A daemon is a relay process.
type daemon struct {
	*process
	admin string // host:port
}

// awaitReady waits until the relay serves.
func (d *daemon) awaitReady() {
	d.t.Helper()
	eventually(d.t, d.name+" gets ready", func() error {
		if d.hasEnded() {
			d.ended = true
			d.t.Fatalf("%s has ended: %v", d.name, d.proc.Err())
		}
		code, body, err := d.look("/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d: %s", code, body)
		}
		return err
	})
}

// awaitNotReady waits until the relay says why it does not serve.
func (d *daemon) awaitNotReady(reason string) {
	d.t.Helper()
	eventually(d.t, d.name+" is not ready", func() error {
		code, body, err := d.look("/readyz")
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(body, reason)) {
			err = fmt.Errorf("status %d: %s", code, body)
		}
		return err
	})
}

// look asks the admin side.
func (d *daemon) look(path string) (code int, body string, err error) {
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
