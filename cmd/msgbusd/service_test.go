package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A program that is cut off must not leave its own children running: after a
// day of time-outs the machine would be full of them.
func TestCuttingOffEndsWhatTheProgramStarted(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		alive, err := os.Open(fifo) // returns when the grandchild has opened it
		cancel()
		if err == nil {
			defer alive.Close()
			_, err = io.ReadAll(alive) // returns when the grandchild is gone
		}
		ended <- err
	}()
	s := &service{program: "/bin/sh", args: []string{"-c", `sleep 600 >"$0" & wait`, fifo}, timeout: 2 * patience}
	if _, err := s.run(ctx, &msgbus.Message{}, nil); err == nil {
		t.Error("no error")
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("what the program started goes on")
	}
}

// The caller gets the program's last words, however many it has.
func TestTailKeepsTheLastLine(t *testing.T) {
	for _, c := range []struct{ written, want string }{
		{"", ""},
		{"one", "one"},
		{"one\ntwo\n\n", "two"},
		{strings.Repeat("x", 10) + "\nlast\n", "last"},
		{strings.Repeat("x", 30), strings.Repeat("x", 20)},
	} {
		w := &tail{most: 20}
		for i := range len(c.written) {
			if _, err := w.Write([]byte(c.written[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.lastLine(); got != c.want {
			t.Errorf("%q: %q, want %q", c.written, got, c.want)
		}
	}
}
