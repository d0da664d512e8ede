package msgbus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// extended is a reply with every member of `ext`, and one that nobody knows.
const extended = `{"ver":1,"uid":"1002.7","src":1002,"dst":[1001],"cmd":"render","exp":60,"try":2,"dat":"","ret":"msgbus.system.reply",` +
	`"shm":"","now":1,"pxy":false,"err":"no","ext":{"id":"17","tag":{"job":[4,"x"]},"progress":"app.7","oneway":true,"mandatory":true,"group":"racks","topic":"task/run.17","durable":true,"retain":true,"of":2,` +
	`"status":"progress","seq":3,"error":{"code":-4,"class":"ValueError","message":"no","data":{"args":[1]}},"new":{"a":1}},"other":1}`

// A relay that loses or changes a member on the way takes from apps what they agreed on.
func TestExtIsCarriedAsItCame(t *testing.T) {
	m := decode(t, extended)
	if got := string(m.AppendWire(nil)); got != extended {
		t.Errorf("it leaves as\n%s\nand came as\n%s", got, extended)
	}
	e := m.Ext
	got := fmt.Sprintf("%s %s %s %v %v %s %d", e.ID, e.Tag, e.Progress, e.OneWay, e.Mandatory, e.Status, e.Sequence)
	if want := `17 {"job":[4,"x"]} app.7 true true progress 3`; got != want {
		t.Errorf("it is read as %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%+v", *m.TypedError), fmt.Sprintf("%+v", msgbus.TypedError{Code: -4, Class: "ValueError", Message: "no", Data: []byte(`{"args":[1]}`)}); got != want {
		t.Errorf("its error is read as %s, want %s", got, want)
	}
	if got := decode(t, `{"ext":{}}`); got.Ext == nil || !strings.Contains(string(got.AppendWire(nil)), `"ext":{}`) {
		t.Error("an empty ext is lost, and with it that the app knows of typed errors")
	}
}

// An old app may have had a key of this name, or of one like it, for years.
func TestKeysThatAreNotOursAreCarried(t *testing.T) {
	for _, text := range []string{`"ext":"jpg"`, `"ext":null`, `"ext":[{"id":1}]`, `"Ext":{"id":1}`, `"EXT":1`} {
		m := decode(t, `{"cmd":"a",`+text+`}`)
		if wire := string(m.AppendWire(nil)); m.Ext != nil || !strings.Contains(wire, text) {
			t.Errorf("%s is carried as %s", text, wire)
		}
	}
}

// What one reader takes for text and another for a number are two messages.
func TestExtOfWrongTypesIsMalformed(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, ext := range []string{
		`{"id":17}`, `{"id":"` + long(65) + `"}`, `{"tag":"` + long(4096) + `"}`, `{"progress":["a"]}`, `{"progress":"` + long(513) + `"}`,
		`{"topic":"a..b"}`, `{"group":"a b"}`, `{"group":1}`, `{"topic":"a.*"}`, `{"durable":1}`, `{"of":{}}`, `{"retain":"x"}`, `{"oneway":"yes"}`, `{"mandatory":1}`, `{"status":1}`, `{"seq":"x"}`, `{"seq":-1}`, `{"error":"no"}`, `{"error":{"code":"x"}}`,
		`{"error":{"class":1}}`, `{"error":{"message":{}}}`, `{"id":"a","id":"b"}`, `{"x":"` + long(64<<10) + `"}`,
	} {
		_, err := msgbus.Decode(`{"cmd":"a","ext":` + ext + `}`)
		if got := reasonOf(t, err); got != msgbus.Malformed {
			t.Errorf("%.60s: %q, want malformed", ext, got)
		}
	}
}

// A service of the newer dialect gives its errors a code, and its apps read that.
func TestCodeOfAnErrorCrossesTheDialects(t *testing.T) {
	m := decode(t, `{"ver":1,"ref":"1002.7","dat":"","src":"1002","err":{"code":17,"message":"no"}}`)
	if m.Error != "no" || m.TypedError == nil || m.TypedError.Code != 17 {
		t.Fatalf("read as %q %+v", m.Error, m.TypedError)
	}
	if got := string(m.AppendReply(nil, msgbus.Ref)); !strings.Contains(got, `"err":{"code":17,"message":"no"}`) {
		t.Errorf("an app gets %s", got)
	}
	if got := string(m.AppendReply(nil, msgbus.Classic)); !strings.Contains(got, `"err":"no"`) || strings.Contains(got, `"ext"`) {
		t.Errorf("an old app gets %s", got)
	}
}
