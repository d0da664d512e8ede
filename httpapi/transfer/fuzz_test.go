package transfer_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
)

// echo gives back a signature that was read.
type echo []byte

func (e echo) Sign([]byte) []byte { return e }

// headers reads header fields, "Name: value" a line.
func headers(text string) http.Header {
	h := make(http.Header)
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, found := strings.Cut(line, ": "); found {
			h.Add(name, value)
		}
	}
	return h
}

func lines(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b) // a Builder takes everything
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// A header that is accepted is the one that its meaning would be written as: else
// two texts of one transfer go about, and the signature is over one of them.
func FuzzHead(f *testing.F) {
	for _, kt := range keyTypes {
		p := newPair(f, kt, transfer.Gzip)
		f.Add(lines(p.sent.header))
		f.Add(lines(p.answered.header))
	}
	f.Fuzz(func(t *testing.T, text string) {
		given := headers(text)
		if h, signature, err := transfer.ReadHead(given); err != nil {
			wantMalformed(t, text, err)
		} else {
			written := make(http.Header)
			h.Sign(written, echo(signature))
			sameFields(t, given, written)
			if again, _, err := transfer.ReadHead(written); err != nil || *again != *h || !bytes.Equal(again.Base(), h.Base()) {
				t.Errorf("read again as %+v, %v", again, err)
			}
			if bytes.Count(h.Base(), []byte{'\n'}) != 9 {
				t.Errorf("a value brings lines of its own: %q", h.Base())
			}
		}
		request := bytes.Repeat([]byte{'e'}, transfer.SignatureLength)
		if h, signature, err := transfer.ReadAnswer(200, given, request); err != nil {
			wantMalformed(t, text, err)
		} else {
			written := make(http.Header)
			h.Sign(written, echo(signature))
			sameFields(t, given, written)
			if bytes.Count(h.Base(), []byte{'\n'}) != 6 {
				t.Errorf("a value brings lines of its own: %q", h.Base())
			}
		}
	})
}

func sameFields(t *testing.T, given, written http.Header) {
	t.Helper()
	for name, values := range written {
		if !slices.Equal(given.Values(name), values) {
			t.Errorf("%s: %q is accepted for %q", name, given.Values(name), values)
		}
	}
}

// A message that changes between two relays is another message.
func FuzzBody(f *testing.F) {
	f.Add(someBody())
	f.Add([]byte(goodRequest + "\n" + goodReply + "\n{}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		read, err := transfer.ReadBody(body)
		if !bytes.Equal(body, given) {
			t.Fatal("ReadBody wrote to its input")
		}
		if err != nil {
			wantMalformed(t, "body", err)
			return
		}
		if len(read) != bytes.Count(body, []byte{'\n'}) || len(read) > transfer.MostMessages {
			t.Fatalf("%d lines", len(read))
		}
		for _, l := range read {
			if l.Err != nil {
				wantMalformed(t, "line", l.Err)
				continue
			}
			wire := transfer.AppendMessage(nil, l.Outgoing)
			again, err := transfer.ReadBody(wire)
			if err != nil || len(again) != 1 || again[0].Err != nil || again[0].Kind != l.Kind {
				t.Fatalf("%s is read again as %+v, %v", wire, again, err)
			}
			if second := transfer.AppendMessage(nil, again[0].Outgoing); !bytes.Equal(second, wire) {
				t.Fatalf("the second encoding differs:\n%s\n%s", wire, second)
			}
		}
	})
}

// An outcome means to the sender what the receiver meant.
func FuzzOutcomes(f *testing.F) {
	f.Add([]byte("{\"outcome\":\"accepted\"}\n{\"outcome\":\"later\",\"reason\":\"queue_full\",\"after\":1}\n"))
	f.Add([]byte("{\"outcome\":\"refused\",\"reason\":\"not_exposed\",\"more\":[{}]}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := bytes.Count(body, []byte{'\n'})
		outcomes, ok := transfer.ReadOutcomes(body, n)
		if !ok {
			return
		}
		var wire []byte
		for _, o := range outcomes {
			if o.Word != transfer.Accepted && o.Word != transfer.Refused && o.Word != transfer.Later || o.After < 0 || o.After > transfer.MostAfter {
				t.Errorf("%+v", o)
			}
			wire = transfer.AppendOutcome(wire, o)
		}
		if again, ok := transfer.ReadOutcomes(wire, n); !ok || !slices.Equal(again, outcomes) {
			t.Errorf("%v is read again as %v, %v", outcomes, again, ok)
		}
	})
}

// No body takes more memory than the limit, and what is expanded can be sent on.
func FuzzExpand(f *testing.F) {
	f.Add(transfer.Compress(someBody()))
	f.Add(append(transfer.Compress(nil), transfer.Compress(nil)...))
	f.Add(transfer.Compress(make([]byte, 100_000)))
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 10_000
		if plain, err := transfer.Expand(transfer.Identity, body, most, uncounted); (err == nil) != (len(body) <= most) || err == nil && !bytes.Equal(plain, body) {
			t.Errorf("%d bytes are %d, %v", len(body), len(plain), err)
		}
		plain, err := transfer.Expand(transfer.Gzip, body, most, uncounted)
		if err != nil {
			if !errors.Is(err, transfer.ErrTooLarge) {
				wantMalformed(t, "gzip", err)
			}
			return
		}
		if len(plain) > most {
			t.Errorf("%d bytes", len(plain))
		}
		if again, err := transfer.Expand(transfer.Gzip, transfer.Compress(plain), most, uncounted); err != nil || !bytes.Equal(again, plain) {
			t.Errorf("expanded again: %v", err)
		}
	})
}

// A digest has one text, and a text one digest.
func FuzzDigest(f *testing.F) {
	f.Add(transfer.DigestOf(nil).Field())
	f.Add("sha-512=:AA==:, " + transfer.DigestOf(nil).Field())
	f.Fuzz(func(t *testing.T, field string) {
		if d, ok := transfer.ParseDigest(field); ok && d.Field() != field {
			t.Errorf("%q is read as %q", field, d.Field())
		}
	})
}

// Nothing that differs from what was signed is accepted with another meaning,
// whatever is done to it.
func FuzzForgery(f *testing.F) {
	var pairs []*pair
	for _, kt := range keyTypes {
		for _, encoding := range []string{transfer.Identity, transfer.Gzip} {
			p := newPair(f, kt, encoding)
			pairs = append(pairs, p)
			f.Add(uint8(len(pairs)-1), lines(p.sent.header), p.sent.body, lines(p.answered.header), p.answered.body)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, header string, body []byte, answerHeader string, answerBody []byte) {
		p := pairs[int(which)%len(pairs)]
		if meaning, err := p.receive(1002, parcel{headers(header), body}); err == nil {
			if meant, err := p.receive(1002, p.sent); err != nil || meaning != meant {
				t.Errorf("accepted:\n%s\nwas signed:\n%s", meaning, meant)
			}
		}
		if meaning, err := p.hear(1002, p.signature, 2, reply{200, parcel{headers(answerHeader), answerBody}}); err == nil {
			if meant, err := p.hear(1002, p.signature, 2, p.answered); err != nil || meaning != meant {
				t.Errorf("accepted:\n%s\nwas signed:\n%s", meaning, meant)
			}
		}
	})
}
