package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	// mostAnswer is what fits into a message of 4 MiB in base64, with the rest.
	mostAnswer = 3_000_000
	// mostStderr is how much of a program's last words is kept.
	mostStderr = 4 << 10
)

// A service is a program that answers one request each time it runs.
type service struct {
	program string
	args    []string
	timeout time.Duration
}

// run returns what the program writes, or an error with the text that the
// caller gets.
func (s *service) run(ctx context.Context, m *msgbus.Message, data []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, s.args...)
	// A group of its own: Ctrl-C in a terminal is for msgbusd, which lets the
	// program finish, and the time limit is for what the program starts too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("MSGBUS_SRC=%d", m.Source), "MSGBUS_CMD="+m.Command, "MSGBUS_UID="+m.UID)
	cmd.Stdin = bytes.NewReader(data)
	out, errOut := &head{most: mostAnswer}, &tail{most: mostStderr}
	cmd.Stdout, cmd.Stderr = out, errOut
	err := cmd.Run()
	last := errOut.lastLine()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("the service did not finish within %s", s.timeout)
	case out.over:
		return nil, fmt.Errorf("the answer of the service is over %d bytes", mostAnswer)
	case err != nil && last != "":
		return nil, errors.New(last)
	case err != nil:
		return nil, fmt.Errorf("the service failed: %w", err)
	}
	return out.text, nil
}

// A head keeps the beginning of what is written.
type head struct {
	text []byte
	most int
	over bool // there was more
}

func (h *head) Write(p []byte) (int, error) {
	keep := min(len(p), h.most-len(h.text))
	h.over = h.over || keep < len(p)
	h.text = append(h.text, p[:keep]...)
	return len(p), nil // a program must not die of our limit in the middle
}

// A tail keeps the end of what is written.
type tail struct {
	text []byte
	most int
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - t.most; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.text), "\uFFFD"))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
