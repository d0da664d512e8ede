package transfer_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	goodRequest = `{"request":{"ver":1,"uid":"1002.117","src":1001,"dst":[1002],"cmd":"a","now":1}}`
	goodReply   = `{"reply":{"ver":1,"uid":"1001.4","src":1001,"dst":[1002],"cmd":"a","now":1}}`
)

// A hundred messages must not fail for one that an app got wrong.
func TestALineThatIsNoMessageCostsOnlyItself(t *testing.T) {
	for _, bad := range []string{
		``, ` `, `{}`, `null`, `[]`, `"`, `{"request":}`, `{"request":null}`, `{"request":{}`, `{"request":1}`, `{"reply":[]}`, `{"request":{"ver":1}}}`,
		`{"other":{"ver":1}}`, `{"Request":{"ver":1}}`, `{ "request":{"ver":1}}`, `{"request" :{"ver":1}}`, `{"request":{"ver":1},"reply":{"ver":1}}`,
		`{"request":{"ver":1},"x":{}}`, `{"request":{"ver":1}} `, goodRequest + "\r", goodRequest + goodReply, `{"request":{"ver":1,"ver":1}}`,
		`{"request":{"VER":1}}`, `{"request":{"uid":"a","sig":"00"}}`, `{"request":{"uid":1}}`, "{\"request\":{\"uid\":\"\xff\"}}", "\x00", "\xef\xbb\xbf" + goodRequest,
		`{"request":` + strings.Repeat(`{"a":`, 20_000) + strings.Repeat(`}`, 20_001), `{"request":{"a":` + strings.Repeat("[", 50_000) + `}}`,
		`{"request":` + strings.Repeat(" ", 1000) + `}`,
	} {
		lines, err := transfer.ReadBody([]byte(goodRequest + "\n" + bad + "\n" + goodReply + "\n"))
		if err != nil || len(lines) != 3 {
			t.Errorf("%.80q: %d lines, %v", bad, len(lines), err)
			continue
		}
		if lines[0].Err != nil || lines[0].Kind != msgbus.RequestParcel || lines[0].Message.UID != "1002.117" {
			t.Errorf("%.80q: the line before it is %+v", bad, lines[0])
		}
		wantMalformed(t, bad[:min(len(bad), 80)], lines[1].Err)
		if lines[1].Message == nil {
			t.Errorf("%.80q: no message, not even an empty one", bad)
		}
		if lines[2].Err != nil || lines[2].Kind != msgbus.ReplyParcel || lines[2].Message.UID != "1001.4" {
			t.Errorf("%.80q: the line after it is %+v", bad, lines[2])
		}
	}
}

// The note of a relay to itself is no business of a peer.
func TestANoteInALineMeansNothing(t *testing.T) {
	lines, err := transfer.ReadBody([]byte(`{"request":{"uid":"1002.1","msgbusd":{"deadline":1}}}` + "\n"))
	if err != nil || lines[0].Err != nil || lines[0].Message.Note != nil {
		t.Errorf("%+v, %v", lines, err)
	}
}

// A body that was cut off, or holds more than a relay looks at, is no transfer.
func TestABodyEndsWithALineAndHasABoundOnThem(t *testing.T) {
	for _, bad := range []string{goodRequest, goodRequest + "\n" + goodReply, "\n ", strings.Repeat("\n", transfer.MostMessages+1)} {
		_, err := transfer.ReadBody([]byte(bad))
		wantMalformed(t, bad[:min(len(bad), 80)], err)
	}
	for n, body := range map[int]string{0: "", 1: "\n", transfer.MostMessages: strings.Repeat(goodRequest+"\n", transfer.MostMessages)} {
		lines, err := transfer.ReadBody([]byte(body))
		if err != nil || len(lines) != n {
			t.Errorf("%d lines, %v, want %d", len(lines), err, n)
		}
	}
}

// What is sent is what arrives.
func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	lines, err := transfer.ReadBody(someBody())
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	var again []byte
	for _, l := range lines {
		if l.Err != nil {
			t.Fatal(l.Err)
		}
		again = transfer.AppendMessage(again, l.Outgoing)
	}
	if !bytes.Equal(again, someBody()) {
		t.Errorf("got\n%s\nwant\n%s", again, someBody())
	}
}

func gzipped(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A few kilobytes that expand to gigabytes take the relay's memory: what a body
// expands to has the bound of any other body.
func TestWhatABodyExpandsToHasALimit(t *testing.T) {
	plain := bytes.Repeat([]byte("a"), 1000)
	for encoding, body := range map[string][]byte{transfer.Identity: plain, transfer.Gzip: transfer.Compress(plain)} {
		for most, want := range map[int64]error{999: transfer.ErrTooLarge, 1000: nil, 1001: nil, 0: transfer.ErrTooLarge} {
			got, err := transfer.Expand(encoding, body, most, uncounted)
			if !errors.Is(err, want) || err == nil && !bytes.Equal(got, plain) {
				t.Errorf("%s, at most %d: %d bytes, %v", encoding, most, len(got), err)
			}
		}
	}
	bomb := gzipped(t, make([]byte, 64<<20))
	if allocated := testing.AllocsPerRun(1, func() {
		if _, err := transfer.Expand(transfer.Gzip, bomb, 1<<20, uncounted); !errors.Is(err, transfer.ErrTooLarge) {
			t.Errorf("a bomb of %d bytes: %v", len(bomb), err)
		}
	}); allocated > 200 {
		t.Errorf("%v allocations for a bomb", allocated)
	}
}

// Only one gzip member, whole, and nothing after it: else one digest would cover
// what other readers read in other ways, and empty members are work for nothing.
func TestABodyIsOneGzipMember(t *testing.T) {
	good := transfer.Compress([]byte("abc\n"))
	if plain, err := transfer.Expand(transfer.Gzip, good, 100, uncounted); err != nil || string(plain) != "abc\n" {
		t.Fatalf("%q, %v", plain, err)
	}
	if plain, err := transfer.Expand(transfer.Gzip, transfer.Compress(nil), 100, uncounted); err != nil || len(plain) != 0 {
		t.Errorf("an empty member: %q, %v", plain, err)
	}
	checksum := bytes.Clone(good)
	checksum[len(checksum)-5] ^= 1
	for what, bad := range map[string][]byte{
		"nothing":               {},
		"plain text":            []byte("abc\n"),
		"two members":           append(bytes.Clone(good), good...),
		"an empty second one":   append(bytes.Clone(good), transfer.Compress(nil)...),
		"a byte after it":       append(bytes.Clone(good), 0),
		"text after it":         append(bytes.Clone(good), "abc"...),
		"cut off":               good[:len(good)-1],
		"without its checksum":  good[:len(good)-8],
		"with another checksum": checksum,
		"header only":           good[:10],
	} {
		_, err := transfer.Expand(transfer.Gzip, bad, 100, uncounted)
		wantMalformed(t, what, err)
	}
	_, err := transfer.Expand("br", good, 100, uncounted)
	wantMalformed(t, "another encoding", err)
}

// What expands is counted before there is more of it: sixty bodies at once, of a
// few kilobytes each, must not be sixty times 4 MiB before anybody looks.
//
// Broken by: in gunzip, count(len(plain)) after ReadAll.
func TestWhatABodyExpandsToIsCountedMeanwhile(t *testing.T) {
	const size, enough = 1 << 20, 200 << 10
	body := transfer.Compress(make([]byte, size))
	var counted int64
	count := func(most int64) func(int64) error {
		counted = 0
		return func(n int64) error {
			if counted += n; counted > most {
				return errRefused
			}
			return nil
		}
	}
	if plain, err := transfer.Expand(transfer.Gzip, body, size, count(size)); err != nil || counted != int64(len(plain)) {
		t.Errorf("%d bytes, %d counted, %v", len(plain), counted, err)
	}
	if plain, err := transfer.Expand(transfer.Gzip, body, size, count(enough)); !errors.Is(err, errRefused) || plain != nil || counted > enough+64<<10 {
		t.Errorf("%d bytes, %d counted, %v", len(plain), counted, err)
	}
	if plain, err := transfer.Expand(transfer.Identity, body, size, count(0)); err != nil || counted != 0 || len(plain) != len(body) {
		t.Errorf("what does not expand: %d bytes, %d counted, %v", len(plain), counted, err)
	}
}
