package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/freeport"
	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

const (
	// Generous, because a loaded CI machine starts processes slowly and loading
	// an append-only file takes its time too. Nobody waits for it on success.
	startTimeout = 30 * time.Second
	pollEvery    = 5 * time.Millisecond
	portTries    = 10
)

// A Server is a redis-server process with its own port and folder. It ends with
// the test that started it.
//
// Addr, URL, Port, Dir and Client may be used from any goroutine. The methods that
// end or start the process fail the test when they cannot, so they belong on
// the test's goroutine, one at a time.
type Server struct {
	t        testing.TB
	binary   string
	port     int
	dir      string
	password string
	socket   bool
	args     []string
	config   string   // of a sentinel: a file that it rewrites
	env      []string // beyond this process's own

	proc *child.Process // of the latest start, possibly ended
}

// An Option changes how [Start] starts redis-server.
type Option func(*Server)

// AppendOnly turns the append-only file on, with fsync "always" or "everysec".
// What was written then survives [Server.Kill] and [Server.Restart].
func AppendOnly(fsync string) Option {
	return func(s *Server) { s.args = append(s.args, "--appendonly", "yes", "--appendfsync", fsync) }
}

// Arg adds one setting to the command line, such as Arg("--maxmemory", "4mb").
func Arg(name string, values ...string) Option {
	return func(s *Server) { s.args = append(append(s.args, name), values...) }
}

// UnixSocket makes the server listen on a socket in its folder as well, see
// [Server.SocketURL].
func UnixSocket() Option {
	return func(s *Server) { s.socket = true }
}

// Password makes the server ask every client for a password.
func Password(password string) Option {
	return func(s *Server) { s.password = password }
}

// Start starts a redis-server and returns when it answers. It keeps nothing on
// disk unless an option says so. Without a redis-server on this machine the
// test fails: a suite that skips here would be green and say nothing.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redistest: redis-server is not installed; run: apt-get install redis-server")
	}
	s := &Server{t: t, binary: binary, dir: t.TempDir()}
	for _, opt := range opts {
		opt(s)
	}

	for range portTries {
		s.port = freeport.Draw(t)
		t.Cleanup(func() { // before the port is free again
			if s.proc != nil {
				s.proc.Kill()
			}
		})
		if err = s.run(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		t.Fatalf("redistest: start redis-server: %v", err)
	}
	return s
}

// Addr is host:port of the server.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port is the TCP port, the same after [Server.Restart]. The server listens there on
// 127.0.0.1 and, where the machine has it, on ::1: some clients only know "localhost".
func (s *Server) Port() int { return s.port }

// Dir is the server's folder: its data files, and its log in redis.log.
func (s *Server) Dir() string { return s.dir }

// URL is the server's redis:// URL, with the password if there is one.
func (s *Server) URL() string { return redisURL(s.Addr(), s.password) }

// SocketURL is the unix:// URL of a server that was started with [UnixSocket].
func (s *Server) SocketURL() string {
	u := url.URL{Scheme: "unix", Path: s.socketPath()}
	if s.password != "" {
		u.User = url.UserPassword("", s.password)
	}
	return u.String()
}

// Client is a new client, closed at the end of the test.
func (s *Server) Client() *redis.Client { return newClient(s.t, s.Addr(), s.password) }

// Kill ends the server with SIGKILL, as a crash would.
func (s *Server) Kill() { s.proc.Kill() }

// Shutdown ends the server in good order. With save it first writes its data set
// to Dir, where the next [Server.Restart] finds it (unless the server is [AppendOnly]:
// then the append-only file is what it loads).
func (s *Server) Shutdown(save bool) {
	s.t.Helper()
	how := "NOSAVE"
	if save {
		how = "SAVE"
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := redis.NewClient(clientOptions(s.Addr(), s.password))
	defer func() { _ = c.Close() }()

	// Success is a connection that ends without an answer, so the error tells
	// nothing by itself: the process is asked instead.
	err := c.Do(ctx, "SHUTDOWN", how).Err()
	select {
	case <-s.proc.Done():
	case <-ctx.Done():
		s.t.Fatalf("redistest: redis-server ignores SHUTDOWN %s: %v", how, err)
	}
}

// Restart starts the server anew on the same port and folder and returns when it
// answers, its data loaded. A server that still runs is killed first.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.run(); err != nil {
		s.t.Fatalf("redistest: restart redis-server: %v", err)
	}
}

// Stop freezes the process: connections stay open and nothing is answered.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends a Stop.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.proc.Signal(sig); err != nil {
		s.t.Fatalf("redistest: signal %v to redis-server: %v", sig, err)
	}
}

var errPortTaken = errors.New("port is taken")

// run starts the process and waits until it answers.
func (s *Server) run() error {
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor

	cmd := exec.Command(s.binary, s.commandLine()...)
	cmd.Dir = s.dir
	if s.env != nil {
		cmd.Env = append(os.Environ(), s.env...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = child.Start(cmd); err != nil {
		return err
	}
	return s.awaitReady()
}

func (s *Server) commandLine() []string {
	if s.config != "" {
		return []string{s.config, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "-::1", "--dir", s.dir, "--sentinel"}
	}
	args := []string{
		"--port", strconv.Itoa(s.port),
		"--bind", "127.0.0.1", "-::1", // the minus: do without where there is no IPv6
		"--dir", s.dir,
		"--save", "",
		"--appendonly", "no",
		"--daemonize", "no",
	}
	if s.socket {
		args = append(args, "--unixsocket", s.socketPath())
	}
	if s.password != "" {
		args = append(args, "--requirepass", s.password)
	}
	return append(args, s.args...) // last, so that an option overrides
}

func (s *Server) socketPath() string { return filepath.Join(s.dir, "redis.sock") }
func (s *Server) logPath() string    { return filepath.Join(s.dir, "redis.log") }

// awaitReady polls until the process answers with its data loaded.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()

	for {
		err := s.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.Done():
			return s.exitError()
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w; its log ends:\n%s", startTimeout, err, s.logTail())
		case <-tick.C:
		}
	}
}

// probe succeeds when the server answers and is the process that we started:
// on a taken port somebody else's would answer. It dials by itself first, because
// go-redis logs, waits and tries again when nobody listens yet.
func (s *Server) probe(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	_ = conn.Close()
	c := redis.NewClient(clientOptions(s.Addr(), s.password))
	defer func() { _ = c.Close() }()

	if err := c.Ping(ctx).Err(); err != nil {
		return err
	}
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.proc.Pid())) {
		return fmt.Errorf("another server answers on port %d", s.port)
	}
	return nil
}

func (s *Server) exitError() error {
	tail := s.logTail()
	if bytes.Contains(tail, []byte("Address already in use")) {
		return fmt.Errorf("%w: %d", errPortTaken, s.port)
	}
	return fmt.Errorf("redis-server ended (%v); its log ends:\n%s", s.proc.Err(), tail)
}

func (s *Server) logTail() []byte {
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-2000):]
}
