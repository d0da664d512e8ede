package transfer_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

var writeVectors = flag.Bool("write-vectors", false, "write testdata/transfer.json anew, with new sr25519 signatures")

const vectorsFile = "testdata/transfer.json"

// vectors is testdata/transfer.json, which testdata/README.md describes.
type vectors struct {
	Comment   string           `json:"comment"`
	Secrets   []secretVector   `json:"secrets"`
	Transfers []transferVector `json:"transfers"`
}

type secretVector struct {
	Twin      uint32 `json:"twin"`
	KeyType   string `json:"key_type"`
	Secret    string `json:"secret"`
	PublicKey string `json:"public_key"`
	Account   string `json:"account"`
}

type transferVector struct {
	Name      string            `json:"name"`
	KeyType   string            `json:"key_type"`
	Plain     string            `json:"plain"`
	Body      string            `json:"body_base64"`
	Fields    map[string]string `json:"fields"`
	Base      string            `json:"signature_base"`
	Signature string            `json:"signature"`
	Answer    answerVector      `json:"answer"`
}

type answerVector struct {
	Status    int               `json:"status"`
	Body      string            `json:"body"`
	Fields    map[string]string `json:"fields"`
	Base      string            `json:"signature_base"`
	Signature string            `json:"signature"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// keyring returns the identities of the vectors by key type and twin.
func (v vectors) keyring(t *testing.T) map[string]map[uint32]*twin.Identity {
	t.Helper()
	ring := make(map[string]map[uint32]*twin.Identity)
	for _, s := range v.Secrets {
		kt, err := twin.ParseKeyType(s.KeyType)
		if err != nil {
			t.Fatal(err)
		}
		if ring[s.KeyType] == nil {
			ring[s.KeyType] = make(map[uint32]*twin.Identity)
		}
		ring[s.KeyType][s.Twin] = identity(t, s.Secret, kt)
	}
	return ring
}

func header(fields map[string]string) http.Header {
	h := make(http.Header)
	for name, value := range fields {
		h.Set(name, value)
	}
	return h
}

func flat(h http.Header) map[string]string {
	fields := make(map[string]string)
	for name := range h {
		fields[name] = h.Get(name)
	}
	return fields
}

// Other implementations are built against this file: what it says, we make and
// accept, byte for byte.
func TestTheVectorsAreWhatWeMakeAndAccept(t *testing.T) {
	if *writeVectors {
		newVectors(t)
	}
	v := readVectors(t)
	ring := v.keyring(t)
	for _, s := range v.Secrets {
		id := ring[s.KeyType][s.Twin]
		if key := id.PublicKey(); hex.EncodeToString(key[:]) != s.PublicKey || id.Account() != s.Account {
			t.Errorf("%s of twin %d leads to %s", s.KeyType, s.Twin, id)
		}
	}
	if len(v.Transfers) < 4 {
		t.Errorf("%d transfers", len(v.Transfers))
	}
	for _, want := range v.Transfers {
		t.Run(want.Name+" "+want.KeyType, func(t *testing.T) {
			w := world{keys: make(map[uint32]twin.PublicKey)}
			for number, id := range ring[want.KeyType] {
				w.keys[number] = id.PublicKey()
			}
			checkTransfer(t, w, ring[want.KeyType], want)
		})
	}
}

func checkTransfer(t *testing.T, w world, ring map[uint32]*twin.Identity, want transferVector) {
	body, err := base64.StdEncoding.DecodeString(want.Body)
	if err != nil {
		t.Fatal(err)
	}
	h, signature, err := transfer.ReadHead(header(want.Fields))
	if err != nil {
		t.Fatal(err)
	}
	if string(h.Base()) != want.Base {
		t.Errorf("covered bytes are\n%s\nwant\n%s", h.Base(), want.Base)
	}
	if hex.EncodeToString(signature) != want.Signature {
		t.Errorf("signature is %x", signature)
	}
	if _, err := w.receive(h.Destination, parcel{header(want.Fields), body}); err != nil {
		t.Errorf("not accepted: %v", err)
	}
	if plain, err := transfer.Expand(h.Encoding, body, bodyLimit, uncounted); err != nil || string(plain) != want.Plain {
		t.Errorf("the body says %q, %v", plain, err)
	}
	checkLines(t, want.Plain)
	made := make(http.Header)
	checkSignature(t, want.KeyType, h.Sign(made, ring[h.Source]), signature)
	made.Set("Signature", want.Fields["Signature"])
	if !maps.Equal(flat(made), want.Fields) {
		t.Errorf("fields are %v", flat(made))
	}

	said, answered, err := transfer.ReadAnswer(want.Answer.Status, header(want.Answer.Fields), signature)
	if err != nil {
		t.Fatal(err)
	}
	if string(said.Base()) != want.Answer.Base {
		t.Errorf("covered bytes of the answer are\n%s\nwant\n%s", said.Base(), want.Answer.Base)
	}
	if hex.EncodeToString(answered) != want.Answer.Signature {
		t.Errorf("signature of the answer is %x", answered)
	}
	if want.Answer.Status == http.StatusOK {
		r := reply{want.Answer.Status, parcel{header(want.Answer.Fields), []byte(want.Answer.Body)}}
		if _, err := w.hear(h.Destination, signature, bytes.Count([]byte(want.Plain), []byte{'\n'}), r); err != nil {
			t.Errorf("the answer is not accepted: %v", err)
		}
	}
	made = make(http.Header)
	said.Sign(made, ring[said.Source])
	made.Set("Signature", want.Answer.Fields["Signature"])
	if !maps.Equal(flat(made), want.Answer.Fields) {
		t.Errorf("fields of the answer are %v", flat(made))
	}
	checkSignature(t, want.KeyType, ring[said.Source].Sign(said.Base()), answered)
}

// checkLines wants lines that are what we would write.
func checkLines(t *testing.T, plain string) {
	t.Helper()
	read, err := transfer.ReadBody([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	var again []byte
	for _, l := range read {
		if l.Err != nil {
			t.Fatal(l.Err)
		}
		again = transfer.AppendMessage(again, l.Outgoing)
	}
	if string(again) != plain {
		t.Errorf("written again:\n%s\nwant\n%s", again, plain)
	}
}

// checkSignature compares what we sign with what is written there: ed25519 is
// always the same, sr25519 never.
func checkSignature(t *testing.T, kt string, made, want []byte) {
	t.Helper()
	if same := bytes.Equal(made, want); same != (kt == twin.ED25519.String()) {
		t.Errorf("%s: signed anew it is %x", kt, made)
	}
}

// newVectors writes the file.
func newVectors(t *testing.T) {
	v := vectors{Comment: "Described in README.md. The secrets are public development ones."}
	for _, kt := range keyTypes {
		for i, secret := range []string{"//Alice", "//Bob"} {
			number := uint32(1001 + i)
			id := identity(t, secret, kt)
			key := id.PublicKey()
			v.Secrets = append(v.Secrets, secretVector{number, kt.String(), secret, hex.EncodeToString(key[:]), id.Account()})
		}
	}
	ring := v.keyring(t)
	refused := []byte(`{"Status":"error","Message":"the body is not what Content-Digest says","Reason":"bad_signature"}` + "\n")
	outcomes := transfer.AppendOutcome(nil, transfer.Outcome{Word: transfer.Accepted})
	outcomes = transfer.AppendOutcome(outcomes, transfer.Outcome{Word: transfer.Later, Reason: msgbus.QueueFull, After: 1})
	for _, kt := range keyTypes {
		alice, bob := ring[kt.String()][1001], ring[kt.String()][1002]
		greeting, plain, packed := someHead(), someHead(), someHead()
		greeting.Epoch = transfer.None
		packed.Encoding = transfer.Gzip
		v.Transfers = append(v.Transfers,
			newVector("greeting", kt, alice, bob, greeting, nil, 200, nil),
			newVector("plain", kt, alice, bob, plain, someBody(), 200, outcomes),
			newVector("gzip", kt, alice, bob, packed, someBody(), 200, outcomes),
			newVector("refused as a whole", kt, alice, bob, plain, someBody(), 400, refused))
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func newVector(name string, kt twin.KeyType, from, to *twin.Identity, head transfer.Head, plain []byte, status int, said []byte) transferVector {
	p, signature := sign(from, head, plain)
	head.Digest = transfer.DigestOf(p.body)
	a := transfer.AnswerHead{Status: status, Source: head.Destination, Key: transfer.None, Digest: transfer.DigestOf(said), Created: head.Created + 1, Request: signature}
	r := answer(to, a, said)
	_, answered, err := transfer.ReadAnswer(status, r.header, signature)
	if err != nil {
		panic(err)
	}
	return transferVector{Name: name, KeyType: kt.String(), Plain: string(plain), Body: base64.StdEncoding.EncodeToString(p.body), Fields: flat(p.header),
		Base: string(head.Base()), Signature: hex.EncodeToString(signature),
		Answer: answerVector{Status: status, Body: string(said), Fields: flat(r.header), Base: string(a.Base()), Signature: hex.EncodeToString(answered)}}
}
