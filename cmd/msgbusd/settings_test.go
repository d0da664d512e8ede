package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/twin"
)

// settingsOf is what the relay would run by, through the same application.
func settingsOf(t *testing.T, file string, args ...string) (*settings, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "msgbusd.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newApp(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	var got *settings
	app.Action = func(c *cli.Context) error {
		o, err := readOptions(c)
		if err == nil {
			got, err = o.settings()
		}
		return err
	}
	args = append([]string{"msgbusd", "--substrate", "http://127.0.0.1:1", "--mnemonics", "//Alice", "--config", name}, args...)
	err := app.RunContext(context.Background(), args)
	return got, err
}

// An operator who sets a value in one place and sees another in force cannot
// work: a flag beats the environment, that beats the file, that the default.
func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	cases := []struct {
		option, def        string
		file, env, option1 string // texts
		get                func(*settings) any
		wants              [4]any // default, file, environment, flag
	}{
		{option: "twin", file: "1", env: "2", option1: "3", get: func(s *settings) any { return s.twin }, wants: [4]any{uint32(0), uint32(1), uint32(2), uint32(3)}},
		{option: "listen", file: `":1"`, env: ":2", option1: ":3", get: func(s *settings) any { return s.listen }, wants: [4]any{":8051", ":1", ":2", ":3"}},
		{option: "max-exp", file: "1h", env: "2h", option1: "3h", get: func(s *settings) any { return s.maxExp }, wants: [4]any{7 * 24 * time.Hour, time.Hour, 2 * time.Hour, 3 * time.Hour}},
		{option: "workers", file: "1", env: "2", option1: "3", get: func(s *settings) any { return s.workers }, wants: [4]any{1000, 1, 2, 3}},
		{option: "redis", file: "a:1", env: "b:2", option1: "c:3", get: func(s *settings) any { return s.redis.Options.Addr }, wants: [4]any{"127.0.0.1:6379", "a:1", "b:2", "c:3"}},
		{option: "otlp-endpoint", file: "http://a", env: "http://b/", option1: "https://c/d", get: func(s *settings) any { return s.traces },
			wants: [4]any{"", "http://a/v1/traces", "http://b/v1/traces", "https://c/d/v1/traces"}},
		{option: "gateway-from", file: "[1, 2]", env: "3,4", option1: "5", get: func(s *settings) any { return fmt.Sprint(s.gateway.from) },
			wants: [4]any{"[]", "[1 2]", "[3 4]", "[5]"}},
		{option: "exemplars", file: "true", env: "false", option1: "true", get: func(s *settings) any { return s.exemplars }, wants: [4]any{false, true, false, true}},
		// A list replaces the weaker one as a whole.
		{option: "expose", file: "[a, b]", env: "c,d", option1: "e", get: func(s *settings) any { return s.expose },
			wants: [4]any{[]string{"*"}, []string{"a", "b"}, []string{"c", "d"}, []string{"e"}}},
		{option: "allow-network", file: "[10.1.0.0/16, 10.2.0.0/16]", env: "10.3.0.0/16, 10.4.0.0/16", option1: "10.5.0.0/16",
			get: func(s *settings) any { return fmt.Sprint(s.allow) }, wants: [4]any{"[]", "[10.1.0.0/16 10.2.0.0/16]", "[10.3.0.0/16 10.4.0.0/16]", "[10.5.0.0/16]"}},
		{option: "allow-port", file: "[1, 2-3]", env: "4, 5-6", option1: "7", get: func(s *settings) any { return fmt.Sprint(s.ports) },
			wants: [4]any{"[{8051 8051}]", "[{1 1} {2 3} {8051 8051}]", "[{4 4} {5 6} {8051 8051}]", "[{7 7} {8051 8051}]"}},
		{option: "peer-port", file: "1", env: "2", option1: "3", get: func(s *settings) any { return fmt.Sprint(s.ports) },
			wants: [4]any{"[{8051 8051}]", "[{1 1}]", "[{2 2}]", "[{3 3}]"}},
	}
	for _, c := range cases {
		t.Run(c.option, func(t *testing.T) {
			check := func(n int, file string, args ...string) {
				t.Helper()
				s, err := settingsOf(t, file, args...)
				if err != nil {
					t.Fatal(err)
				}
				if got := c.get(s); !reflect.DeepEqual(got, c.wants[n]) {
					t.Errorf("with %d sources: %v, want %v", n, got, c.wants[n])
				}
			}
			file := c.option + ": " + c.file
			check(0, "")
			check(1, file)
			t.Setenv(variable(c.option)[0], c.env)
			check(2, file)
			check(3, file, "--"+c.option, c.option1)
		})
	}
}

// With room for less than the largest message its sender hears "come again" for
// ever, and nobody is told why.
//
// Broken by: in checkSettings, without LeastInFlight.
func TestRoomForLessThanTheLargestMessageIsRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"--max-body", "1000000", "--max-in-flight", "3000000"}, true},
		{[]string{"--max-body", "1000000", "--max-in-flight", "2999999"}, false},
		{[]string{"--max-in-flight", "1000000"}, false},
		{[]string{"--max-body", "40000000"}, false},
		{[]string{"--max-body", "9223372036854775807", "--max-in-flight", "9223372036854775807"}, false},
	} {
		_, err := settingsOf(t, "", c.args...)
		if c.ok != (err == nil) || err != nil && !(strings.Contains(err.Error(), "--max-in-flight") && strings.Contains(err.Error(), "--max-body")) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func TestListsAreRepeatableFlags(t *testing.T) {
	s, err := settingsOf(t, "", "--substrate", "http://127.0.0.1:2", "--expose", "a.*", "--expose", "b", "--brpop", "c", "--ref-services", "d")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}; !reflect.DeepEqual(s.substrate, want) {
		t.Errorf("substrate = %q, want %q", s.substrate, want)
	}
	if want := []string{"a.*", "b"}; !reflect.DeepEqual(s.expose, want) {
		t.Errorf("expose = %q, want %q", s.expose, want)
	}
	if !reflect.DeepEqual([][]string{s.brpop, s.refServices}, [][]string{{"c"}, {"d"}}) {
		t.Errorf("brpop = %q, ref-services = %q", s.brpop, s.refServices)
	}
}

// A rule that is cut at its commas, as every list is, must not lose its twins,
// wherever it is written.
func TestCommandRulesKeepTheirTwins(t *testing.T) {
	check := func(where, file string, args ...string) {
		t.Helper()
		s, err := settingsOf(t, file, args...)
		if err != nil {
			t.Fatal(err)
		}
		for twin, may := range map[uint32]bool{10: true, 11: true, 15: false, 20: true, 25: true, 26: false} {
			if got := s.policy.AdmitsCommand(twin, "zos.x"); got != may {
				t.Errorf("%s: twin %d may call zos.x: %t, want %t", where, twin, got, may)
			}
		}
		if !s.policy.AdmitsCommand(30, "other") || s.policy.AdmitsCommand(10, "other") {
			t.Errorf("%s: the second rule is lost", where)
		}
	}
	check("flag", "", "--allow-command", "zos.*=10,11,20-25", "--allow-command", "other=30")
	check("list of the file", "allow-command: ['zos.*=10,11,20-25', other=30]")
	check("file", "allow-command: 'zos.*=10,11,20-25,other=30'")
	t.Setenv("MSGBUSD_ALLOW_COMMAND", "zos.*=10,11,20-25,other=30")
	check("variable", "")
}

// Every option can be set in all three ways, or the last line of --help lies.
func TestEveryOptionHasItsVariable(t *testing.T) {
	for _, f := range daemonFlags() {
		name := f.Names()[0]
		doc := f.(cli.DocGenerationFlag)
		if name == "menmonics" {
			continue // the specification's misspelling is for its command line
		}
		if got, want := doc.GetEnvVars(), "MSGBUSD_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")); len(got) != 1 || got[0] != want {
			t.Errorf("--%s has the variables %q, want %s", name, got, want)
		}
		if groupOf(f) == "" || doc.GetUsage() == "" {
			t.Errorf("--%s has no place or text in the help", name)
		}
	}
}

// The example that is shipped is one that works.
func TestExampleVariablesAreKnown(t *testing.T) {
	text, err := os.ReadFile("../../systemd/msgbusd.env.example")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range daemonFlags() {
		for _, v := range f.(cli.DocGenerationFlag).GetEnvVars() {
			known[v] = true
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "#")
		if !strings.HasPrefix(line, "MSGBUSD_") {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if !known[name] {
			t.Errorf("the example has the unknown variable %s", name)
		}
		t.Setenv(name, value)
	}
	s, err := settingsOf(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.twin != 1001 || len(s.allow) != 2 {
		t.Errorf("twin %d, networks %v", s.twin, s.allow)
	}
}

// Two relays of one machine must not have one name, and a relay keeps its own.
func TestInstanceIsHostAndAddress(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	s, err := settingsOf(t, "", "--listen", ":9")
	if err != nil {
		t.Fatal(err)
	}
	if want := host + "/:9"; s.instance != want {
		t.Errorf("instance %q, want %q", s.instance, want)
	}
	if s.identity.KeyType() != twin.SR25519 {
		t.Errorf("key type %s", s.identity.KeyType())
	}
}

// Whoever adds a line that logs the settings must not log the password of Redis or
// the key with them.
//
// Broken by: no Format of settings, or of backlog.Options.
func TestSettingsPrintWithoutTheirSecrets(t *testing.T) {
	s, err := settingsOf(t, "", "--redis", "redis://user:hunter2@127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{s, *s, backlog.Options{Redis: s.redis}, daemonProcess{settings: s}} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, "hunter2") || strings.Contains(out, "Alice") {
				t.Errorf("%s of %T: %s", verb, v, out)
			}
		}
	}
}

// A secret that comes by its variable is not on the command line: a warning for it
// would have somebody look for what is not there.
//
// Broken by: in onCommandLine, c in the place of bare.
func TestOnlyWhatPSShowsIsWarnedOf(t *testing.T) {
	warnings := func(args ...string) (got []string) {
		app := newApp(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
		app.Action = func(c *cli.Context) error {
			got = shownByPS(c)
			return nil
		}
		if err := app.RunContext(context.Background(), append([]string{"msgbusd", "--twin", "1"}, args...)); err != nil {
			t.Fatal(err)
		}
		return got
	}
	t.Setenv("MSGBUSD_MNEMONICS", "//Alice")
	t.Setenv("MSGBUSD_REDIS", "redis://:hunter2@127.0.0.1:1")
	t.Setenv("MSGBUSD_SUBSTRATE", "https://hunter2@127.0.0.1, https://127.0.0.1")
	if got := warnings(); len(got) != 0 {
		t.Errorf("by variables: %q", got)
	}
	if got := warnings("--mnemonics", "//Bob", "--redis", "redis://:hunter2@127.0.0.1:2", "--substrate", "https://hunter2@127.0.0.2",
		"--otlp-endpoint", "https://hunter2@127.0.0.3"); len(got) != 4 {
		t.Errorf("on the command line: %q", got)
	}
	if got := warnings("--redis", "127.0.0.1:6379", "--substrate", "https://127.0.0.1", "--otlp-endpoint", "https://127.0.0.3"); len(got) != 0 {
		t.Errorf("without a secret: %q", got)
	}
}

// A limit whose variable is misspelt is not in force, and nothing would say so.
func TestVariableThatIsNoSettingIsWarnedOf(t *testing.T) {
	got := unknownVariables([]string{"MSGBUSD_MAX_QUEU=5", "MSGBUSD_MAX_QUEUE=5", "MSGBUSD_FLAVOUR=hunter2", "PATH=/bin", "MSGBUS_SRC=1"})
	want := []string{
		"the variable MSGBUSD_MAX_QUEU is no setting, and changes nothing; did you mean MSGBUSD_MAX_QUEUE?",
		"the variable MSGBUSD_FLAVOUR is no setting, and changes nothing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
