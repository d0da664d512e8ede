package redistest_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a suite that runs on both servers asks for.
type server interface {
	Addr() string
	URL() string
	Client() *redis.Client
}

func TestBothServersAnswerByAddressAndURL(t *testing.T) {
	for name, s := range map[string]server{
		"real":               redistest.Start(t),
		"real with password": redistest.Start(t, redistest.Password("p@ss:word/")),
		"embedded":           redistest.Embedded(t),
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatalf("by address: %v", err)
			}
			if got := get(t, dialURL(t, s.URL()), "k"); got != "v" {
				t.Errorf("by URL: k = %q, want %q", got, "v")
			}
		})
	}
}

func TestServerListensOnLocalhostInIPv4AndIPv6(t *testing.T) {
	s := redistest.Start(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		if ln, err := net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			t.Logf("this machine has no %s: %v", host, err)
			continue
		} else if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("a client of localhost is refused: %v", err)
			continue
		}
		_ = conn.Close()
	}
}

func TestSocketAnswers(t *testing.T) {
	s := redistest.Start(t, redistest.UnixSocket(), redistest.Password("secret"))
	if err := dialURL(t, s.SocketURL()).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordIsAskedFor(t *testing.T) {
	s := redistest.Start(t, redistest.Password("secret"))
	err := dialURL(t, "redis://"+s.Addr()).Ping(t.Context()).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Fatalf("PING without a password: %v, want NOAUTH", err)
	}
}

func TestArgReachesTheServer(t *testing.T) {
	s := redistest.Start(t, redistest.Arg("--maxmemory", "4mb"))
	got, err := s.Client().ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil {
		t.Fatal(err)
	}
	if want := "4194304"; got["maxmemory"] != want {
		t.Errorf("maxmemory = %s, want %s", got["maxmemory"], want)
	}
}

// A durability test that runs on a server which forgets would pass for the
// wrong reason, or fail for one; so what survives what is pinned here.
func TestRestartKeepsWhatTheOptionsPromise(t *testing.T) {
	shutdown := func(save bool) func(*redistest.Server) {
		return func(s *redistest.Server) { s.Shutdown(save) }
	}
	for _, tc := range []struct {
		name string
		opts []redistest.Option
		end  func(*redistest.Server)
		want string
	}{
		{"nothing after a kill", nil, (*redistest.Server).Kill, ""},
		{"nothing after a shutdown without save", nil, shutdown(false), ""},
		{"all after a shutdown with save", nil, shutdown(true), "v"},
		{"all after a kill, append only", []redistest.Option{redistest.AppendOnly("always")}, (*redistest.Server).Kill, "v"},
		{"nothing after a restart alone", nil, func(*redistest.Server) {}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := redistest.Start(t, tc.opts...)
			c, addr := s.Client(), s.Addr()
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			tc.end(s)
			s.Restart()
			if s.Addr() != addr {
				t.Errorf("address changed from %s to %s", addr, s.Addr())
			}
			if got := get(t, s.Client(), "k"); got != tc.want {
				t.Errorf("k = %q, want %q", got, tc.want)
			}
		})
	}
}

// A killed server must refuse, or a test of an outage tests nothing.
func TestKilledServerRefusesConnections(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	if _, err := net.Dial("tcp", s.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

func TestStoppedServerIsSilentUntilContinued(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a stopped server answers")
	}

	s.Continue()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after Continue: %v", err)
	}
}

// The cleanup of a test that fails while its server is stopped must not hang.
func TestStoppedServerEndsWithItsTest(t *testing.T) {
	var addr string
	t.Run("test", func(t *testing.T) {
		s := redistest.Start(t)
		addr = s.Addr()
		s.Stop()
	})
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// Parallel tests that shared a server would see each other's keys.
func TestServersOfParallelTestsAreApart(t *testing.T) {
	for _, name := range []string{"a", "b", "c", "d"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := redistest.Start(t).Client()
			if first, err := c.SetNX(t.Context(), "k", name, 0).Result(); err != nil || !first {
				t.Errorf("SETNX: %v, %v; want the server to be empty", first, err)
			}
		})
	}
}

// Without a redis-server the suite must be red and say what to install.
func TestMissingServerFailsTheTestAndSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := failing(t, func(tb testing.TB) { redistest.Start(tb) })
	if want := "apt-get install redis-server"; !strings.Contains(f, want) {
		t.Errorf("failure is %q, want it to contain %q", f, want)
	}
}

func TestWrongOptionFailsWithTheServersOwnWords(t *testing.T) {
	f := failing(t, func(tb testing.TB) { redistest.Start(tb, redistest.Arg("--no-such-setting", "1")) })
	if want := "no-such-setting"; !strings.Contains(f, want) {
		t.Errorf("failure is %q, want it to contain %q", f, want)
	}
}

func dialURL(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func get(t *testing.T, c *redis.Client, key string) string {
	t.Helper()
	v, err := c.Get(t.Context(), key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return v
}
