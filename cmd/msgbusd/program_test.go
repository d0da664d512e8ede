package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// patience is how long a test waits for what must happen. Nobody waits so long
// when it does.
const patience = 30 * time.Second

// A program is a process of ours that a test waits for and stops.
type program struct {
	*child.Process
	cmd      *exec.Cmd
	out, err *watched
}

// startProgram runs a command until it is stopped or the test ends.
func startProgram(t testing.TB, dir string, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), out: newWatched(), err: newWatched()}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	var err error
	if p.Process, err = child.Start(p.cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(p.Kill)
	go func() {
		<-p.Done()
		p.out.end()
		p.err.end()
	}()
	return p
}

// stop sends a signal and returns the exit status; -1 is a death by signal.
func (p *program) stop(t testing.TB, sig os.Signal) int {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatalf("signal: %v; it said: %s", err, p.err)
	}
	return p.wait(t)
}

func (p *program) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.Done():
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		_ = p.Signal(syscall.SIGQUIT) // the Go runtime prints every goroutine
		<-p.Done()
		t.Fatalf("the process does not end; it said: %s", p.err)
		return 0
	}
}

// A watched is what a process writes, for tests that wait for a line of it.
type watched struct {
	mu      sync.Mutex
	text    []byte        // guarded by mu
	changed chan struct{} // closed and replaced at each change; guarded by mu
	ended   bool          // guarded by mu
}

func newWatched() *watched { return &watched{changed: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.change(func() { w.text = append(w.text, p...) })
	return len(p), nil
}

func (w *watched) end() { w.change(func() { w.ended = true }) }

func (w *watched) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// await waits until the text matches and returns the submatches.
func (w *watched) await(t testing.TB, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		w.mu.Lock()
		text, changed, ended := string(w.text), w.changed, w.ended
		w.mu.Unlock()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		if ended {
			t.Fatalf("it ended without %q; it said: %s", pattern, text)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no %q; it said: %s", pattern, text)
		}
	}
}

var _ io.Writer = (*watched)(nil)
