package e2e

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

// post sends a body as no client of ours would: as it is.
func post(t testing.TB, url, body string) (status int, answer message) {
	t.Helper()
	status, text := postText(t, url, body)
	answer, err := parseMessage(text)
	if err != nil {
		t.Fatalf("%s answers %d %q: %v", url, status, text, err)
	}
	return status, answer
}

func postText(t testing.TB, url, body string) (status int, answer string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
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
func (m message) challenge() []byte {
	text := m.text("ver") + m.text("uid") + m.text("cmd") + m.text("dat") + m.text("src")
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
	text += m.text("ret") + m.text("now") + fmt.Sprint(m["pxy"] == true)
	sum := md5.Sum([]byte(text))
	return sum[:]
}

// sign returns the message with this twin's signature.
func (p *person) sign(m message) message {
	return m.with("sig", hex.EncodeToString(p.identity.Sign(m.challenge())))
}

// signed tells whether the message has this twin's signature.
func (p *person) signed(m message) error {
	sig, err := hex.DecodeString(m.text("sig"))
	if err != nil {
		return err
	}
	return twin.Verify(p.identity.PublicKey(), m.challenge(), sig)
}

// command is a request for /zbus-cmd of twin dst's relay.
func (p *person) command(cmd, data string, dst uint32) message {
	return p.sign(message{
		"ver": 1, "uid": "", "cmd": cmd, "exp": 120, "try": 0, "dat": encode(data), "src": p.id, "dst": []uint32{dst},
		"ret": "", "shm": "", "now": time.Now().Unix(), "pxy": true, "err": "",
	})
}

// wire is a request as this twin's relay would post it to twin dst's, unsigned.
func (p *person) wire(cmd, data string, dst uint32, n int) message {
	return message{
		"ver": 1, "uid": fmt.Sprintf("%d.%d", dst, n), "cmd": cmd, "exp": 120, "try": 0, "dat": encode(data), "src": p.id,
		"dst": []uint32{dst}, "ret": "msgbus.system.reply", "shm": "", "now": time.Now().Unix(), "pxy": false, "err": "",
	}
}

// results asks for what has come to a queue of /zbus-cmd.
func (s *site) results(queue, query string) []message {
	s.t.Helper()
	status, text := postText(s.t, s.url("/zbus-result"+query), fmt.Sprintf(`{"retqueue":%q}`, queue))
	if status != http.StatusOK {
		s.t.Fatalf("/zbus-result of %s answers %d %q", queue, status, text)
	}
	var list []message
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&list); err != nil {
		s.t.Fatalf("/zbus-result of %s answers %q: %v", queue, text, err)
	}
	return list
}
