// Package clienttest runs the published clients of test/clients against a
// Redis, as processes of their own. They are what msgbusd has to serve and they
// cannot be changed, so they are built from the published packages unmodified.
// What each of them sends and expects is in test/clients/README.md.
package clienttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// The commands that every service has.
const (
	Add  = "calculator.add"  // the sum of its arguments
	Fail = "calculator.fail" // always an error
)

// Deadlines for what has gone wrong; nothing waits for them otherwise.
const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
	// A requester gives up first, and can then say what it was waiting for.
	giveUpAfter    = time.Minute
	requestTimeout = 2 * giveUpAfter
)

// A Program is one published client: a requester and a service.
type Program struct {
	Name string // for the name of a subtest

	requester, service []string // command lines
}

// Zos is the client of github.com/threefoldtech/zos/pkg/rmb, built by [BuildZos].
func Zos(t testing.TB) Program {
	t.Helper()
	binary := BuildZos(t)
	return Program{
		Name:      "zos",
		requester: []string{binary, "requester"},
		service:   []string{binary, "service"},
	}
}

// TS is the client of npm's ts-rmb-redis-client, installed by [InstallTS]. It
// finds its Redis at localhost, so that is where the port has to be.
func TS(t testing.TB) Program {
	t.Helper()
	dir := InstallTS(t)
	return Program{
		Name:      "ts",
		requester: []string{"node", filepath.Join(dir, "requester.js")},
		service:   []string{"node", filepath.Join(dir, "service.js")},
	}
}

// All is every published client.
func All(t testing.TB) []Program {
	t.Helper()
	return []Program{Zos(t), TS(t)}
}

// An Answer is what a requester makes of one reply.
type Answer struct {
	N      int    `json:"n"`      // of the request, from 0
	OK     bool   `json:"ok"`     // as expected: the right sum, or for Fail its error
	Result int    `json:"result"` // 0 with an error
	Err    string `json:"err"`    // "" without one
}

// Request asks twin dst for cmd, count times one after the other, through the
// Redis at redisPort, and returns the answers, expected or not. The test fails
// when there are fewer than count.
func (p Program) Request(t testing.TB, redisPort int, dst uint32, cmd string, count int) []Answer {
	t.Helper()
	var out, errs bytes.Buffer
	c := p.command(p.requester, redisPort,
		"--dst", fmt.Sprint(dst),
		"--cmd", cmd,
		"--count", strconv.Itoa(count),
		"--timeout", fmt.Sprint(giveUpAfter.Seconds()))
	c.Stdout, c.Stderr = &out, &errs
	proc, err := child.Start(c)
	if err != nil {
		t.Fatalf("clienttest: start the %s requester: %v", p.Name, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	select {
	case <-proc.Done():
	case <-ctx.Done():
		proc.Kill()
	}

	answers, err := decodeAnswers(&out)
	if err != nil || len(answers) != count {
		t.Fatalf("clienttest: the %s requester gave %d of %d answers (%v, %v); its stderr ends:\n%s",
			p.Name, len(answers), count, proc.Err(), err, tail(errs.Bytes()))
	}
	return answers
}

func decodeAnswers(out *bytes.Buffer) ([]Answer, error) {
	var answers []Answer
	for d := json.NewDecoder(out); d.More(); {
		var a Answer
		if err := d.Decode(&a); err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// A Service is a running service, which ends with its test.
//
// Redis may hand a message that comes right after to the connection of the
// service that has just ended. A test that starts another one uses another Redis.
type Service struct {
	t    testing.TB
	name string
	proc *child.Process
}

// Service starts a service that takes its requests from the Redis at redisPort,
// and returns when it is ready. Its stderr is logged if the test fails.
func (p Program) Service(t testing.TB, redisPort int) *Service {
	t.Helper()
	logPath := filepath.Join(t.TempDir(), p.Name+"-service.log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}

	c := p.command(p.service, redisPort)
	c.Stdout, c.Stderr = w, log
	proc, err := child.Start(c)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		t.Fatalf("clienttest: start the %s service: %v", p.Name, err)
	}
	t.Cleanup(func() {
		proc.Kill()
		_ = r.Close()
		if t.Failed() {
			t.Logf("stderr of the %s service ends:\n%s", p.Name, tailOf(logPath))
		}
	})

	if err := awaitReady(r); err != nil {
		t.Fatalf("clienttest: the %s service does not get ready: %v", p.Name, err)
	}
	return &Service{t: t, name: p.Name, proc: proc}
}

// awaitReady reads the one line that a service prints.
func awaitReady(r *os.File) error {
	if err := r.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return err
	}
	if line != "ready\n" {
		return fmt.Errorf("it prints %q", line)
	}
	return nil
}

// Stop asks the service to end, with SIGTERM, and waits until it has. The zos
// service takes up to 3 s: it looks up from its queue only that often.
func (s *Service) Stop() {
	s.t.Helper()
	if err := s.proc.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("clienttest: stop the %s service: %v", s.name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	select {
	case <-s.proc.Done():
	case <-ctx.Done():
		s.t.Fatalf("clienttest: the %s service ignores SIGTERM", s.name)
	}
	if err := s.proc.Err(); err != nil {
		s.t.Errorf("clienttest: the %s service ended with %v", s.name, err)
	}
}

func (p Program) command(line []string, redisPort int, args ...string) *exec.Cmd {
	c := exec.Command(line[0], line[1:]...)
	c.Args = append(c.Args, "--redis", fmt.Sprintf("127.0.0.1:%d", redisPort))
	c.Args = append(c.Args, args...)
	return c
}

func tailOf(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return tail(b)
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
