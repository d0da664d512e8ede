package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// The phrase of another twin in the file: other relays would refuse all that
// this one signs, and nobody would know why.
func TestWrongKeyIsToldAtTheStart(t *testing.T) {
	t.Parallel()
	f := fleettest.NewOfProcesses(t)
	a := f.Site(1001)
	other := fleettest.NewPerson(t, 99)
	f.Register(a.ID, other.Identity.Account(), a.Listen)
	d := a.Launch()
	d.WantExit(1)
	d.WantSaid("the key given is "+a.Identity.Account()+", but twin 1001 is registered with "+other.Identity.Account(), "hint: ")

	// Somebody corrects the record; the unit starts the relay again.
	f.Register(a.ID, a.Identity.Account(), a.Listen)
	a.Start()
	a.Echo()
	a.WantAnswer(a.ID)
}

// A twin that is not registered: said, with what to look at.
func TestUnregisteredTwinIsToldAtTheStart(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Without("--twin")
	d := a.Launch("--twin", "4711")
	d.WantExit(1)
	d.WantSaid("twin 4711 is not registered", "hint: ")
}

// After a power cut the relay is up before Redis. It must wait, say so, and
// serve what comes then, without a hand.
func TestRelayWaitsForRedisAtTheStart(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001, redistest.AppendOnly("always")), f.Site(1002)
	b.Start()
	b.Echo()
	a.Push(fleettest.Request("echo", "from before", b.ID).With("ret", "before"))
	a.Redis.Kill()

	d := a.Launch()
	d.WantSaid("waiting for Redis")
	d.AwaitNotReady("Redis")
	if code, body, err := d.Look("/healthz"); err != nil || code != http.StatusOK || !strings.Contains(body, "ok") {
		t.Errorf("/healthz: %d %q, %v", code, body, err)
	}
	a.Redis.Restart()
	d.AwaitReady()
	if reply := a.Pop("before"); reply.Text("err") != "" || reply.Data() != "from before" {
		t.Errorf("the reply is %s", reply)
	}
	a.WantAnswer(b.ID)
}

// A relay must end in good order while it still waits: for Redis, or for its
// resolver.
func TestRelayThatWaitsEndsWhenAsked(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Redis.Kill()
	d := a.Launch()
	d.WantSaid("waiting for Redis")
	d.Stop()

	b := f.Site(1002)
	b.Without("--substrate")
	d = b.Launch("--substrate", "http://"+fleettest.FreeAddress(t))
	d.WantSaid("waiting for the resolver of twins")
	d.Stop()
}

// Settings by file and by variable, a Redis behind a socket and a password, a
// prefix of its own: an operator's ordinary set-up must work end to end.
func TestSettingsByFileAndVariableWorkEndToEnd(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001, redistest.Password("s3cret"), redistest.UnixSocket())
	b := f.Site(1002, redistest.Password("other"))
	a.Prefix, b.Prefix = "other", "tenant.b"

	config := filepath.Join(t.TempDir(), "msgbusd.yaml")
	text := strings.Join([]string{
		"substrate:", "  - " + f.Substrate, "twin: 1001", "mnemonics-file: " + fleettest.SecretFile(t, a.Secret),
		"redis: " + a.Redis.SocketURL(), "redis-prefix: other",
		"listen: " + a.Listen, "admin-listen: " + a.Admin, "allow-network: [10.0.0.0/8, 127.0.0.0/8]", "allow-port: [80, 10000-32000]",
		"log-level: panic", "max-exp: 24h", "instance: from-file",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// An option is stronger than the file.
	a.LaunchWith(nil, "--config", config, "--log-level", "info")
	b.LaunchWith([]string{
		"MSGBUSD_SUBSTRATE=" + f.Substrate, "MSGBUSD_TWIN=1002", "MSGBUSD_MNEMONICS=" + b.Secret,
		"MSGBUSD_REDIS=" + b.Redis.URL(), "MSGBUSD_REDIS_PREFIX=tenant.b",
		"MSGBUSD_LISTEN=" + b.Listen, "MSGBUSD_ADMIN_LISTEN=" + b.Admin, "MSGBUSD_ALLOW_NETWORK=127.0.0.0/8", "MSGBUSD_ALLOW_PORT=10000-32000",
		"MSGBUSD_LOG_FORMAT=json",
	})
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	a.Daemon.WantSaid("serving", "instance=from-file")
	b.Daemon.WantSaid(`"message":"serving"`)

	a.Echo()
	asked := b.Echo()
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
	a.WantAnswer(a.ID)
	if got := asked.Next(t).Text("ret"); got != "tenant.b.system.reply" {
		t.Errorf("the service is told to answer to %q", got)
	}
	for _, s := range []*fleettest.Site{a, b} {
		for _, key := range s.RDB.Keys(t.Context(), "*").Val() {
			if !strings.HasPrefix(key, s.Prefix+".") {
				t.Errorf("twin %d: key %s is outside of the prefix", s.ID, key)
			}
		}
		for _, secret := range []string{s.Secret, "s3cret", ":other@"} {
			if strings.Contains(s.Daemon.Said(), secret) {
				t.Errorf("the log of %d tells a secret", s.ID)
			}
		}
	}
}

// Two prefixes are two buses on one Redis, which know nothing of each other.
func TestTwoPrefixesShareOneRedis(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	b := f.SiteOn(1002, a.Redis)
	b.Prefix = "second"
	a.Start()
	b.Start("--redis-prefix", "second")
	a.Echo()
	b.Echo()
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
}

// The line of the specification's usage, misspelling included.
func TestUsageLineOfTheSpecificationWorks(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Without("--mnemonics-file")
	a.Start("--menmonics", a.Secret, "--workers", "10", "--key-type", "sr25519")
	a.Daemon.WantSaid("ps shows the key")
	a.Echo()
	a.WantAnswer(a.ID)
}

// A mistake in the settings ends the relay with the status that systemd does
// not restart after, and with a line that says what it is.
func TestMistakesInSettingsEndWithStatus78(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	open := fleettest.SecretFile(t, a.Secret)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		without string
		args    []string
		want    string
	}{
		{"--mnemonics-file", nil, "no key is given"},
		{"--mnemonics-file", []string{"--mnemonics-file", open}, "can read the secret"},
		{"--mnemonics-file", []string{"--mnemonics", "neck stage box cup core magic produce exercise happy rely vocal vocal"}, "secret"},
		{"--mnemonics-file", []string{"--mnemonics", "//Alice", "--key-type", "rsa"}, "--key-type"},
		{"--substrate", nil, "no resolver of twins is named"},
		{"--substrate", []string{"--substrate", "wss://tfchain.dev.grid.tf"}, "unknown scheme"},
		{"--redis", []string{"--redis", "localhost"}, "the address of Redis"},
		{"--redis", []string{"--redis", "redis://user:s3cret@/%"}, "the address of Redis"},
		{"", []string{"--allow-network", "10.0.0.1"}, "--allow-network"},
		{"", []string{"--allow-port", "9000-8000"}, "--allow-port"},
		{"", []string{"--tls-cert", "/nonexistent.pem", "--tls-key", open}, "/nonexistent.pem"},
		{"", []string{"--tls-key", open}, "--tls-cert"},
		{"", []string{"--expose", "[a"}, "--expose"},
		{"", []string{"--workers", "0"}, "--workers"},
		{"", []string{"--max-exp", "0"}, "--max-exp"},
		{"", []string{"--log-level", "loud"}, "--log-level"},
		{"", []string{"--peer-port", "70000"}, "--peer-port"},
		{"", []string{"--config", "/nonexistent.yaml"}, "configuration"},
	} {
		args := append(slices.Clone(a.Args), c.args...)
		if i := slices.Index(args, c.without); i >= 0 {
			args = slices.Delete(args, i, i+2)
		}
		d := a.LaunchWith(nil, args...)
		d.WantExit(78)
		d.WantSaid("msgbusd: ", c.want)
		if strings.Contains(d.Said(), "s3cret") {
			t.Errorf("%q: the error tells a secret: %s", c.args, d.Said())
		}
	}
}
