package msgbus_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// One app that pushes a hostile message must not stop the others: the decoder
// has to come back, with a reason, in memory that the message's size bounds.
func TestDecodeRefusesWhatIsNoMessage(t *testing.T) {
	deep := strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000)
	for name, text := range map[string]string{
		"nothing":              ``,
		"blanks":               " \n",
		"a word":               `hello`,
		"an array":             `[{"ver":1}]`,
		"a number":             `1`,
		"null":                 `null`,
		"NUL":                  "\x00",
		"a byte order mark":    "\ufeff{}",
		"half an object":       `{"ver":1,"cmd"`,
		"trailing data":        `{"ver":1} {}`,
		"trailing NUL":         "{\"ver\":1}\x00",
		"a trailing comma":     `{"ver":1,}`,
		"duplicate keys":       `{"dst":[1],"dst":[2]}`,
		"duplicate by escape":  `{"dst":[1],"\u0064st":[2]}`,
		"duplicate unknown":    `{"x":1,"x":2}`,
		"upper case":           `{"src":1,"SRC":2}`,
		"upper case alone":     `{"Dst":[1]}`,
		"long s":               "{\"\u017frc\":1}",
		"long s in dst":        `{"d\u017ft":[1]}`,
		"long s in the note":   "{\"m\u017fgbusd\":{}}",
		"NUL after a name":     `{"ret\u0000x":"q"}`,
		"NUL, in upper case":   `{"RET\u0000":"q"}`,
		"duplicate in a value": `{"x":{"y":[{"z":1,"z":2}]}}`,
		"duplicate in err":     `{"err":{"message":"a","message":"b"}}`,
		"invalid UTF-8":        "{\"cmd\":\"\xff\"}",
		"invalid UTF-8 in key": "{\"\xff\":1}",
		"a lone surrogate":     `{"cmd":"\ud800"}`,
		"deep nesting":         `{"x":` + deep + `}`,
		"deep dst":             `{"dst":` + deep + `}`,
		"deep err":             `{"err":{"message":` + deep + `}}`,
		"src negative":         `{"src":-1}`,
		"src 2^32":             `{"src":4294967296}`,
		"src fraction":         `{"src":1.5}`,
		"src object":           `{"src":{}}`,
		"src a name":           `{"src":"alice"}`,
		"dst nested":           `{"dst":[[1]]}`,
		"dst of null":          `{"dst":[null]}`,
		"dst of zero":          `{"dst":[0]}`,
		"dst of 2^63":          `{"dst":[9223372036854775808]}`,
		"dst bool":             `{"dst":true}`,
		"err a list":           `{"err":["x"]}`,
		"pxy a number":         `{"pxy":1}`,
		"now a word":           `{"now":"today"}`,
		"now infinity":         `{"now":"Inf"}`,
		"now not a number":     `{"now":"NaN"}`,
		"exp hexadecimal":      `{"exp":"0x10"}`,
		"exp bool":             `{"exp":true}`,
		"cmd a number":         `{"cmd":1}`,
		"ref a number":         `{"ref":1}`,
	} {
		m, err := msgbus.Decode([]byte(text))
		if reasonOf(t, err) != msgbus.Malformed {
			t.Errorf("%s: error %v, want one with reason %s", name, err, msgbus.Malformed)
		}
		if m == nil {
			t.Errorf("%s: no message came with the error", name)
		}
	}
	// The Kelvin sign folds to k, of which no known key has one: it is a key of its own.
	if m := decode(t, "{\"\u212a\":1}"); !strings.Contains(string(m.AppendWire(nil)), "\u212a") {
		t.Error("an unknown key was lost")
	}
}

// A stranger's 4 MiB must not become 80 MiB here, sixteen at a time, before
// anybody has looked at a signature.
func TestAMessageOfManySmallPartsCostsLittle(t *testing.T) {
	var keys strings.Builder
	for n := range 400_000 {
		fmt.Fprintf(&keys, `"%x":0,`, n)
	}
	members := keys.String()
	for name, text := range map[string]string{
		"keys":         `{` + members + `"ret":"q"}`,
		"nested keys":  `{"x":{` + members + `"y":0},"ret":"q"}`,
		"keys in err":  `{"err":{` + members + `"y":0},"ret":"q"}`,
		"destinations": `{"dst":[` + strings.Repeat("1,", 2_000_000) + `1],"ret":"q"}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := msgbus.Decode([]byte(text))
		runtime.ReadMemStats(&after)
		if reasonOf(t, err) != msgbus.Malformed || m.ReturnQueue != "q" {
			t.Errorf("%s: %v, ret %q", name, err, m.ReturnQueue)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 4*uint64(len(text)) {
			t.Errorf("%s: %d bytes of message took %d bytes of memory", name, len(text), got)
		}
	}
	few := `{` + members[:strings.LastIndex(members[:50_000], ",")] + `}`
	if _, err := msgbus.Decode([]byte(few)); err != nil {
		t.Errorf("%d keys are refused: %v", strings.Count(few, ":"), err)
	}
}

// A stranger's megabyte must not come back in an error, a log line or a reply.
func TestErrorsOfDecodeAreShort(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, text := range []string{`{"` + long + `":1,"` + long + `":2}`, `{"` + long + `":{"` + long + `":tru}}`, long, `{"cmd":` + long + `}`} {
		_, err := msgbus.Decode([]byte(text))
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

// An app that makes a mistake waits for ever when nobody can tell where it
// listens, or answers it in the other dialect.
func TestTheReturnQueueIsFoundBeforeAndAfterAMistake(t *testing.T) {
	for name, c := range map[string]struct {
		text, queue, ref string
		dialect          msgbus.Dialect
	}{
		"before":                 {`{"uid":"","ret":"q","dst":true}`, "q", "", msgbus.Classic},
		"after":                  {`{"uid":"","dst":true,"ret":"q"}`, "q", "", msgbus.Classic},
		"after a duplicate":      {`{"uid":"","x":1,"x":2,"ret":"q"}`, "q", "", msgbus.Classic},
		"after a key in capital": {`{"uid":"","DST":[1],"ret":"q"}`, "q", "", msgbus.Classic},
		"after bad UTF-8":        {"{\"uid\":\"\",\"cmd\":\"\xff\",\"ret\":\"q\"}", "q", "", msgbus.Classic},
		"escaped":                {`{"dst":true,"uid":"","r\u0065t":"\u0071"}`, "q", "", msgbus.Classic},
		"before the end":         {`{"uid":"","ret":"q","cmd":`, "q", "", msgbus.Classic},
		"too old to say":         {`{"ret":"q","cmd":`, "q", "", msgbus.Classic},
		"newer, after":           {`{"ver":1,"x":1,"x":2,"ref":"r","ret":"q"}`, "q", "r", msgbus.Ref},
		"newer, before":          {`{"ver":1,"ref":"r","con":null,"ret":"q","dst":true}`, "q", "r", msgbus.Ref},
		"of another type":        {`{"ret":5}`, "", "", msgbus.Classic},
		"nested only":            {`{"a":{"ret":"q"},"dst":true}`, "", "", msgbus.Classic},
		"array":                  {`[{"ret":"q"}]`, "", "", msgbus.Classic},
		"after broken syntax":    {`{"a":tru,"ret":"q"}`, "", "", msgbus.Classic},
	} {
		m, err := msgbus.Decode([]byte(c.text))
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if m.ReturnQueue != c.queue || m.Ref != c.ref || m.Dialect != c.dialect {
			t.Errorf("%s: ret %q, ref %q, dialect %s; want %q, %q, %s", name, m.ReturnQueue, m.Ref, m.Dialect, c.queue, c.ref, c.dialect)
		}
	}
}
