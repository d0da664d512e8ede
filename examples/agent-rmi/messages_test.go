package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// documented is the document's list of messages and their fields.
var documented = map[string][]string{
	"Security-Wrapper": {"signature", "message"},
	"Envelope":         {"sn", "version", "routing", "replyto", "request", "result", "status", "timestamp", "data"},
	"Request":          {"classname", "cntr", "method", "args", "kws"},
	"Status":           {"accepted", "rejected", "started", "progress"},
	"Progress":         {"total", "completed", "details"},
	"Result":           {"retval"},
	"Exception":        {"exval", "xmodule", "xclass", "xstate", "xargs"},
}

// serialNumber is the document's own.
const serialNumber = "e7e91fb6-611b-4284-a9ed-ac1636b2c709"

// Somebody who reads the document writes an agent, or a caller, in another language, and a field is not
// there, or elsewhere. Everything is looked at as it stands in Redis: on one side is always a
// program that knows nothing of this package.
func TestEveryDocumentedMessagePassesWithItsFields(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	wrapper := recordWrapper(b)
	a.Start()
	b.Start()
	r := rigOn(t, f, a, b)
	r.runWork(t)

	m := passCallers(t, r)
	m["wrapper"] = next(t, wrapper, "a transfer")
	callAgent(t, r, m)

	seen := make(map[string]bool)
	for _, row := range []struct{ message, field, in, path, want string }{
		{"Security-Wrapper", "signature", "wrapper", "signature", "*"},
		{"Security-Wrapper", "message", "wrapper", "message", "*"},

		{"Envelope", "sn", "request", "ext.tag.sn", "*"},
		{"Envelope", "sn", "accepted", "ext.tag.sn", serialNumber},
		{"Envelope", "sn", "result", "ext.tag.sn", serialNumber},
		{"Envelope", "sn", "exception", "ext.tag.sn", serialNumber},
		{"Envelope", "sn", "rejected", "ext.tag.sn", serialNumber},
		{"Envelope", "version", "request", "cmd", "Dog.bark@0.2"},
		{"Envelope", "version", "result", "cmd", "Work.steps@1"},
		{"Envelope", "routing", "request", "src", "1001"},
		{"Envelope", "routing", "request", "dst", "[1002]"},
		{"Envelope", "routing", "result", "src", "1002"},
		{"Envelope", "replyto", "request", "ret", "*"},
		{"Envelope", "request", "request", "dat.classname", "*"},
		{"Envelope", "result", "result", "dat.retval", "*"},
		{"Envelope", "status", "accepted", "ext.status", "*"},
		{"Envelope", "timestamp", "request", "ext.tag.timestamp", "*"},
		{"Envelope", "timestamp", "accepted", "now", "*"},
		{"Envelope", "timestamp", "result", "now", "*"},
		{"Envelope", "data", "request", "ext.tag.data", "group 2"},
		{"Envelope", "data", "accepted", "ext.tag.data", "group 2"},
		{"Envelope", "data", "result", "ext.tag.data", "group 2"},
		{"Envelope", "data", "exception", "ext.tag.data", "group 2"},

		{"Request", "classname", "request", "dat.classname", "Dog"},
		{"Request", "cntr", "request", "dat.cntr", `[["Lassie"],{"age":3}]`},
		{"Request", "method", "request", "dat.method", "bark"},
		{"Request", "args", "request", "dat.args", `["hello"]`},
		{"Request", "kws", "request", "dat.kws", `{"times":2}`},

		{"Status", "accepted", "accepted", "ext.status", "accepted"},
		{"Status", "started", "started", "ext.status", "started"},
		{"Status", "progress", "progress", "ext.status", "progress"},
		{"Status", "rejected", "rejected", "ext.error.class", "rejected"},
		{"Status", "rejected", "rejected", "ext.error.message", "*"},
		{"Status", "rejected", "unserved", "ext.error.class", "msgbus.no_service"},

		{"Progress", "total", "progress", "dat.total", "1"},
		{"Progress", "completed", "progress", "dat.completed", "1"},
		{"Progress", "details", "progress", "dat.details", `{"step":0}`},

		{"Result", "retval", "result", "dat.retval", "1"},

		{"Exception", "exval", "exception", "ext.error.data.exval", "unknown: nobody knows"},
		{"Exception", "exval", "exception", "err", "unknown: nobody knows"},
		{"Exception", "xmodule", "exception", "ext.error.data.xmodule", "tests"},
		{"Exception", "xclass", "exception", "ext.error.data.xclass", "Unknown"},
		{"Exception", "xclass", "exception", "ext.error.class", "tests.Unknown"},
		{"Exception", "xstate", "exception", "ext.error.data.xstate", `{"why":"nobody knows"}`},
		{"Exception", "xargs", "exception", "ext.error.data.xargs", `["nobody knows",2]`},
	} {
		seen[row.message+"."+row.field] = true
		got := look(t, m[row.in], row.path)
		if row.want == "*" && got == "" || row.want != "*" && got != row.want {
			t.Errorf("%s.%s: %s of the %s is %q, want %q; it is %s", row.message, row.field, row.path, row.in, got, row.want, m[row.in])
		}
	}
	for message, fields := range documented {
		for _, field := range fields {
			if !seen[message+"."+field] {
				t.Errorf("nobody has looked at %s.%s", message, field)
			}
		}
	}
	at, err := time.Parse(time.RFC3339Nano, look(t, m["request"], "ext.tag.timestamp"))
	if err != nil || at.Location() != time.UTC || time.Since(at).Abs() > fleettest.Patience {
		t.Errorf("the timestamp is %v, %v, want this moment in UTC", at, err)
	}
}

// passCallers has a caller of this package call a service that is none of ours, and returns
// what that gets.
func passCallers(t *testing.T, r *rig) map[string]fleettest.Message {
	t.Helper()
	asked := r.b.ServeMessages("Dog.bark@0.2", func(m fleettest.Message) fleettest.Message {
		return m.With("src", r.b.ID).With("dst", []any{m["src"]}).With("dat", fleettest.Encode(`{"retval":"Yes master.  I will bark because that is what dogs do."}`))
	})
	dog := Stub{
		Caller: r.stub.Caller, Agent: r.b.ID, ClassName: "Dog", Version: "0.2", Cntr: []any{"Lassie", Kws{"age": 3}},
		Data: "group 2", TTL: fleettest.Patience, // it does not announce itself
	}
	wantEqual(t, "result", must[string](t, dog, "bark", "hello", Kws{"times": 2}), "Yes master.  I will bark because that is what dogs do.")
	return map[string]fleettest.Message{"request": asked.Next(t)}
}

// callAgent has an app that is none of ours call an agent of this package, and notes what
// that gets.
func callAgent(t *testing.T, r *rig, got map[string]fleettest.Message) {
	t.Helper()
	call := func(version, method, args string) fleettest.Message {
		m := fleettest.Request("Work."+method+"@"+version, `{"classname":"Work","method":"`+method+`","args":[`+args+`],"kws":{}}`, r.b.ID)
		tag := map[string]any{"sn": serialNumber, "timestamp": time.Now().UTC(), "data": "group 2"}
		return m.With("ext", map[string]any{"tag": tag, "progress": m.Text("ret"), "mandatory": true})
	}
	steps := call("1", "steps", "1")
	r.a.Push(steps)
	for _, name := range []string{"accepted", "started", "progress", "result"} {
		got[name] = r.a.Pop(steps.Text("ret"))
	}
	last := func(m fleettest.Message) fleettest.Message {
		return r.a.Call(m.With("ext", without(m["ext"], "progress")))
	}
	got["exception"] = last(call("1", "fail", `"unknown"`))
	got["rejected"] = last(call("1", "steps", `"many"`))
	got["unserved"] = last(call("0", "steps", "1"))
}

func without(ext any, key string) map[string]any {
	all, _ := ext.(map[string]any)
	delete(all, key)
	return all
}

// look returns what stands at a path, as text or JSON; "" is nothing. dat is decoded.
func look(t *testing.T, m fleettest.Message, path string) string {
	t.Helper()
	var at any = map[string]any(m)
	for i, key := range strings.Split(path, ".") {
		object, _ := at.(map[string]any)
		at = object[key]
		if i == 0 && key == "dat" {
			raw, err := base64.StdEncoding.DecodeString(fmt.Sprint(at))
			if err != nil {
				t.Fatal(err)
			}
			dat, err := fleettest.ParseMessage(string(raw))
			if err != nil {
				t.Fatalf("the data is %q: %v", raw, err)
			}
			at = map[string]any(dat)
		}
	}
	switch at := at.(type) {
	case nil:
		return ""
	case string:
		return at
	}
	raw, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// recordWrapper has all relays find a site behind a proxy, and returns what is sent to it:
// the signature, and what it is of.
func recordWrapper(s *fleettest.Site) <-chan fleettest.Message {
	s.T.Helper()
	came := make(chan fleettest.Message, 1)
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: s.Listen}) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // relays start and end
	}
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if req.URL.Path == fleettest.TransferPath {
			once.Do(func() {
				came <- fleettest.Message{"signature": req.Header.Get("Signature"), "message": fmt.Sprintf("%q", body)}
			})
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		proxy.ServeHTTP(w, req)
	}))
	s.T.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	s.Fleet.Register(s.ID, s.Identity.Account(), server.Listener.Addr().String())
	return came
}
