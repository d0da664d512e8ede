package msgbus_test

import (
	"reflect"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A uid that two texts stand for is one that can be handled twice.
func TestOnlyWhatFormatUIDWritesIsAUID(t *testing.T) {
	for text, want := range map[string]struct {
		dst uint32
		n   uint64
	}{
		"1002.117":                    {1002, 117},
		"1.1":                         {1, 1},
		"4294967295.9007199254740991": {1<<32 - 1, msgbus.MaxUIDNumber},
	} {
		dst, n, ok := msgbus.ParseUID(text)
		if !ok || dst != want.dst || n != want.n {
			t.Errorf("ParseUID(%q) = %d, %d, %v", text, dst, n, ok)
		}
		if got := msgbus.FormatUID(want.dst, want.n); got != text {
			t.Errorf("FormatUID = %q, want %q", got, text)
		}
	}
	for _, text := range []string{"", ".", "1", "1.", ".1", "0.1", "1.0", "01.1", "1.01", "+1.1", "1.+1", "-1.1", "1.-1", " 1.1", "1.1 ",
		"1.1.1", "1,1", "1.1e3", "0x1.1", "4294967296.1", "1.9007199254740992", "1.18446744073709551616", "１.1", "1.1\x00", "1_0.1", "a.b"} {
		if dst, n, ok := msgbus.ParseUID(text); ok || dst != 0 || n != 0 {
			t.Errorf("ParseUID(%q) = %d, %d, %v; want a refusal", text, dst, n, ok)
		}
	}
}

// A stranger who calls `system.local` makes the relay sign for him as itself.
func TestCommandsThatNameTheRelaysKeysAreReserved(t *testing.T) {
	for cmd, want := range map[string]bool{
		"system": true, "system.local": true, "system.": true, "system.backlog": true, "counter": true, "counter.1002": true,
		"systems": false, "systematic.add": false, "counters.x": false, "my.system.local": false, "System.local": false, "": false,
	} {
		if got := msgbus.ReservedCommand(cmd); got != want {
			t.Errorf("ReservedCommand(%q) = %v", cmd, got)
		}
		for _, prefix := range []string{"msgbus", "{msgbus}", "a.b"} {
			if got := msgbus.ReservedQueue(prefix, prefix+"."+cmd); got != want {
				t.Errorf("ReservedQueue(%q, %q) = %v", prefix, prefix+"."+cmd, got)
			}
			if msgbus.ReservedQueue(prefix, cmd) {
				t.Errorf("ReservedQueue(%q, %q): a queue without the prefix is an app's", prefix, cmd)
			}
		}
	}
	if msgbus.ReservedQueue("{msgbus}", "msgbus.system.local") || msgbus.ReservedQueue("msgbus", "msgbussystem.local") {
		t.Error("another prefix's queue counts as ours")
	}
}

// An --expose pattern that matches too much opens a service to every twin.
func TestMatchCommandReadsPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		cmd      string
		want     bool
	}{
		{nil, "a", false},
		{[]string{"*"}, "", true},
		{[]string{"*"}, "a/b", true},
		{[]string{"calculator.*"}, "calculator.add", true},
		{[]string{"calculator.*"}, "calculator.deep.add", true},
		{[]string{"calculator.*"}, "calculator", false},
		{[]string{"calculator.*"}, "xcalculator.add", false},
		{[]string{"calculator.add"}, "calculatorxadd", false},
		{[]string{"calculator.add"}, "calculator.add2", false},
		{[]string{"a.?"}, "a.b", true},
		{[]string{"a.?"}, "a.bc", false},
		{[]string{"a.[bc]"}, "a.c", true},
		{[]string{"a", "b"}, "b", true},
		{[]string{"["}, "[", false},
		{[]string{""}, "", true},
	} {
		if got := msgbus.MatchCommand(c.patterns, c.cmd); got != c.want {
			t.Errorf("MatchCommand(%q, %q) = %v", c.patterns, c.cmd, got)
		}
	}
}

// A destination named twice would get the message twice.
func TestATwinNamedTwiceIsOneDestination(t *testing.T) {
	m := msgbus.Message{Destinations: []uint32{3, 1, 3, 2, 1, 3}}
	m.UniqueDestinations()
	if want := []uint32{3, 1, 2}; !reflect.DeepEqual(m.Destinations, want) {
		t.Errorf("destinations are %v, want %v", m.Destinations, want)
	}
	var none msgbus.Message
	none.UniqueDestinations()
	if len(none.Destinations) != 0 {
		t.Errorf("destinations are %v", none.Destinations)
	}
}

// Base64 that two readers read differently is two messages under one signature.
func TestDataIsStrictBase64(t *testing.T) {
	for data, want := range map[string]bool{
		"": true, "WzEwLDIwXQ==": true, "QUJD": true, "AA==": true, "AAA=": true, "+/+/": true,
		"QUJD\n": false, "QU\r\nJD": false, "QUJ": false, "QUJDQ": false, "AB==": false, "AAB=": false, "====": false,
		"AA==AA==": false, "-_-_": false, "QU JD": false, "R0E3...2WUw=": false, ":": false, "QUJ\x00": false,
	} {
		if got := msgbus.ValidData(data); got != want {
			t.Errorf("ValidData(%q) = %v", data, got)
		}
	}
}

// The word of a refusal is in logs and metrics, its text goes to people.
func TestARefusalSaysItsText(t *testing.T) {
	r := msgbus.Refuse(msgbus.NotExposed, "command %q", "x")
	if r.Error() != `command "x"` || r.Reason != "not_exposed" {
		t.Errorf("got %q, %q", r.Error(), r.Reason)
	}
	if got := (&msgbus.Failure{Reason: msgbus.Timeout}).Error(); got != "timeout" {
		t.Errorf("a failure without detail says %q", got)
	}
	if got := (&msgbus.Failure{Reason: msgbus.Timeout, Detail: "d"}).Error(); got != "d" {
		t.Errorf("a failure says %q", got)
	}
	if msgbus.Ref.String() != "ref" || msgbus.Classic.String() != "classic" {
		t.Error("the words of the dialects have changed: entries in Redis hold them")
	}
}
