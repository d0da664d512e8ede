package msgbus_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Every published relay answers 400 to everything that we send when these bytes
// are off by one: the vectors are ones that the archived daemon verifies.
func TestChallengeIsWhatPublishedVerifiersHash(t *testing.T) {
	data, err := os.ReadFile("testdata/signature.json")
	if err != nil {
		t.Fatal(err)
	}
	var vector struct {
		Message   json.RawMessage
		Challenge string
		MD5       string
	}
	if err := json.Unmarshal(data, &vector); err != nil {
		t.Fatal(err)
	}
	m := decode(t, string(vector.Message))
	if got := m.ChallengeText(); got != vector.Challenge {
		t.Errorf("signed text is %q, want %q", got, vector.Challenge)
	}
	sum := m.Challenge()
	if got := hex.EncodeToString(sum[:]); got != vector.MD5 {
		t.Errorf("challenge is %s, want %s", got, vector.MD5)
	}
}

// A field that is covered by mistake, or not, breaks every signature of messages
// in which it is not empty.
func TestChallengeCoversTheFieldsOfVersionOneAndNoOther(t *testing.T) {
	base := msgbus.Message{Version: 1, UID: "2.1", Command: "c", Data: "ZA==", Source: 3, Destinations: []uint32{2},
		ReturnQueue: "r", Now: 4, Proxied: false}
	const want = "12.1cZA==32r4false"
	if got := base.ChallengeText(); got != want {
		t.Fatalf("signed text is %q, want %q", got, want)
	}
	for name, change := range map[string]func(*msgbus.Message){
		"exp": func(m *msgbus.Message) { m.Expiration = 9 }, "try": func(m *msgbus.Message) { m.Retry = 9 },
		"shm": func(m *msgbus.Message) { m.Schema = "x" }, "err": func(m *msgbus.Message) { m.Error = "x" },
		"sig": func(m *msgbus.Message) { m.Signature = "x" }, "epoch": func(m *msgbus.Message) { m.Epoch = "x" },
	} {
		m := base
		change(&m)
		if m.Challenge() != base.Challenge() {
			t.Errorf("%s is covered", name)
		}
	}
	for name, change := range map[string]func(*msgbus.Message){
		"ver": func(m *msgbus.Message) { m.Version = 2 }, "uid": func(m *msgbus.Message) { m.UID = "2.2" },
		"cmd": func(m *msgbus.Message) { m.Command = "d" }, "dat": func(m *msgbus.Message) { m.Data = "ZQ==" },
		"src": func(m *msgbus.Message) { m.Source = 4 }, "dst": func(m *msgbus.Message) { m.Destinations = []uint32{2, 3} },
		"ret": func(m *msgbus.Message) { m.ReturnQueue = "s" }, "now": func(m *msgbus.Message) { m.Now = 5 },
		"pxy": func(m *msgbus.Message) { m.Proxied = true },
	} {
		m := base
		change(&m)
		if m.Challenge() == base.Challenge() {
			t.Errorf("%s is not covered", name)
		}
	}
}
