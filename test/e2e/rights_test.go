package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redisacl"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// An operator gives each program the rights of docs/redis.md, and something does not work
// that worked before; or they have rights of which nobody knows what for.
//
// Two relays, the commands for operators, apps and services with the client library and
// without it do all that they can under exactly these rights. Then Redis must have refused
// nothing, and what it was sent is compared with the lists, in both directions. What scripts
// of the relay may send is read from their text, since many a line is for a bad day.
func TestEverythingRunsUnderTheRightsThatTheDocsGive(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := guardedSite(t, f, 1001), guardedSite(t, f, 1002)
	a.Start()
	b.Start()

	a.useLibrary(b)
	a.useLists(b)
	a.operate(b)

	known := knownCommands(t, a.RDB)
	seen := newCommands()
	a.watch.addTo(seen)
	b.watch.addTo(seen)
	seen.admin(t, a.RDB)
	seen.scripts(t, redisacl.Relay, "../../backlog/lua/*.lua", known)
	seen.scripts(t, redisacl.Library, "../../client/*.go", known)
	seen.compare(t, known)
}

// A guarded is a site whose Redis lets nobody in but the users of docs/redis.md.
type guarded struct {
	*fleettest.Site
	t     *testing.T
	watch *watch
}

const password = "a.password"

func guardedSite(t *testing.T, f *fleettest.Fleet, id uint32) *guarded {
	t.Helper()
	server := redistest.Start(t)
	g := &guarded{Site: f.SiteOn(id, server), t: t}
	g.RDB = redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 1}) // which has to be selected
	t.Cleanup(func() { _ = g.RDB.Close() })
	for _, line := range rightsOfDocs(t) {
		if line == redisacl.GatewayLine("relay") {
			continue // it has none
		}
		g.administer(strings.Fields(strings.Replace(line, "PASSWORD", password, 1))...)
	}
	g.watch = newWatch(t, server)
	t.Cleanup(g.wantNoneRefused)
	g.Without("--redis")
	g.Args = append(g.Args, "--redis", g.as("relay", redisacl.Relay))
	return g
}

// administer runs a command as the operator of Redis.
func (g *guarded) administer(words ...string) {
	g.t.Helper()
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	g.must(strings.Join(words, " "), g.RDB.Do(g.t.Context(), args...).Err())
}

func (g *guarded) wantNoneRefused() {
	for _, entry := range g.RDB.ACLLog(context.Background(), 100).Val() {
		g.t.Errorf("Redis of %d refused %s to %s: %s", g.ID, entry.Object, entry.Username, entry.Reason)
	}
}

// rightsOfDocs are the lines of docs/redis.md that make users.
func rightsOfDocs(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindAllString(string(page), -1)
	want := []string{
		redisacl.Line(redisacl.Relay, "relay", "msgbus"),
		redisacl.GatewayLine("relay"),
		redisacl.Line(redisacl.Library, "app", "msgbus"),
		redisacl.Line(redisacl.Library, "calculator", "msgbus", "msgbus.calculator.*"),
		redisacl.Line(redisacl.App, "plain-app", "msgbus", "msgbus.system.local", "plain.*"),
		redisacl.Line(redisacl.App, "plain-service", "msgbus", "msgbus.echo", "msgbus.system.reply"),
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Fatalf("docs/redis.md is out of date. It must have:\n%s", strings.Join(want, "\n"))
	}
	return lines
}

// as is the address at which a user is seen in a role.
func (g *guarded) as(user string, role redisacl.Role) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(user, password), Host: g.watch.addresses[role], Path: "/1"}
	return u.String()
}

func (g *guarded) client(user string) *client.Client {
	g.t.Helper()
	c, err := client.Open(client.Options{Redis: g.as(user, redisacl.Library)})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// must ends the test with an error.
func (g *guarded) must(what string, err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("%s: %v", what, err)
	}
}

// useLibrary does what the client library can.
func (g *guarded) useLibrary(b *guarded) {
	g.t.Helper()
	c := g.client("app")
	g.callWith(c, b)
	g.hearWith(c, b)
	g.beThereWith(c)
	hears := fleettest.StartProcess(g.t, "subscribe", []string{"MSGBUSD_REDIS=" + g.as("app", redisacl.Library)}, "subscribe", "task/#")
	hears.WantSaid("listening to task/#")
	g.must("publish", c.Publish(patient(g.t), "task/run.3", 3))
	hears.WantSaid("task/run.3")
	hears.Stop()
}

// callWith asks, tells and cancels; a service of the library answers.
func (g *guarded) callWith(c *client.Client, b *guarded) {
	g.t.Helper()
	t := g.t
	server := client.NewServer(b.client("calculator"), client.ServerOptions{})
	calculator(server)
	started := make(chan struct{}, 1)
	client.Handle(server, "calculator.slow", func(ctx context.Context, _ any) (any, error) {
		g.must("progress", client.RequestFrom(ctx).Progress(ctx, 1, 0, nil))
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	serving, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(serving) }()

	sum, err := client.Call[int](patient(t), c, b.ID, "calculator.add", []int{1, 2})
	g.must("call", err)
	if sum != 3 {
		t.Errorf("the sum is %d", sum)
	}
	var e *client.Error
	if err := c.Call(patient(t), b.ID, "nobody", nil, nil, client.Mandatory()); !errors.As(err, &e) || e.Reason() != "no_service" {
		t.Errorf("what nobody serves: %v", err)
	}
	g.must("notify", c.Notify(patient(t), b.ID, "calculator.add", []int{1}))
	slow := c.Go(patient(t), b.ID, "calculator.slow", nil)
	<-started
	g.must("cancel", slow.Cancel(patient(t)))
	if err := slow.Reply().Err; err == nil {
		t.Error("what was cancelled has an answer")
	}
	stop()
	g.must("serve", <-ended)
}

// hearWith hears events of now, of before, and some that a group shares.
func (g *guarded) hearWith(c *client.Client, b *guarded) {
	g.t.Helper()
	t := g.t
	publisher := b.client("app")
	_, err := publisher.PublishCounted(patient(t), "task/run.1", 1, client.Durable(), client.Retain()) // so it is kept
	g.must("publish", err)
	now, err := c.Subscribe(patient(t), "task/#", client.From(b.ID), client.Retained())
	g.must("subscribe", err)
	_, err = now.Next(patient(t))
	g.must("retained event", err)
	all, err := c.Stream(patient(t), "task", client.From(b.ID), client.After("0"))
	g.must("stream", err)
	shared, err := c.Stream(patient(t), "task", client.After("0"), client.Competing("workers", "one"))
	g.must("group of a stream", err)
	g.must("publish", publisher.Publish(patient(t), "task/run.2", 2, client.Durable()))
	for _, next := range []interface {
		Next(context.Context) (*client.Event, error)
	}{now, all, shared} {
		event, err := next.Next(patient(t))
		g.must("event", err)
		if next == any(shared) {
			g.must("ack", shared.Ack(patient(t), event))
		}
	}
	g.must("close", errors.Join(now.Close(), all.Close(), shared.Close()))
	latest, err := c.Stream(patient(t), "task") // from now on
	g.must("stream", err)
	g.must("close", latest.Close())
}

// beThereWith has a name, and loses and takes it again.
func (g *guarded) beThereWith(c *client.Client) {
	g.t.Helper()
	t := g.t
	held, err := c.Announce(patient(t), "front-desk", "open")
	g.must("announce", err)
	if _, ok, err := c.Present(patient(t), "front-desk"); !ok {
		t.Errorf("a name that is held is not: %v", err)
	}
	// Redis has forgotten it meanwhile, which is noticed at the next renewal.
	const key = "msgbus.system.presence.front-desk"
	g.RDB.Del(t.Context(), key)
	fleettest.Eventually(t, "the name is taken again", func() error { return g.RDB.Get(t.Context(), key).Err() })
	g.must("leave", held.Close())
}

// useLists does what apps can that know nothing but lists.
func (g *guarded) useLists(b *guarded) {
	g.t.Helper()
	t := g.t
	open := func(at *guarded, user string) *redis.Client {
		opts, err := redis.ParseURL(at.as(user, redisacl.App))
		if err != nil {
			t.Fatal(err)
		}
		opts.Protocol, opts.DisableIdentity = 2, true
		rdb := redis.NewClient(opts)
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	app, service := open(g, "plain-app"), open(b, "plain-service")
	m := fleettest.Request("echo", "hello", b.ID).With("ret", "plain.17")
	if err := app.RPush(t.Context(), "msgbus.system.local", m.String()).Err(); err != nil {
		t.Fatal(err)
	}
	got, err := service.BLPop(t.Context(), fleettest.Patience, "msgbus.echo").Result()
	if err != nil {
		t.Fatal(err)
	}
	asked := fleettest.Parse(t, got[1])
	reply := asked.With("src", b.ID).With("dst", []any{asked["src"]})
	if err := service.RPush(t.Context(), asked.Text("ret"), reply.String()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := app.BLPop(t.Context(), fleettest.Patience, "plain.17").Result(); err != nil {
		t.Fatal(err)
	}
	g.wantNoneRefused()
	b.wantNoneRefused()
	// Neither reaches what is not its own.
	for user, key := range map[*redis.Client]string{app: "msgbus.echo", service: "msgbus.system.local"} {
		if err := user.RPush(t.Context(), key, "x").Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("an app may push to %s: %v", key, err)
		}
	}
	g.administer("acl", "log", "reset")
	b.administer("acl", "log", "reset")
}

// operate runs each command for operators, on whatever is there.
func (g *guarded) operate(b *guarded) {
	g.t.Helper()
	t := g.t
	run := func(at *guarded, code int, args ...string) string {
		t.Helper()
		p := fleettest.StartProcess(t, strings.Join(args, " "), []string{"MSGBUSD_REDIS=" + at.as("relay", redisacl.Operator)}, args...)
		p.WantExit(code)
		return p.Said()
	}
	// A web page asks, and a twin is away, so that there is something to look at.
	page := g.Fleet.Stranger(7001, "")
	_ = b.Results(send(b.Site, page.Command("echo", "x", b.ID)), "")
	g.Fleet.Stranger(1009, "127.0.0.1:1")
	run(g, 0, "group", "add", "rack", "1009")
	g.Push(fleettest.Request("echo", "x").With("ext", map[string]any{"group": "rack"}).With("try", 1000))
	g.PushRaw("local", "no message")
	g.PushRaw("local", "another")
	var uid string
	fleettest.Eventually(t, "it waits on its lane, and the others are dead", func() error {
		waiting, dead := g.RDB.ZRange(t.Context(), "msgbus.system.lane.1009.requests", 0, -1).Val(), g.RDB.XLen(t.Context(), "msgbus.system.dead").Val()
		if len(waiting) != 1 || dead != 2 {
			return fmt.Errorf("%v wait, %d dead", waiting, dead)
		}
		uid = waiting[0]
		return nil
	})
	letters := g.RDB.XRange(t.Context(), "msgbus.system.dead", "-", "+").Val()
	for _, args := range [][]string{
		{"status"}, {"queue", "ls"}, {"queue", "show", "local"}, {"queue", "show", "echo"},
		{"lane", "ls"}, {"lane", "show", "1009"}, {"lane", "pause", "1009"}, {"lane", "resume", "1009"}, {"lane", "retry", "1009"},
		{"backlog", "ls"}, {"backlog", "ls", "--twin", "1009"}, {"backlog", "show", uid}, {"backlog", "retry", uid}, {"trace", uid},
		{"backlog", "drop", "--yes", uid},
		{"dead", "ls"}, {"dead", "show", letters[0].ID}, {"dead", "retry", letters[0].ID}, {"dead", "drop", "--yes", letters[1].ID},
		{"group", "ls"}, {"group", "remove", "rack", "1009"},
		{"event", "ls"}, {"event", "present"}, {"publish", "task.done", "1"},
	} {
		run(g, 0, args...)
	}
	run(g, 1, "call", "--dst", fmt.Sprint(b.ID), "--exp", "1s", "nobody", "x")
	for _, at := range []*guarded{g, b} {
		p := fleettest.StartProcess(t, "doctor", []string{"MSGBUSD_REDIS=" + at.as("relay", redisacl.Operator)}, "doctor", "--json")
		<-p.Proc.Done()
		var d struct{ Rights redisacl.Rights }
		if err := json.Unmarshal([]byte(p.Said()), &d); err != nil || d.Rights.User != "relay" || len(d.Rights.Missing)+len(d.Rights.Optional) > 0 {
			t.Errorf("doctor of %d says %s (%v)", at.ID, p.Said(), err)
		}
		p.Kill()
	}

	g.wantNoneRefused()
	// One right less, and the operator learns what it is and what to do.
	g.administer("acl", "setuser", "relay", "-xdel")
	if said := run(g, 1, "doctor"); !strings.Contains(said, "user relay: lacks +xdel\n") || !strings.Contains(said, "redis-cli ACL SETUSER relay '+xdel'") {
		t.Errorf("doctor says %s", said)
	}
	g.administer("acl", "setuser", "relay", "+xdel")
	g.administer("acl", "log", "reset")
}
