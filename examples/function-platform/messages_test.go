package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// serviceFields are those of the document's "Service Request".
var serviceFields = strings.Fields(`headers action method uri-args host content-type remote-addr server-protocol server-port server-addr
	remote-port request-uri request-id args remote-user request http-referer http-user-agent scheme uri reply-to reply-queue
	body-base64-encoded body`)

// A program of another language reads the document, and finds other messages on the bus.
func TestEveryMessageOfTheDocumentPassesBetweenTwoRelays(t *testing.T) {
	p := newPlatform(t)
	both := map[string]Function{hello.SHA: echo, shop.SHA: echo}
	tron, _ := p.tron(hello, shop)
	p.runner(p.a.ID, both)
	runner, runs := p.runner(p.b.ID, both)
	older, olderRuns := p.frontEnd(p.b.ID, "nginx-1")
	all := []string{"/hello/shop 1001/func-c93d07", "/hello/shop 1002/func-c93d07", "/hello 1001/func-4f1ab2", "/hello 1002/func-4f1ab2"}
	p.awaitRoutes(older, all...)
	p.askOverHTTP(older, 2) // both twins have their turn
	if err := tron.Disable(p.patient(), shop.SHA); err != nil {
		t.Fatal(err)
	}
	newer, newerRuns := p.frontEnd(p.b.ID, "nginx-1")
	if err := olderRuns.wait(); !errors.Is(err, ErrReplaced) {
		t.Errorf("the older front end ends with %v", err)
	}
	p.awaitRoutes(newer, all[2:]...)
	isFrom := func(id string) func(json.RawMessage) bool {
		return func(raw json.RawMessage) bool {
			var m struct{ From string }
			return json.Unmarshal(raw, &m) == nil && m.From == id
		}
	}
	ofRunner, ofNewer, ofAny := isFrom(runner.opts.ID), isFrom(newer.opts.ID), func(json.RawMessage) bool { return true }
	isHeartbeat := func(of func(json.RawMessage) bool) func(Message) bool {
		return func(m Message) bool { return header(m.Raw).Action == ActionHeartbeat && of(m.Raw) }
	}
	p.seenA.await(t, "the runner's heart beats", isHeartbeat(ofRunner))
	p.seenA.await(t, "the front end's heart beats", isHeartbeat(ofNewer))
	newerRuns.leave()
	runs.leave()

	acks := func(action string) func(json.RawMessage) bool { // of a message that the runner got
		return func(raw json.RawMessage) bool {
			ack, err := parse[Ack](raw, ActionAck)
			return err == nil && slices.ContainsFunc(p.seenB.all(), func(m Message) bool {
				h := header(m.Raw)
				return h.Action == action && h.MsgID == ack.AckID
			})
		}
	}
	hasRoutes := func(raw json.RawMessage) bool { // on a slow machine the first table has none
		table, err := parse[RouteTable](raw, ActionRoute)
		return err == nil && len(table.Routes) > 0
	}
	atA, atB := site{p.seenA, p.a.ID}, site{p.seenB, p.b.ID}
	for _, row := range []struct {
		section string // of the document
		seen    site   // by somebody of the other twin
		to      string // whose queue
		action  string
		fields  string
		is      func(json.RawMessage) bool
	}{
		{"Tron to Runner: Associate Queue with Func Bundle", atB, runner.queue, "enable", "action msg-id from tron-host at props sha", ofAny},
		{"Tron to Runner: Disassociate Queue with Func Bundle", atB, runner.queue, "disable", "action msg-id from tron-host at sha", ofAny},
		{"Tron to Runner: Host Information", atB, runner.queue, "tron-info", "action msg-id tron-host at", ofAny},
		{"Tron to Runner: List of all Func bundles", atB, runner.queue, "all-bundles", "action tron-host msg-id at bundles", ofAny},
		{"Runner to Tron: Awake", atA, tronQueue, "awake", "action type msg-id from at", ofRunner},
		{"Runner to Tron: Died", atA, tronQueue, "died", "action msg-id from at", ofRunner},
		{"Runner to Tron: Heartbeat, and Statistics", atA, tronQueue, "heartbeat", "action msg-id from at statistics", ofRunner},
		{"Runner to Tron: Ack Associate", atA, tronQueue, "ack", "action msg-id from ack-id at", acks(ActionEnable)},
		{"Runner to Tron: Ack Disassociate", atA, tronQueue, "ack", "action msg-id from ack-id at", acks(ActionDisable)},
		{"Frontend to Tron: Awake", atA, tronQueue, "awake", "action type msg-id instance-id from at", ofNewer},
		{"Frontend to Tron: Died", atA, tronQueue, "died", "action type msg-id from at", ofNewer},
		{"Frontend to Tron: Heartbeat", atA, tronQueue, "heartbeat", "action msg-id from at", ofNewer},
		{"Frontend to Tron: Ack Update Routing", atA, tronQueue, "ack", "action msg-id from ack-id at", acks(ActionRoute)},
		{"Tron to Frontend: Update routing", atB, older.queue, "route", "action msg-id routes at", hasRoutes},
		{"Tron to Frontend: Die", atB, older.queue, "die", "action msg-id instance-id at", ofAny},
		{"Frontend to Runner: Service Request", atA, bundleQueue(shop.SHA), "service", strings.Join(serviceFields, " "), ofAny},
		{"Runner to Frontend: Result of Servicing Request", atB, older.queue, "answer", "action msg-id request-id answer at", ofAny},
	} {
		t.Run(row.section, func(t *testing.T) {
			all := row.seen.all()
			i := slices.IndexFunc(all, func(m Message) bool {
				return m.To == row.to && m.From != row.seen.twin && header(m.Raw).Action == row.action && row.is(m.Raw)
			})
			if i < 0 {
				t.Fatalf("no message %s has come to %s from the other twin", row.action, row.to)
			}
			wantFields(t, all[i].Raw, strings.Fields(row.fields))
		})
	}
}

type site struct {
	*recorder
	twin uint32
}

// askOverHTTP asks a front end as a browser does, so that all of a request is there.
func (p *platform) askOverHTTP(f *FrontEnd, times int) {
	p.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	for range times {
		r, err := http.NewRequestWithContext(p.patient(), http.MethodPost, server.URL+"/hello/shop/bread?loaves=2", strings.NewReader("\x00\xff"))
		if err != nil {
			p.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set("Referer", "http://web.example/")
		r.Header.Set("User-Agent", "browser/1")
		r.SetBasicAuth("ann", "secret")
		w, err := server.Client().Do(r)
		if err != nil {
			p.Fatal(err)
		}
		if err := w.Body.Close(); err != nil || w.StatusCode != http.StatusOK {
			p.Fatalf("the answer has the status %d, %v", w.StatusCode, err)
		}
	}
}

// wantFields wants a message to have the documented fields, with values, and no others.
func wantFields(t *testing.T, raw json.RawMessage, fields []string) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if got, want := slices.Sorted(maps.Keys(m)), slices.Sorted(slices.Values(fields)); !slices.Equal(got, want) {
		t.Errorf("the fields are %q, want %q", got, want)
	}
	for name, value := range m {
		if err := checkField(name, value); err != nil {
			t.Errorf("%s is %s: %v", name, value, err)
		}
	}
}

// checkField tells what is wrong with the value of a field of the document.
func checkField(name string, raw json.RawMessage) error {
	switch name {
	case "at":
		var at int64
		if err := json.Unmarshal(raw, &at); err != nil {
			return err
		}
		if age := time.Since(time.UnixMilli(at)); age < -time.Second || age > 5*time.Minute {
			return fmt.Errorf("that is %s ago", age)
		}
		return nil
	case "tron-host":
		return equal(raw, HostPort{"tron.example", 3000})
	case "props":
		return nonEmpty[map[string]string](raw)
	case "bundles":
		return eachHas(raw, "host", "path", "sha")
	case "routes":
		return eachHas(raw, "host", "path", "queue")
	case "statistics":
		return has(raw, "errors", "requests")
	case "headers":
		return nonEmpty[map[string][]string](raw)
	case "uri-args":
		return equal(raw, map[string][]string{"loaves": {"2"}})
	case "body-base64-encoded":
		return equal(raw, true)
	case "answer":
		return checkAnswer(raw)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	return checkText(name, text)
}

func checkText(name, text string) error {
	want, isFixed := map[string]string{
		"body": base64.StdEncoding.EncodeToString([]byte("\x00\xff")), "method": "POST", "content-type": "application/octet-stream",
		"args": "loaves=2", "request-uri": "/hello/shop/bread?loaves=2", "uri": "/hello/shop/bread", "request": "POST /hello/shop/bread?loaves=2 HTTP/1.1",
		"http-referer": "http://web.example/", "http-user-agent": "browser/1", "scheme": "http", "remote-user": "ann",
		"server-protocol": "HTTP/1.1", "remote-addr": "127.0.0.1", "server-addr": "127.0.0.1", "instance-id": "nginx-1",
	}[name]
	switch {
	case isFixed && text != want:
		return fmt.Errorf("want %q", want)
	case text == "":
		return fmt.Errorf("it is empty")
	case slices.Contains([]string{"msg-id", "from", "ack-id", "request-id", "reply-to"}, name):
		_, err := uuid.Parse(text)
		return err
	case name == "reply-queue":
		return new(Queue).UnmarshalText([]byte(text))
	}
	return nil
}

func checkAnswer(raw json.RawMessage) error {
	if err := has(raw, "body", "headers", "status"); err != nil {
		return err
	}
	var answer struct {
		Headers [][]string
		Status  int
		Body    string
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	body, err := base64.StdEncoding.DecodeString(answer.Body)
	if err != nil || string(body) != "/hello/shop/bread" || answer.Status != 200 || len(answer.Headers) != 1 || len(answer.Headers[0]) != 2 {
		return fmt.Errorf("want status 200, a header and the path in base64, not %+v (%v)", answer, err)
	}
	return nil
}

func equal[V any](raw json.RawMessage, want V) error {
	text, err := json.Marshal(want)
	if err == nil && string(text) != string(raw) {
		err = fmt.Errorf("want %s", text)
	}
	return err
}

func nonEmpty[M ~map[string]V, V any](raw json.RawMessage) error {
	var m M
	err := json.Unmarshal(raw, &m)
	if err == nil && len(m) == 0 {
		err = fmt.Errorf("it is empty")
	}
	return err
}

func has(raw json.RawMessage, fields ...string) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, fields) {
		return fmt.Errorf("its fields are %q, want %q", got, fields)
	}
	return nil
}

func eachHas(raw json.RawMessage, fields ...string) error {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("it is empty")
	}
	for _, one := range all {
		if err := has(one, fields...); err != nil {
			return err
		}
	}
	return nil
}
