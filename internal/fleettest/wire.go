package fleettest

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/twin"
)

// Post sends a body as no client of ours would: as it is.
func Post(t testing.TB, url, body string) (status int, answer Message) {
	t.Helper()
	status, text := PostText(t, url, body)
	answer, err := ParseMessage(text)
	if err != nil {
		t.Fatalf("%s answers %d %q: %v", url, status, text, err)
	}
	return status, answer
}

func PostText(t testing.TB, url, body string) (status int, answer string) {
	t.Helper()
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// challenge is what a version 1 signature covers, from WIRE.md and not from the
// code under test.
func (m Message) challenge() []byte {
	text := m.Text("ver") + m.Text("uid") + m.Text("cmd") + m.Text("dat") + m.Text("src")
	switch dst := m["dst"].(type) {
	case []uint32:
		for _, d := range dst {
			text += fmt.Sprint(d)
		}
	case []any:
		for _, d := range dst {
			text += fmt.Sprint(d)
		}
	}
	text += m.Text("ret") + m.Text("now") + fmt.Sprint(m["pxy"] == true)
	sum := md5.Sum([]byte(text))
	return sum[:]
}

// Sign returns the message with this twin's signature.
func (p *Person) Sign(m Message) Message {
	return m.With("sig", hex.EncodeToString(p.Identity.Sign(m.challenge())))
}

// Signed tells whether the message has this twin's signature.
func (p *Person) Signed(m Message) error {
	sig, err := hex.DecodeString(m.Text("sig"))
	if err != nil {
		return err
	}
	return twin.Verify(p.Identity.PublicKey(), m.challenge(), sig)
}

// Command is a request for /zbus-cmd of twin dst's relay.
func (p *Person) Command(cmd, data string, dst uint32) Message {
	return p.Sign(Message{
		"ver": 1, "uid": "", "cmd": cmd, "exp": 120, "try": 0, "dat": Encode(data), "src": p.ID, "dst": []uint32{dst},
		"ret": "", "shm": "", "now": time.Now().Unix(), "pxy": true, "err": "",
	})
}

// Wire is a request as this twin's relay would post it to twin dst's, unsigned.
func (p *Person) Wire(cmd, data string, dst uint32, n int) Message {
	return Message{
		"ver": 1, "uid": fmt.Sprintf("%d.%d", dst, n), "cmd": cmd, "exp": 120, "try": 0, "dat": Encode(data), "src": p.ID,
		"dst": []uint32{dst}, "ret": "msgbus.system.reply", "shm": "", "now": time.Now().Unix(), "pxy": false, "err": "",
	}
}

// Results asks for what has come to a queue of /zbus-cmd.
func (s *Site) Results(queue, query string) []Message {
	s.T.Helper()
	status, text := PostText(s.T, s.URL("/zbus-result"+query), fmt.Sprintf(`{"retqueue":%q}`, queue))
	if status != http.StatusOK {
		s.T.Fatalf("/zbus-result of %s answers %d %q", queue, status, text)
	}
	var list []Message
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&list); err != nil {
		s.T.Fatalf("/zbus-result of %s answers %q: %v", queue, text, err)
	}
	return list
}
