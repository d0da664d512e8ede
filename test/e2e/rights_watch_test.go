package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redisacl"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A watch sees what a Redis is sent, and by whom: each role has an address of its own, which
// passes everything on, and MONITOR tells what comes from where, with what scripts send.
type watch struct {
	t      *testing.T
	server *redistest.Server
	lines  net.Conn // of MONITOR
	ended  chan struct{}

	addresses map[redisacl.Role]string

	mu        sync.Mutex
	roles     map[string]redisacl.Role // by the address that Redis sees; guarded by mu, like what follows
	monitored []string
}

func newWatch(t *testing.T, server *redistest.Server) *watch {
	t.Helper()
	w := &watch{t: t, server: server, ended: make(chan struct{}), addresses: make(map[redisacl.Role]string), roles: make(map[string]redisacl.Role)}
	var err error
	if w.lines, err = net.Dial("tcp", server.Addr()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w.lines, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(w.lines)
	if answer, err := lines.ReadString('\n'); err != nil || answer != "+OK\r\n" {
		t.Fatalf("MONITOR is answered %q, %v", answer, err)
	}
	go func() {
		defer close(w.ended)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			w.mu.Lock()
			w.monitored = append(w.monitored, line)
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = w.lines.Close()
		<-w.ended
	})
	for role := range redisacl.App + 1 {
		w.listen(role)
	}
	return w
}

// listen gives a role its address.
func (w *watch) listen(role redisacl.Role) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { w.pass(c, role) })
		}
	})
	w.t.Cleanup(func() {
		_ = l.Close()
		w.server.Kill() // which ends every connection
		group.Wait()
	})
	w.addresses[role] = l.Addr().String()
}

func (w *watch) pass(c net.Conn, role redisacl.Role) {
	defer c.Close()
	to, err := net.Dial("tcp", w.server.Addr())
	if err != nil {
		return
	}
	defer to.Close()
	w.mu.Lock()
	w.roles[to.LocalAddr().String()] = role
	w.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = io.Copy(to, c)
		_ = to.Close()
	})
	_, _ = io.Copy(c, to)
	_ = c.Close()
	group.Wait()
}

// commands are what each role has sent, with the options of each: sent["zadd"]["NX"].
type commands [redisacl.App + 1]map[string]map[string]bool

func newCommands() *commands {
	c := new(commands)
	for role := range c {
		c[role] = make(map[string]map[string]bool)
	}
	return c
}

var (
	monitoredLine = regexp.MustCompile(`^\+[0-9.]+ \[\d+ (\S+)\] (.*)\r\n$`)
	quotedWord    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// addTo adds what came until now.
func (w *watch) addTo(all *commands) {
	w.t.Helper()
	// What comes before this was sent before.
	const last = "that was all"
	rdb := w.server.Client()
	if err := rdb.Echo(w.t.Context(), last).Err(); err != nil {
		w.t.Fatal(err)
	}
	var role redisacl.Role
	ours := false
	for i := 0; ; i++ {
		line := w.line(i)
		if strings.Contains(line, last) {
			return
		}
		m := monitoredLine.FindStringSubmatch(line)
		if m == nil {
			w.t.Fatalf("MONITOR says %q", line)
		}
		if m[1] != "lua" { // that is of the script before it
			w.mu.Lock()
			role, ours = w.roles[m[1]]
			w.mu.Unlock()
		}
		var words []string
		for _, q := range quotedWord.FindAllString(m[2], -1) {
			word, err := strconv.Unquote(q)
			if err != nil { // data that Valkey quotes in its own way
				word = q
			}
			words = append(words, word)
		}
		if ours {
			all.note(role, words)
		}
	}
}

func (w *watch) line(i int) string {
	w.t.Helper()
	var line string
	fleettest.Eventually(w.t, "MONITOR tells the rest", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if i >= len(w.monitored) {
			return fmt.Errorf("%d lines", len(w.monitored))
		}
		line = w.monitored[i]
		return nil
	})
	return line
}

// note notes a command with its options: words in capitals are told from values by what
// Redis knows of the command.
func (c *commands) note(role redisacl.Role, words []string) {
	name := strings.ToLower(words[0])
	rest := words[1:]
	if parts[name] && len(rest) > 0 {
		name, rest = name+"|"+strings.ToLower(rest[0]), rest[1:]
	}
	if c[role][name] == nil {
		c[role][name] = make(map[string]bool)
	}
	for _, word := range rest {
		c[role][name][strings.ToUpper(word)] = true
	}
}

// parts are the commands whose second word is a part of their name.
var parts = map[string]bool{"acl": true, "client": true, "command": true, "config": true, "function": true, "memory": true, "object": true, "pubsub": true, "script": true, "xgroup": true, "xinfo": true}

// handshake is what no right is needed for, or what a connection sends by itself.
var handshake = map[string]bool{"hello": true, "auth": true}

// admin notes what MONITOR does not show.
func (c *commands) admin(t *testing.T, rdb *redis.Client) {
	t.Helper()
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stats, "cmdstat_config|get:") {
		c.note(redisacl.Operator, []string{"config", "get", "x"})
	}
}

var (
	luaComment = regexp.MustCompile(`--.*`)
	luaWord    = regexp.MustCompile(`'([A-Za-z]+)'`)
)

// scripts notes what stands in scripts: every word that is a command of Redis, in capitals,
// with the words behind it.
func (c *commands) scripts(t *testing.T, role redisacl.Role, pattern string, known map[string]map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts at %s: %v", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(luaComment.ReplaceAllString(string(text), "")) {
			var words []string
			for _, m := range luaWord.FindAllStringSubmatch(line, -1) {
				words = append(words, m[1])
			}
			for i, word := range words {
				// A word that is an option of the command before it is none itself.
				isOption := i > 0 && slices.ContainsFunc(words[:i], func(w string) bool { return known[strings.ToLower(w)][word] })
				if known[strings.ToLower(word)] != nil && strings.ToUpper(word) == word && !isOption {
					c.note(role, words[i:])
				}
			}
		}
	}
}

// compare holds what was sent to the lists.
func (c *commands) compare(t *testing.T, known map[string]map[string]bool) {
	t.Helper()
	for role := range redisacl.App + 1 {
		sent := c[role]
		listed := make(map[string]bool)
		allowed := redisacl.Commands(role)
		if role == redisacl.Operator { // who may what the relay may
			for _, cmd := range redisacl.Commands(redisacl.Relay) {
				for _, option := range cmd.Options {
					c[redisacl.Relay][cmd.Name][option] = c[redisacl.Relay][cmd.Name][option] || sent[cmd.Name][option]
				}
				listed[cmd.Name] = true
			}
		}
		for _, cmd := range allowed {
			listed[cmd.Name] = true
			if sent[cmd.Name] == nil {
				t.Errorf("role %d: %s is listed, and nobody sends it", role, cmd.Name)
				continue
			}
			for option := range known[cmd.Name] {
				if used := sent[cmd.Name][option]; used != slices.Contains(cmd.Options, option) {
					t.Errorf("role %d: %s %s is sent: %v; listed: %v", role, cmd.Name, option, used, !used)
				}
			}
		}
		for name := range sent {
			if !listed[name] && !handshake[name] {
				t.Errorf("role %d: %s is sent, and not listed", role, name)
			}
		}
	}
}

// knownCommands are Redis's own commands, each with the words of its options.
func knownCommands(t *testing.T, rdb *redis.Client) map[string]map[string]bool {
	t.Helper()
	docs, err := rdb.Do(t.Context(), "command", "docs").Result()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]map[string]bool)
	var add func(docs any)
	add = func(docs any) {
		commands, _ := docs.(map[any]any)
		for name, about := range commands {
			about := about.(map[any]any)
			options := make(map[string]bool)
			optionWords(about["arguments"], options)
			known[name.(string)] = options
			add(about["subcommands"])
		}
	}
	add(docs)
	return known
}

func optionWords(arguments any, into map[string]bool) {
	list, _ := arguments.([]any)
	for _, a := range list {
		argument := a.(map[any]any)
		if token, ok := argument["token"].(string); ok && redisacl.IsOption(token) {
			into[token] = true
		}
		optionWords(argument["arguments"], into)
	}
}
