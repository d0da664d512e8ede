package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/redistest"
)

// The phrase of another twin in the file: other relays would refuse all that
// this one signs, and nobody would know why.
func TestWrongKeyIsToldAtTheStart(t *testing.T) {
	t.Parallel()
	f := newFleetOfProcesses(t)
	a := f.site(1001)
	other := newPerson(t, 99)
	f.register(a.id, other.identity.Account(), a.listen)
	d := a.launch()
	d.wantExit(1)
	d.wantSaid("the key given is "+a.identity.Account()+", but twin 1001 is registered with "+other.identity.Account(), "hint: ")

	// Somebody corrects the record; the unit starts the relay again.
	f.register(a.id, a.identity.Account(), a.listen)
	a.start()
	a.echo()
	a.wantAnswer(a.id)
}

// A twin that is not registered: said, with what to look at.
func TestUnregisteredTwinIsToldAtTheStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.without("--twin")
	d := a.launch("--twin", "4711")
	d.wantExit(1)
	d.wantSaid("twin 4711 is not registered", "hint: ")
}

// After a power cut the relay is up before Redis. It must wait, say so, and
// serve what comes then, without a hand.
func TestRelayWaitsForRedisAtTheStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001, redistest.AppendOnly("always")), f.site(1002)
	b.start()
	b.echo()
	a.push(request("echo", "from before", b.id).with("ret", "before"))
	a.redis.Kill()

	d := a.launch()
	d.wantSaid("waiting for Redis")
	d.awaitNotReady("Redis")
	if code, body, err := d.look("/healthz"); err != nil || code != http.StatusOK || !strings.Contains(body, "ok") {
		t.Errorf("/healthz: %d %q, %v", code, body, err)
	}
	a.redis.Restart()
	d.awaitReady()
	if reply := a.pop("before"); reply.text("err") != "" || reply.data() != "from before" {
		t.Errorf("the reply is %s", reply)
	}
	a.wantAnswer(b.id)
}

// A relay must end in good order while it still waits: for Redis, or for its
// resolver.
func TestRelayThatWaitsEndsWhenAsked(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.redis.Kill()
	d := a.launch()
	d.wantSaid("waiting for Redis")
	d.stop()

	b := f.site(1002)
	b.without("--substrate")
	d = b.launch("--substrate", "http://"+freeAddress(t))
	d.wantSaid("waiting for the resolver of twins")
	d.stop()
}

// Settings by file and by variable, a Redis behind a socket and a password, a
// prefix of its own: an operator's ordinary set-up must work end to end.
func TestSettingsByFileAndVariableWorkEndToEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001, redistest.Password("s3cret"), redistest.UnixSocket())
	b := f.site(1002, redistest.Password("other"))
	a.prefix, b.prefix = "other", "tenant.b"

	config := filepath.Join(t.TempDir(), "msgbusd.yaml")
	text := strings.Join([]string{
		"substrate:", "  - " + f.substrate, "twin: 1001", "mnemonics-file: " + secretFile(t, a.secret),
		"redis: " + a.redis.SocketURL(), "redis-prefix: other",
		"listen: " + a.listen, "admin-listen: " + a.admin, "allow-network: [10.0.0.0/8, 127.0.0.0/8]",
		"log-level: panic", "max-exp: 24h", "instance: from-file",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// An option is stronger than the file.
	a.launchWith(nil, "--config", config, "--log-level", "info")
	b.launchWith([]string{
		"MSGBUSD_SUBSTRATE=" + f.substrate, "MSGBUSD_TWIN=1002", "MSGBUSD_MNEMONICS=" + b.secret,
		"MSGBUSD_REDIS=" + b.redis.URL(), "MSGBUSD_REDIS_PREFIX=tenant.b",
		"MSGBUSD_LISTEN=" + b.listen, "MSGBUSD_ADMIN_LISTEN=" + b.admin, "MSGBUSD_ALLOW_NETWORK=127.0.0.0/8",
		"MSGBUSD_LOG_FORMAT=json",
	})
	a.daemon.awaitReady()
	b.daemon.awaitReady()
	a.daemon.wantSaid("serving", "instance=from-file")
	b.daemon.wantSaid(`"message":"serving"`)

	a.echo()
	asked := b.echo()
	a.wantAnswer(b.id)
	b.wantAnswer(a.id)
	a.wantAnswer(a.id)
	if got := asked.next(t).text("ret"); got != "tenant.b.system.reply" {
		t.Errorf("the service is told to answer to %q", got)
	}
	for _, s := range []*site{a, b} {
		for _, key := range s.rdb.Keys(t.Context(), "*").Val() {
			if !strings.HasPrefix(key, s.prefix+".") {
				t.Errorf("twin %d: key %s is outside of the prefix", s.id, key)
			}
		}
		for _, secret := range []string{s.secret, "s3cret", ":other@"} {
			if strings.Contains(s.daemon.said(), secret) {
				t.Errorf("the log of %d tells a secret", s.id)
			}
		}
	}
}

// Two prefixes are two buses on one Redis, which know nothing of each other.
func TestTwoPrefixesShareOneRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	b := f.siteOn(1002, a.redis)
	b.prefix = "second"
	a.start()
	b.start("--redis-prefix", "second")
	a.echo()
	b.echo()
	a.wantAnswer(b.id)
	b.wantAnswer(a.id)
}

// The line of the specification's usage, misspelling included.
func TestUsageLineOfTheSpecificationWorks(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.without("--mnemonics-file")
	a.start("--menmonics", a.secret, "--workers", "10", "--key-type", "sr25519")
	a.daemon.wantSaid("ps shows the key")
	a.echo()
	a.wantAnswer(a.id)
}

// A mistake in the settings ends the relay with the status that systemd does
// not restart after, and with a line that says what it is.
func TestMistakesInSettingsEndWithStatus78(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	open := secretFile(t, a.secret)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		without string
		args    []string
		want    string
	}{
		{"--mnemonics-file", nil, "no key is given"},
		{"--mnemonics-file", []string{"--mnemonics-file", open}, "can read the key"},
		{"--mnemonics-file", []string{"--mnemonics", "neck stage box cup core magic produce exercise happy rely vocal vocal"}, "secret"},
		{"--mnemonics-file", []string{"--mnemonics", "//Alice", "--key-type", "rsa"}, "--key-type"},
		{"--substrate", nil, "no resolver of twins is named"},
		{"--substrate", []string{"--substrate", "wss://tfchain.dev.grid.tf"}, "unknown scheme"},
		{"--redis", []string{"--redis", "localhost"}, "the address of Redis"},
		{"--redis", []string{"--redis", "redis://user:s3cret@/%"}, "the address of Redis"},
		{"", []string{"--allow-network", "10.0.0.1"}, "--allow-network"},
		{"", []string{"--expose", "[a"}, "--expose"},
		{"", []string{"--workers", "0"}, "--workers"},
		{"", []string{"--max-exp", "0"}, "--max-exp"},
		{"", []string{"--log-level", "loud"}, "--log-level"},
		{"", []string{"--peer-port", "70000"}, "--peer-port"},
		{"", []string{"--config", "/nonexistent.yaml"}, "configuration"},
	} {
		args := append(slices.Clone(a.args), c.args...)
		if i := slices.Index(args, c.without); i >= 0 {
			args = slices.Delete(args, i, i+2)
		}
		d := a.launchWith(nil, args...)
		d.wantExit(78)
		d.wantSaid("msgbusd: ", c.want)
		if strings.Contains(d.said(), "s3cret") {
			t.Errorf("%q: the error tells a secret: %s", c.args, d.said())
		}
	}
}
