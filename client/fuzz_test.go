package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A request that an app can send and its service cannot read, or reads otherwise.
func FuzzARequestIsReadAsItWasWritten(f *testing.F) {
	f.Add("calculator.add", []byte("[1,2]"), "text/plain", "1", `{"job":4}`, true, false, int64(60))
	f.Add("\xff\"\\", []byte{0, 255}, "é\x00", "", "", false, true, int64(-1))
	f.Fuzz(func(t *testing.T, cmd string, data []byte, schema, id, tag string, oneway, mandatory bool, exp int64) {
		if !utf8.ValidString(cmd + "," + schema + "," + id) {
			return
		}
		want := outgoing{
			command: cmd, destinations: []uint32{1002, 1003}, data: data, schema: schema, ret: "list", now: 1700000000, exp: exp, retries: 3,
			ext: extension{id: id, oneway: oneway, mandatory: mandatory},
		}
		if json.Valid([]byte(tag)) {
			want.ext.tag = json.RawMessage(strings.Trim(tag, " \t\r\n"))
		}
		raw := want.append(nil)
		m, err := parseRequest(raw)
		if want.ext.tag != nil && err != nil {
			return // such as a name that is there twice, which encoding/json lets pass
		}
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		got := outgoing{
			command: m.command, destinations: m.destinations, data: want.data, schema: m.schema, ret: m.ret,
			now: m.now, exp: m.exp, retries: 3, ext: m.ext,
		}
		if m.data != base64.StdEncoding.EncodeToString(data) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s is read as\n%+v, want\n%+v", raw, got, want)
		}
	})
}

// Somebody sends what ends the program, or a service's reply is one that the relay or the app cannot read.
func FuzzAReplyToWhatIsReadCanBeRead(f *testing.F) {
	for _, text := range []string{
		`{"ver":1,"uid":"1002.1","cmd":"add","exp":5,"try":3,"dat":"WzFd","src":1001,"dst":[1002],"ret":"msgbus.system.reply","shm":"","now":1700000000,"pxy":false,"err":"","ext":{"id":"1","tag":[1],"progress":"msgbus.system.reply","oneway":false,"error":{"code":1}}}`,
		`{"src":"2:session","dst":"3","now":1e300,"exp":-1,"ext":7,"Ext":{},"x":[{"y":null}]}`, `{"ext":{"id":null}}`, `[]`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		given := bytes.Clone(raw)
		_, _ = parseReply(raw)
		m, err := parseRequest(raw)
		if !bytes.Equal(raw, given) {
			t.Fatal("what was read has changed")
		}
		if err != nil {
			return
		}
		_ = m.deadline().Before(time.Now())
		failure := &Error{Code: 7, Class: strings.Repeat("ü", 300), Message: "\xff broken", Data: json.RawMessage("[1]")}
		text := m.appendReply(nil, response{now: 5, data: raw, failure: failure, status: "started", seq: 2})
		r, err := parseReply(text)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", text, err)
		}
		want := &Error{Code: 7, Class: strings.Repeat("ü", 128), Message: "\uFFFD broken", Data: json.RawMessage("[1]")}
		if !reflect.DeepEqual(r.failure, want) || r.uid != m.uid || r.ext.id != m.ext.id || r.ext.seq != 2 || r.data != base64.StdEncoding.EncodeToString(raw) {
			t.Fatalf("%s is read as %+v", text, r)
		}
		again, err := parseRequest(text)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", text, err)
		}
		// All that the reply does not say itself is there as it came.
		kept := func(m *incoming) []member {
			return slices.DeleteFunc(slices.Clone(m.members), func(m member) bool { return slices.Contains(replaced, m.name) })
		}
		if fmt.Sprint(kept(again)) != fmt.Sprint(kept(m)) {
			t.Fatalf("%s is not a copy of %s", text, raw)
		}
	})
}

// A key that differs in case from one of ours is nobody's: encoding/json alone would take it
// for ours.
func TestKeysAreReadInTheirCaseOnly(t *testing.T) {
	r, err := parseReply([]byte(`{"uid":"1.1","UID":"x","Src":7,"src":1002,"ERR":"x","Ext":{"id":"x"},"ext":{"ID":"x","id":"1","Error":{},"Status":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &reply{uid: "1.1", source: 1002, ext: extension{id: "1"}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

// What is not as it should be is not read as something else.
func TestWhatIsWrongIsNotRead(t *testing.T) {
	for _, bad := range []string{
		``, `null`, `7`, `{`, `{}{}`, `{"uid":7}`, `{"src":"me"}`, `{"src":4294967296}`, `{"uid":"a","uid":"b"}`, `{"dat":[]}`, `{"err":true}`,
		`{"ext":{"id":1}}`, `{"ext":{"oneway":"true"}}`, `{"ext":{"seq":"x"}}`, `{"ext":{"error":"text"}}`, `{"ext":{"error":{"class":7}}}`, "{\"uid\":\"\xff\"}",
	} {
		if r, err := parseReply([]byte(bad)); err == nil {
			t.Errorf("%s is read as %+v", bad, r)
		}
	}
}
