package backlog_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// The address that worked with the archived daemon does not start this one.
func TestAddressOfRedisIsReadInAllItsForms(t *testing.T) {
	for _, tc := range []struct {
		url, network, addr, user, password string
		db                                 int
		tls                                bool
	}{
		{url: "localhost:6379", network: "tcp", addr: "localhost:6379"},
		{url: "[::1]:6379", network: "tcp", addr: "[::1]:6379"},
		{url: "tcp://127.0.0.1:6379", network: "tcp", addr: "127.0.0.1:6379"},
		{url: "redis://u:p%40ss@h:1/2", network: "tcp", addr: "h:1", user: "u", password: "p@ss", db: 2},
		{url: "rediss://h:1", network: "tcp", addr: "h:1", tls: true},
		{url: "/run/redis.sock", network: "unix", addr: "/run/redis.sock"},
		{url: "unix:///run/redis.sock?db=3", network: "unix", addr: "/run/redis.sock", db: 3},
	} {
		where, err := backlog.ParseURL(tc.url)
		if err != nil {
			t.Errorf("%s: %v", tc.url, err)
			continue
		}
		o := where.Options
		if o.Network != tc.network || o.Addr != tc.addr || o.Username != tc.user || o.Password != tc.password || o.DB != tc.db {
			t.Errorf("%s is read as %s %s user %q password %q db %d", tc.url, o.Network, o.Addr, o.Username, o.Password, o.DB)
		}
		if got := o.TLSConfig != nil && o.TLSConfig.MinVersion == tls.VersionTLS12; got != tc.tls {
			t.Errorf("%s: TLS 1.2 or better is %v, want %v", tc.url, got, tc.tls)
		}
	}
}

// A password with a typing error beside it lands in the log.
func TestErrorAboutAnAddressDoesNotShowThePassword(t *testing.T) {
	for _, url := range []string{
		"redis://user:secret@host:port/0", "http://user:secret@host:1", "secret@host", "user:secret@host:1:2", "redis://user:secret@h:1/x",
		"unix://user:secret@", "redis://user:sec%zzret@h:1",
	} {
		_, err := backlog.ParseURL(url)
		if err == nil {
			continue // some are readable after all
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// What stands in the place of Redis, and quotes all that it does not know, has the
// password written into the journal.
//
// Broken by: in discreet, err in any case.
func TestAServerThatQuotesThePasswordIsNotQuoted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	quoted := make(chan string, 100)
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { quoteAll(c, quoted) })
		}
	})
	for _, user := range []string{"", "user"} {
		opts, err := backlog.ParseURL("redis://" + user + ":hunter2@" + l.Addr().String())
		if err != nil {
			t.Error(err)
			continue
		}
		store, err := backlog.Open(backlog.Options{Redis: opts})
		if err != nil {
			t.Error(err)
			continue
		}
		err = store.Ping(t.Context())
		_ = store.Close()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("user %q: %v", user, err)
		}
	}
	_ = l.Close()
	group.Wait()
	close(quoted)
	said := false
	for line := range quoted {
		said = said || strings.Contains(line, "AUTH") && strings.Contains(line, "hunter2")
	}
	if !said {
		t.Error("the server was not given the password: this test shows nothing")
	}
}

// quoteAll answers each command of a client with an error that quotes it.
func quoteAll(c net.Conn, quoted chan<- string) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		n, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
		if err != nil {
			return
		}
		var words []string
		for range n {
			lines.Scan() // the length of the word
			if !lines.Scan() {
				return
			}
			words = append(words, lines.Text())
		}
		answer := "-ERR unknown command '" + strings.ToUpper(words[0]) + "', with args beginning with: '" + strings.Join(words[1:], "' '") + "'"
		quoted <- answer
		if _, err := io.WriteString(c, answer+"\r\n"); err != nil {
			return
		}
	}
}

// A Redis with a password, or one that is reached by its socket only, cannot
// be used.
func TestStoreWorksOverASocketAndWithAPassword(t *testing.T) {
	server := redistest.Start(t, redistest.UnixSocket(), redistest.Password("p@ss:word/"))
	for _, url := range []string{server.URL(), server.SocketURL()} {
		r := &rig{T: t, rdb: server.Client(), url: url, real: server}
		s := r.join()
		r.push(localQueue, "one")
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "messages", len(c.Messages), 1)
		r.must(s.Drop(r.Context(), c))
	}
}
