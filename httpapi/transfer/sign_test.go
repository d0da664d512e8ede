package transfer_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// wantMalformed checks that what a stranger gets wrong is told as such.
func wantMalformed(t *testing.T, what string, err error) {
	t.Helper()
	var refusal *msgbus.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != msgbus.Malformed {
		t.Errorf("%s: %v, want a refusal with reason malformed", what, err)
	}
}

// The bytes are RFC 9421's, so that a library of another language makes the same
// ones: a component a line, no line feed at the end.
func TestTheCoveredBytesAreTheSignatureBaseOfTheRFC(t *testing.T) {
	head := someHead()
	head.Digest = transfer.DigestOf([]byte("{\"hello\": \"world\"}\n"))
	want := `"@method": POST
"@path": /zbus-transfer
"content-digest": sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:
"content-encoding": identity
"content-type": application/x-ndjson
"msgbus-source": 1001
"msgbus-destination": 1002
"msgbus-epoch": 5218bd2f0a7e4c11
"msgbus-seal": none
"@signature-params": ("@method" "@path" "content-digest" "content-encoding" "content-type" "msgbus-source" "msgbus-destination" "msgbus-epoch" "msgbus-seal");created=1700000000;nonce="AAECAwQFBgcICQoLDA0ODw";keyid="1001";tag="msgbus-transfer"`
	if got := string(head.Base()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	signature := bytes.Repeat([]byte{0xff}, transfer.SignatureLength)
	said := transfer.AnswerHead{Status: 200, Source: 1002, Key: transfer.None, Digest: head.Digest, Created: 1700000001, Request: signature}
	want = `"@status": 200
"content-digest": sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:
"content-type": application/x-ndjson
"msgbus-source": 1002
"msgbus-key": none
"signature";req;key="msgbus": :` + base64.StdEncoding.EncodeToString(signature) + `:
"@signature-params": ("@status" "content-digest" "content-type" "msgbus-source" "msgbus-key" "signature";req;key="msgbus");created=1700000001;keyid="1002";tag="msgbus-answer"`
	if got := string(said.Base()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// RFC 9530 appendix D has this digest of this body.
func TestADigestIsThatOfTheRFC(t *testing.T) {
	const field = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
	d := transfer.DigestOf([]byte("{\"hello\": \"world\"}\n"))
	if d.Field() != field {
		t.Errorf("got %s", d.Field())
	}
	if again, ok := transfer.ParseDigest(field); !ok || again != d {
		t.Error("the field is not read")
	}
	for _, bad := range []string{
		"", "sha-256", "sha-256=", "sha-256=::", "SHA-256" + field[7:], " " + field, field + " ", field + ";a", field + ", " + field,
		"sha-512=:AA==:, " + field, strings.Replace(field, "=:", "= :", 1), strings.TrimSuffix(field, ":"), strings.Replace(field, "=:", "=", 1),
		strings.Replace(field, "Dg=:", "Dh=:", 1), // trailing bits
		strings.Replace(field, "Dg=:", "Dg:", 1), strings.Replace(field, "RK/0", "RK_0", 1), strings.Replace(field, "RK/0", "\r\n/0", 1),
		strings.Replace(field, "RK/0", "RK/0AAAA", 1), "sha-256=:RK/0:", "sha-256=" + field[9:len(field)-1],
	} {
		if _, ok := transfer.ParseDigest(bad); ok {
			t.Errorf("%q is read as a digest", bad)
		}
	}
}

// spellings are what each header field of a transfer is changed to. Some say the
// same to a lenient reader: then there would be two texts of one transfer, and a
// signature over only one of them.
func spellings(value string) []string {
	all := []string{"", " " + value, value + " ", "\t" + value, value + "\n", value + ";a=1", value + ", " + value, value + ",", "+" + value, "0" + value,
		strings.ToUpper(value), value[:len(value)-1], value[1:], value + "A", value + "\x00", "x", "none", "1", "0", "-1", "4294967296", "18446744073709551617",
		"ümlaut", strings.Repeat("a", 1<<16)}
	for _, change := range [][2]string{{"=", " = "}, {";", "; "}, {"msgbus=", "other="}, {"msgbus=", "Msgbus="}, {`" "`, `"  "`}, {`"`, ""}, {"=:", ":"},
		{":", "::"}, {"=1700000000", "=01700000000"}, {"=1700000000", "=+1700000000"}, {"=1700000000", "=1700000000.0"}, {"=1700000000", "=-1700000000"},
		{"=1700000000", "=1000000000000000"}, {"=1700000000", "=99999999999999999999"},
		{`keyid="1001"`, `keyid="01001"`}, {`keyid="1001"`, `keyid=1001`}, {`keyid="1001"`, `keyid="1003"`}, {`"@method" `, ``}, {`"@method" "@path"`, `"@path" "@method"`},
		{"transfer", "answer"}, {`;tag`, `;alg="ed25519";tag`}, {"Dw\"", "Dx\""}, {"Dw\"", "D-\""}, {"nonce=\"A", "nonce=\"+"}, {"nonce=\"AA", "nonce=\""}} {
		all = append(all, strings.Replace(value, change[0], change[1], 1))
	}
	return all
}

// A relay that took a second spelling, or one of two fields, could be shown
// another message than the one that was signed.
func TestAFieldThatIsChangedMissingOrDoubledIsRefused(t *testing.T) {
	for _, kt := range keyTypes {
		p := newPair(t, kt, transfer.Identity)
		for name, values := range p.sent.header {
			changed := p.sent.clone()
			try := func(values ...string) {
				changed.header[name] = values
				if meaning, err := p.receive(1002, changed); err == nil {
					t.Errorf("%s: %q is taken as %s", name, values, meaning)
				}
			}
			for _, spelling := range spellings(values[0]) {
				if spelling != values[0] {
					try(spelling)
				}
			}
			try()
			try(values[0], values[0])
			try(values[0], "")
			try("", values[0])
		}
		for name, values := range p.answered.header {
			changed := reply{p.answered.status, p.answered.clone()}
			try := func(values ...string) {
				changed.header[name] = values
				if meaning, err := p.hear(1002, p.signature, 2, changed); err == nil {
					t.Errorf("answer's %s: %q is taken as %s", name, values, meaning)
				}
			}
			for _, spelling := range spellings(values[0]) {
				if spelling != values[0] {
					try(spelling)
				}
			}
			try()
			try(values[0], values[0])
			try(values[0], "")
			try("", values[0])
		}
	}
}

// What is missing or misspelt is told before anybody is looked up, with the name
// of the field that an operator of the other side has to look at.
func TestTheFirstFieldThatIsWrongIsNamed(t *testing.T) {
	p := newPair(t, keyTypes[0], transfer.Identity)
	for name := range p.sent.header {
		changed := p.sent.clone()
		changed.header.Del(name)
		_, _, err := transfer.ReadHead(changed.header)
		wantMalformed(t, name, err)
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for name := range p.answered.header {
		changed := p.answered.clone()
		changed.header.Del(name)
		_, _, err := transfer.ReadAnswer(200, changed.header, p.signature)
		wantMalformed(t, "answer's "+name, err)
	}
	_, _, err := transfer.ReadHead(http.Header{})
	wantMalformed(t, "no fields", err)
}

// What a relay can send, it can read: the limits of both are the same.
func TestWhatIsSignedIsRead(t *testing.T) {
	p := newPair(t, keyTypes[0], transfer.Identity)
	for what, change := range map[string]func(*transfer.Head){
		"largest twins":  func(h *transfer.Head) { h.Source, h.Destination = 1<<32-1, 1<<32-2 },
		"no epoch":       func(h *transfer.Head) { h.Epoch = transfer.None },
		"longest epoch":  func(h *transfer.Head) { h.Epoch = strings.Repeat("f", 32) },
		"shortest epoch": func(h *transfer.Head) { h.Epoch = "0" },
		"gzip":           func(h *transfer.Head) { h.Encoding = transfer.Gzip },
		"a seal":         func(h *transfer.Head) { h.Seal = `key="a b", enc=:AA==:` },
		"longest seal":   func(h *transfer.Head) { h.Seal = strings.Repeat("~", 1024) },
		"oldest":         func(h *transfer.Head) { h.Created = 0 },
		"latest":         func(h *transfer.Head) { h.Created = 999_999_999_999_999 },
		"a new nonce":    func(h *transfer.Head) { h.Nonce = transfer.NewNonce() },
	} {
		head := someHead()
		change(&head)
		header := make(http.Header)
		signature := head.Sign(header, p.alice)
		read, again, err := transfer.ReadHead(header)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if *read != head || !bytes.Equal(again, signature) {
			t.Errorf("%s: read %+v, signed %+v", what, *read, head)
		}
	}
	for what, change := range map[string]func(*transfer.Head){
		"no source":          func(h *transfer.Head) { h.Source = 0 },
		"no destination":     func(h *transfer.Head) { h.Destination = 0 },
		"empty epoch":        func(h *transfer.Head) { h.Epoch = "" },
		"epoch too long":     func(h *transfer.Head) { h.Epoch = strings.Repeat("f", 33) },
		"epoch in capitals":  func(h *transfer.Head) { h.Epoch = "AB" },
		"epoch with a colon": func(h *transfer.Head) { h.Epoch = "a:b" },
		"other encoding":     func(h *transfer.Head) { h.Encoding = "br" },
		"seal too long":      func(h *transfer.Head) { h.Seal = strings.Repeat("~", 1025) },
		"seal ends in blank": func(h *transfer.Head) { h.Seal = "none " },
		"two lines of seal":  func(h *transfer.Head) { h.Seal = "none\n\"@method\": GET" },
		"before 1970":        func(h *transfer.Head) { h.Created = -1 },
		"16 digits":          func(h *transfer.Head) { h.Created = 1_000_000_000_000_000 },
		"nonce too short":    func(h *transfer.Head) { h.Nonce = "AAECAwQFBgcICQoLDA0OD" },
		"nonce's last bits":  func(h *transfer.Head) { h.Nonce = "AAECAwQFBgcICQoLDA0ODx" },
		"nonce with quote":   func(h *transfer.Head) { h.Nonce = `AAECAwQFBgcICQoLDA0O"w` },
		"nonce of lines":     func(h *transfer.Head) { h.Nonce = "AAECAwQFBgcICQoLDA0O\nw" },
	} {
		head := someHead()
		change(&head)
		header := make(http.Header)
		head.Sign(header, p.alice)
		_, _, err := transfer.ReadHead(header)
		wantMalformed(t, what, err)
	}
}

// One accepted forgery and the bus is anybody's: FAILURES.md row 28. Not one bit
// of what is sent may differ from what was signed.
func TestNoFlippedBitOfATransferIsAccepted(t *testing.T) {
	for _, kt := range keyTypes {
		for _, encoding := range []string{transfer.Identity, transfer.Gzip} {
			p := newPair(t, kt, encoding)
			for name, values := range p.sent.header {
				changed := p.sent.clone()
				for bit := range len(values[0]) * 8 {
					text := []byte(values[0])
					text[bit/8] ^= 1 << (bit % 8)
					changed.header.Set(name, string(text))
					if _, err := p.receive(1002, changed); err == nil {
						t.Errorf("%s %s: %q is accepted", kt, name, text)
					}
				}
			}
			changed := p.sent.clone()
			for bit := range len(changed.body) * 8 {
				changed.body[bit/8] ^= 1 << (bit % 8)
				if _, err := p.receive(1002, changed); err == nil {
					t.Errorf("%s %s: bit %d of the body is flipped and accepted", kt, encoding, bit)
				}
				changed.body[bit/8] ^= 1 << (bit % 8)
			}
			if !changed.equal(p.sent) {
				t.Fatal("the test does not put back what it flips")
			}
		}
	}
}

// Somebody on the path who can change one bit of an answer makes a peer drop a
// message that was not taken, or send one again that was.
func TestNoFlippedBitOfAnAnswerIsAccepted(t *testing.T) {
	for _, kt := range keyTypes {
		p := newPair(t, kt, transfer.Identity)
		refused := func(what string, r reply, request []byte) {
			t.Helper()
			if _, err := p.hear(1002, request, 2, r); err == nil {
				t.Errorf("%s: %s is accepted", kt, what)
			}
		}
		for name, values := range p.answered.header {
			for bit := range len(values[0]) * 8 {
				text := []byte(values[0])
				text[bit/8] ^= 1 << (bit % 8)
				changed := reply{p.answered.status, p.answered.clone()}
				changed.header.Set(name, string(text))
				refused(name+" "+string(text), changed, p.signature)
			}
		}
		for bit := range len(p.answered.body) * 8 {
			changed := reply{p.answered.status, p.answered.clone()}
			changed.body[bit/8] ^= 1 << (bit % 8)
			refused("a bit of the body", changed, p.signature)
		}
		for bit := range len(p.signature) * 8 {
			other := bytes.Clone(p.signature)
			other[bit/8] ^= 1 << (bit % 8)
			refused("an answer to another transfer", p.answered, other)
		}
		for _, status := range []int{0, 201, 400, 503, -200} {
			refused("another status", reply{status, p.answered.parcel}, p.signature)
		}
	}
}

// An answer is for one transfer: an old "accepted" must not end a new message.
func TestAnAnswerFitsNoOtherTransfer(t *testing.T) {
	for _, kt := range keyTypes {
		p := newPair(t, kt, transfer.Identity)
		head := someHead()
		head.Nonce = "AAECAwQFBgcICQoLDA0OEA"
		_, other := sign(p.alice, head, someBody())
		if _, err := p.hear(1002, other, 2, p.answered); err == nil {
			t.Errorf("%s: the answer to another transfer is accepted", kt)
		}
		if _, err := p.hear(1001, p.signature, 2, p.answered); err == nil {
			t.Errorf("%s: the answer of another twin is accepted", kt)
		}
	}
}

// A relay signs whatever answer its peers cause. None of it may be a transfer, nor
// a message of version 1, nor the other way round.
func TestASignatureOfOneKindIsNoneOfAnother(t *testing.T) {
	for _, kt := range keyTypes {
		p := newPair(t, kt, transfer.Identity)
		v1 := message("1002.117", "").Challenge()
		for what, signature := range map[string][]byte{
			"an answer's": p.alice.Sign((&transfer.AnswerHead{Status: 200, Source: 1001, Key: transfer.None, Created: clock, Request: p.signature}).Base()),
			"version 1's": p.alice.Sign(v1[:]),
			"a bare base": p.alice.Sign(someBody()),
		} {
			changed := p.sent.clone()
			changed.header.Set("Signature", "msgbus=:"+base64.StdEncoding.EncodeToString(signature)+":")
			if _, err := p.receive(1002, changed); err == nil {
				t.Errorf("%s: %s signature is a transfer's", kt, what)
			}
		}
		// All fields of an answer in place of a transfer's, and the other way round.
		if _, err := p.receive(1002, p.answered.parcel); err == nil {
			t.Errorf("%s: an answer is taken for a transfer", kt)
		}
		if _, err := p.hear(1001, p.signature, 2, reply{200, p.sent}); err == nil {
			t.Errorf("%s: a transfer is taken for an answer", kt)
		}
		both := p.answered.clone()
		for name, values := range p.sent.header {
			both.header[name] = values
		}
		both.body = p.sent.body
		if _, err := p.hear(1001, p.signature, 2, reply{200, both}); err == nil {
			t.Errorf("%s: a transfer with the fields of an answer is taken for one", kt)
		}
	}
}

// The first line tells the kinds apart whatever the fields say, and 16 bytes, as
// version 1 signs, are none of either.
func TestTheCoveredBytesBeginWithTheirKind(t *testing.T) {
	if b := (&transfer.Head{}).Base(); !bytes.HasPrefix(b, []byte("\"@method\": POST\n")) || len(b) <= 16 {
		t.Errorf("a transfer begins %.20s", b)
	}
	if b := (&transfer.AnswerHead{}).Base(); !bytes.HasPrefix(b, []byte("\"@status\": ")) || len(b) <= 16 {
		t.Errorf("an answer begins %.20s", b)
	}
}

// A nonce that repeats makes two transfers of one second one, and the second is
// refused as a replay.
func TestNoncesDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		n := transfer.NewNonce()
		if seen[n] || len(n) != 22 {
			t.Fatalf("nonce %q", n)
		}
		seen[n] = true
	}
}
