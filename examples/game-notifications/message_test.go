package main

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/msgbusd/msgbusd/client"
)

// The messages of the document, in its order, and new_items, which only the original's code
// has. A message is {action, token, data}; its token is optional.
var documented = []struct {
	action   string
	data     any
	fields   []string // of data, as the document names them; nil: there is none
	channels []string
}{
	{ActionDebug, Debug{Message: "what a tester sees"}, []string{"message"}, []string{Broadcast, UserChannel("666")}},
	{ActionKick, nil, nil, []string{UserChannel("666")}},
	{ActionNodeReady, NodeReady{ID: "node-1", Type: "ContactPerp", Path: "some.full.path", Result: []byte(`{"profiles":12}`)},
		[]string{"id", "path", "result", "type"}, []string{UserChannel("666")}},
	{ActionNewItems, NewItems{Items: []Item{{ID: "1", Name: "profile set", Count: 1}}}, []string{"items"}, []string{UserChannel("666")}},
}

// A front end written after the document finds another field, or none, and does nothing.
func TestEveryDocumentedMessagePassesBetweenTwoRelays(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	seen := map[string]bool{ActionCharge: true} // which is for a queue; see below
	for _, d := range documented {
		seen[d.action] = true
		for _, channel := range d.channels {
			for _, token := range []string{"", "the-auth-token"} {
				hears, err := b.Subscribe(patient(t), channel, 0)
				if err != nil {
					t.Fatal(err)
				}
				m := message(t, d.action, d.data)
				m.Token = token
				if err := a.Publish(patient(t), channel, m); err != nil {
					t.Fatal(err)
				}
				e, err := hears.Next(patient(t))
				if err != nil {
					t.Fatalf("%s on %s does not come: %v", d.action, channel, err)
				}
				if e.Source != twinA || e.Topic != channel {
					t.Errorf("%s comes of twin %d on %s", d.action, e.Source, e.Topic)
				}
				wantFields(t, e.Data, d.action, token, d.fields)
				if err := hears.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for action := range dataFields {
		if !seen[action] {
			t.Errorf("%s is not in the list of documented messages", action)
		}
	}
}

// wantFields wants JSON to be a message with these fields and no others.
func wantFields(t *testing.T, raw []byte, action, token string, fields []string) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"action": `"` + action + `"`, "data": string(m["data"])}
	if token != "" {
		want["token"] = `"` + token + `"`
	}
	for name, value := range want {
		if got, there := m[name]; !there || string(got) != value {
			t.Errorf("%s has %s in %s, want %s", action, got, name, value)
		}
	}
	if len(m) != len(want) {
		t.Errorf("%s is %s, want %d fields", action, raw, len(want))
	}
	var data map[string]json.RawMessage
	if err := json.Unmarshal(m["data"], &data); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range data {
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, fields) {
		t.Errorf("the data of %s has the fields %q, want %q", action, names, fields)
	}
}

// A worker finds a task that is not what the client has submitted.
func TestAQueuedMessagePassesWithAllItsFields(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	got := make(chan json.RawMessage, 1)
	b.serve(func(mux client.Mux) {
		client.Handle(mux, TaskQueue, func(_ context.Context, task json.RawMessage) (any, error) {
			got <- task
			return nil, nil
		})
	})
	m := message(t, ActionCharge, Charge{ID: "node-1", Type: "ContactPerp", Path: "some.full.path"})
	m.Token = "the-auth-token"
	if err := a.Send(patient(t), twinB, Task{ID: "1001/1.1", AuthUID: "666", Message: m}); err != nil {
		t.Fatal(err)
	}
	select {
	case raw := <-got:
		var task struct {
			ID      string          `json:"id"`
			AuthUID string          `json:"auth_uid"`
			Message json.RawMessage `json:"message"`
		}
		if err := json.Unmarshal(raw, &task); err != nil || task.ID != "1001/1.1" || task.AuthUID != "666" {
			t.Errorf("the worker finds %s (%v)", raw, err)
		}
		wantFields(t, task.Message, ActionCharge, "the-auth-token", []string{"id", "path", "type"})
	case <-patient(t).Done():
		t.Fatal("the worker gets no task")
	}
}

// A typing error of one service silently breaks all front ends, or one kick ends all games.
func TestMessagesThatTheDocumentDoesNotAllowAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		channel string
		m       Message
	}{
		"no action":             {Broadcast, Message{Data: []byte("null")}},
		"no data":               {Broadcast, Message{Action: ActionDebug}},
		"data is no mapping":    {Broadcast, Message{Action: ActionDebug, Data: []byte(`"text"`)}},
		"debug without message": {Broadcast, Message{Action: ActionDebug, Data: []byte(`{}`)}},
		"a kick of everybody":   {Broadcast, Message{Action: ActionKick, Data: []byte("null")}},
		"a node of everybody":   {Broadcast, Message{Action: ActionNodeReady, Data: []byte(`{"id":"","type":"","path":"","result":1}`)}},
		"node without result":   {UserChannel("1"), Message{Action: ActionNodeReady, Data: []byte(`{"id":"","type":"","path":""}`)}},
	} {
		if err := c.m.checkFor(c.channel); err == nil {
			t.Errorf("%s: it is published", name)
		}
	}
	later := Message{Action: "of_a_later_version", Data: []byte(`{"x":1}`)}
	if err := later.checkFor(Broadcast); err != nil {
		t.Errorf("an action that is not known is refused: %v", err)
	}
}
