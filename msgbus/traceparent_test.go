package msgbus_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The specification's own example.
const sampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// A span under another trace than the app's is one that nobody finds.
func TestATraceparentIsReadAsTheSpecificationSays(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for text, sampled := range map[string]bool{
		sampledParent:                          true,
		"00-" + id + "-" + parent + "-00":      false,
		"00-" + id + "-" + parent + "-02":      false, // another flag
		"00-" + id + "-" + parent + "-ff":      true,
		"01-" + id + "-" + parent + "-01":      true, // a later version
		"cc-" + id + "-" + parent + "-01-what": true,
	} {
		got, isSampled, ok := msgbus.ParseTraceparent(text)
		if !ok || isSampled != sampled || fmt.Sprintf("%x %x", got.ID, got.Parent) != id+" "+parent {
			t.Errorf("%q is read as %x, sampled %v, ok %v", text, got, isSampled, ok)
		}
	}
	for _, text := range []string{
		"", "00", strings.Repeat("-", 55), strings.ToUpper(sampledParent), " " + sampledParent, sampledParent + " ",
		sampledParent + "-", sampledParent + "-01", "cc-" + id + "-" + parent + "-01.what", // what follows
		"ff-" + id + "-" + parent + "-01", "0g-" + id + "-" + parent + "-01", "0-" + id + "-" + parent + "-001", // version
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01", "00-" + id + "-" + strings.Repeat("0", 16) + "-01",
		"00-" + id[1:] + "-" + parent + "-011", "00_" + id + "_" + parent + "_01", "00-" + id + "-" + parent + "-0x",
	} {
		if got, sampled, ok := msgbus.ParseTraceparent(text); ok || sampled || got != (msgbus.Trace{}) {
			t.Errorf("%q is read as %x, sampled %v, ok %v", text, got, sampled, ok)
		}
	}
}

// What libraries write wrongly must not keep a request from its service.
func TestAWrongTraceparentIsCarriedAndMeansNothing(t *testing.T) {
	for value, traced := range map[string]bool{
		`"` + sampledParent + `"`:                                   true,
		`"\u00300` + sampledParent[2:] + `"`:                        true, // the same text
		`"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"`: false,
		`"00-xyz"`: false, `""`: false, `null`: false, `17`: false, `true`: false, `["` + sampledParent + `"]`: false, `{"a":1}`: false,
	} {
		m, err := msgbus.Decode(`{"ver":1,"uid":"","cmd":"x","dst":[2],"ret":"r","traceparent":` + value + `,"tracestate":"a=b"}`)
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		if got := m.Trace != nil; got != traced {
			t.Errorf("%s has a trace: %v", value, got)
		}
		for name, out := range map[string][]byte{
			"between relays": m.AppendWire(nil), "in the backlog": m.AppendEntryTail(nil),
			"to a Ref service": m.AppendRequest(nil, msgbus.Ref), "to a Ref app": m.AppendReply(nil, msgbus.Ref),
		} {
			if want := `,"traceparent":` + value + `,"tracestate":"a=b"}`; !strings.HasSuffix(string(out), want) {
				t.Errorf("%s: %s does not end in %s", name, out, want)
			}
		}
	}
	// Where else the word stands, it is data of the app.
	for _, member := range []string{`"Traceparent":"` + sampledParent + `"`, `"x":{"traceparent":"` + sampledParent + `"}`} {
		if m, err := msgbus.Decode(`{"ver":1,"uid":"","cmd":"x",` + member + `}`); err != nil || m.Trace != nil {
			t.Errorf("%s: %v, trace %v", member, err, m.Trace)
		}
	}
}

func FuzzATraceparentIsWhatTheGrammarSays(f *testing.F) {
	grammar := regexp.MustCompile(`^(?:00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])|[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(?:-(?s:.*))?)$`)
	for _, text := range []string{sampledParent, "01" + sampledParent[2:] + "-x", "ff" + sampledParent[2:], strings.ToUpper(sampledParent), ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var id, parent, flags string
		parts := grammar.FindStringSubmatch(text)
		want := parts != nil && !strings.HasPrefix(text, "ff") && (len(text) == 55 || !strings.HasPrefix(text, "00"))
		if want {
			id, parent, flags = parts[1]+parts[4], parts[2]+parts[5], parts[3]+parts[6]
			want = strings.Trim(id, "0") != "" && strings.Trim(parent, "0") != ""
		}
		got, sampled, ok := msgbus.ParseTraceparent(text)
		if ok != want || sampled != (want && strings.Contains("13579bdf", flags)) {
			t.Fatalf("%q: ok %v, sampled %v", text, ok, sampled)
		}
		if ok && fmt.Sprintf("%x %x", got.ID, got.Parent) != id+" "+parent {
			t.Fatalf("%q is read as %x", text, got)
		}
	})
}
