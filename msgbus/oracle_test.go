package msgbus_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Version 1 signs its fields without separators, so one signature fits every
// message whose fields run together to the same text. These tests take what a
// relay signs apart in every way there is, and show that no other relay takes
// any part of it for something else.

const clock = 1_700_000_000

// readings yields every message from src to dst whose signed text is text, but
// for those that no endpoint could take: it leaves out uids that are none, and
// versions that are no plain number.
func readings(text string, src, dst uint32) iter.Seq[*msgbus.Message] {
	return func(yield func(*msgbus.Message) bool) {
		middle := fmt.Sprint(src) + fmt.Sprint(dst)
		for at := 1; at+len(middle) <= len(text); at++ {
			if text[at:at+len(middle)] != middle {
				continue
			}
			for ends := range endings(text[at+len(middle):]) {
				for begins := range beginnings(text[:at]) {
					m := begins
					m.Source, m.Destinations = src, []uint32{dst}
					m.ReturnQueue, m.Now, m.Proxied = ends.ReturnQueue, ends.Now, ends.Proxied
					if !yield(&m) {
						return
					}
				}
			}
		}
	}
}

// endings splits text into ret, now and pxy.
func endings(text string) iter.Seq[msgbus.Message] {
	return func(yield func(msgbus.Message) bool) {
		head, proxied := strings.CutSuffix(text, "true")
		if !proxied {
			var found bool
			if head, found = strings.CutSuffix(text, "false"); !found {
				return
			}
		}
		for cut := range head {
			now, err := strconv.ParseInt(head[cut:], 10, 64)
			if err != nil || strconv.FormatInt(now, 10) != head[cut:] {
				continue
			}
			if !yield(msgbus.Message{ReturnQueue: head[:cut], Now: now, Proxied: proxied}) {
				return
			}
		}
	}
}

// beginnings splits text into ver, uid, cmd and dat.
func beginnings(text string) iter.Seq[msgbus.Message] {
	return func(yield func(msgbus.Message) bool) {
		for v := 1; v <= len(text); v++ {
			version, err := strconv.Atoi(text[:v])
			if err != nil || strconv.Itoa(version) != text[:v] {
				return
			}
			for u := v; u <= len(text); u++ {
				if _, _, ok := msgbus.ParseUID(text[v:u]); !ok && u > v {
					continue
				}
				for c := u; c <= len(text); c++ {
					if !yield(msgbus.Message{Version: version, UID: text[v:u], Command: text[u:c], Data: text[c:]}) {
						return
					}
				}
			}
		}
	}
}

// taken returns the readings of text that some endpoint of dst's relay takes as
// coming from src, now.
func taken(text string, src, dst uint32) []string {
	var out []string
	for m := range readings(text, src, dst) {
		if m.Now < clock-60 || m.Now > clock+60 {
			continue // refused for its time
		}
		for endpoint, check := range map[string]func(*msgbus.Message, uint32) error{
			"zbus-remote": (*msgbus.Message).CheckRemoteRequest,
			"zbus-reply":  (*msgbus.Message).CheckRemoteReply,
			"zbus-cmd":    (*msgbus.Message).CheckProxied,
		} {
			if check(m, dst) == nil {
				out = append(out, fmt.Sprintf("%s %s", endpoint, m.AppendWire(nil)))
			}
		}
	}
	return out
}

// The search itself has to find what is there, or the tests below prove nothing.
func TestTheSearchFindsTheMessageItself(t *testing.T) {
	request, reply := remoteRequest(), remoteReply()
	if len(taken(request.ChallengeText(), 1001, 1002)) == 0 || len(taken(reply.ChallengeText(), 1002, 1001)) == 0 {
		t.Fatal("a message is not found among the readings of its own text")
	}
}

// result is what twin 1002's relay answers to twin 10021003 on `/zbus-result`: a
// service that echoes has put what the asker wrote into dat, as plain text.
func result() *msgbus.Message {
	return &msgbus.Message{Version: 1, Command: "wallet", Data: ".payQUJD", Source: 1002, Destinations: []uint32{10021003},
		ReturnQueue: uuid4, Now: clock, Proxied: true}
}

// Twin 10021003 asks twin 1002, reads its signed result, and plays it to twin
// 1003 as a command from twin 1002: it pays. Without the mark that works; with
// it no reading is left.
func TestASignedResultCannotBePlayedToAnotherTwin(t *testing.T) {
	unmarked := result().ChallengeText()
	attack := msgbus.Message{Version: 1, Command: "wallet.pay", Data: "QUJD1002", Source: 1002, Destinations: []uint32{1003},
		ReturnQueue: uuid4, Now: clock, Proxied: true}
	if attack.ChallengeText() != unmarked || attack.CheckProxied(1003) != nil {
		t.Fatal("the attack of this test is none: it would not have worked without the mark")
	}
	if len(taken(unmarked, 1002, 1003)) == 0 {
		t.Fatal("the search does not find the attack")
	}

	marked := result()
	marked.MarkResult()
	for _, self := range []uint32{1003, 10021003, 1001, 3} {
		if found := taken(marked.ChallengeText(), 1002, self); len(found) > 0 {
			t.Errorf("twin %d takes a result as %s", self, found)
		}
	}
}

// A result whose every field an attacker chose (the service is his accomplice)
// still is nothing but a result.
func TestNoResultWhateverItsTextIsTakenForAnotherMessage(t *testing.T) {
	pieces := []string{"1", "1002", "1003", "10021003", "1003.5", "1002.5", "msgbus.system.reply", "false", "true", fmt.Sprint(clock),
		uuid4, "wallet.pay", "QUJD", ":", "result:", ""}
	random := rand.New(rand.NewPCG(1, 2))
	some := func() string {
		var b strings.Builder
		for range random.IntN(6) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 1000 {
		m := &msgbus.Message{Version: 1, UID: some(), Command: some(), Data: some(), Source: 1002, Destinations: []uint32{10021003},
			ReturnQueue: some(), Now: clock, Proxied: random.IntN(2) == 0}
		m.MarkResult()
		if text := m.ChallengeText(); !strings.Contains(text, ":") {
			t.Fatalf("a result without a colon: %q", text)
		} else if found := taken(text, 1002, 1003); len(found) > 0 {
			t.Fatalf("%q is taken as %s", text, found)
		}
	}
}

// The reason why the mark works: nothing that any endpoint takes holds a colon.
func FuzzNothingThatIsTakenHoldsAColon(f *testing.F) {
	for _, m := range []*msgbus.Message{remoteRequest(), remoteReply(), result()} {
		f.Add(string(m.AppendWire(nil)), m.Destinations[0])
		m.MarkResult()
		f.Add(string(m.AppendWire(nil)), m.Destinations[0])
	}
	f.Add(`{"ver":1,"uid":"","cmd":"a@b","dat":"","src":1,"dst":[2],"ret":"`+uuid4+`","now":1,"pxy":true}`, uint32(2))
	f.Add(`{"ver":1,"uid":"2.1","cmd":"a:b","dat":"QUJD:","src":"1:x","dst":"2:y","ret":"msgbus.system.reply"}`, uint32(2))
	f.Fuzz(func(t *testing.T, text string, self uint32) {
		m, err := msgbus.Decode([]byte(text))
		if err != nil {
			return
		}
		if m.CheckRemoteRequest(self) != nil && m.CheckRemoteReply(self) != nil && m.CheckProxied(self) != nil {
			return
		}
		if signed := m.ChallengeText(); strings.Contains(signed, ":") {
			t.Errorf("%q is taken", signed)
		}
		m.MarkResult()
		if m.CheckRemoteRequest(self) == nil || m.CheckRemoteReply(self) == nil || m.CheckProxied(self) == nil {
			t.Errorf("%+v is taken with the mark of a result", m)
		}
	})
}

// A request of twin 1001 to twin 11002 must be nothing to twin 1002, whatever
// the command: ver is one digit, so the uid says whom the request is for.
func TestARequestIsReadByItsDestinationOnly(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 800 {
		m := remoteRequest()
		m.Now = clock
		m.Source, m.Destinations = twins(random)
		m.UID = msgbus.FormatUID(m.Destinations[0], random.Uint64N(1000)+1)
		m.Command, m.Data = command(random), data(random)
		checkReadings(t, m)
	}
}

// A reply of twin 1001 to twin 10011002 must be nothing to twin 1002. It would
// be without PinReply: that is shown, too.
func TestAPinnedReplyIsReadByItsDestinationOnly(t *testing.T) {
	stolen := remoteReply()
	stolen.Now, stolen.UID, stolen.Data = clock, "1001.7", "QUJD" // base64 of what is no JSON
	stolen.Source, stolen.Destinations = 1001, []uint32{10011002}
	attack := stolen.Clone()
	attack.Data, attack.Destinations = "QUJD1001", []uint32{1002}
	if attack.Challenge() != stolen.Challenge() || attack.CheckRemoteReply(1002) != nil {
		t.Fatal("the attack of this test is none")
	}

	random := rand.New(rand.NewPCG(5, 6))
	for range 800 {
		m := remoteReply()
		m.Now = clock
		m.Source, m.Destinations = twins(random)
		m.UID = msgbus.FormatUID(m.Source, random.Uint64N(1000)+1)
		m.Command, m.Data = command(random), jsonData(random)
		if !m.PinReply() {
			t.Fatalf("data %q was not pinned", m.Data)
		}
		if !msgbus.ValidData(m.Data) {
			t.Fatalf("pinning spoilt the data: %q", m.Data)
		}
		checkReadings(t, m)
	}
}

// checkReadings fails the test when a relay other than the destination's takes
// any reading of what m's source has signed.
func checkReadings(t *testing.T, m *msgbus.Message) {
	t.Helper()
	for self := uint32(1); self <= 130; self++ {
		if self == m.Destinations[0] || self == m.Source {
			continue
		}
		if found := taken(m.ChallengeText(), m.Source, self); len(found) > 0 {
			t.Fatalf("twin %d takes %s\nas %s", self, m.AppendWire(nil), found)
		}
	}
}

// twins returns a source and another destination, of small ids whose texts are
// often the ends of others. (A message to the own twin is never signed.)
func twins(r *rand.Rand) (source uint32, destinations []uint32) {
	ids := [...]uint32{1, 2, 3, 11, 12, 13, 21, 23, 31, 111, 112, 121, 122, 1112, 1212}
	from := r.IntN(len(ids))
	to := (from + 1 + r.IntN(len(ids)-1)) % len(ids)
	return ids[from], []uint32{ids[to]}
}

func command(r *rand.Rand) string {
	return [...]string{"a", "add", "add1", "1", "12", "2.5", "11add", "1001", "a1112"}[r.IntN(9)]
}

// data is base64 that ends in digits when it can.
func data(r *rand.Rand) string {
	return [...]string{"", "QUJD", "1111", "QUJD1112", "AA11", "1212", "QQ==", "QUI="}[r.IntN(8)]
}

// jsonData is base64 of JSON or of nothing; that of 115 ends in a digit.
func jsonData(r *rand.Rand) string {
	return [...]string{"", "MTE1", "MTE1MTE1", "ICA2", "MzA=", "e30="}[r.IntN(6)]
}

// Data that needs no pin must not be touched, and JSON must mean the same with
// it: services and apps compare what they get.
func TestPinReplyAddsNothingButASpace(t *testing.T) {
	for _, c := range []struct {
		src, dst  uint32
		cmd, data string
		want      string
		pinned    bool
	}{
		{1001, 1002, "a", "MTEx", "MTEx", true},         // one reading: as it is
		{1001, 10011002, "a", "MTEx", "MTExIA==", true}, // 111 and a space
		{1001, 10011002, "a", "MzA=", "MzA=", true},     // padded: nothing can be added
		{1001, 10011002, "a", "", "IA==", true},         // nothing and a space
		{1001, 10011002, "a", "QUJD", "QUJD", false},    // ABC is no JSON
		{1, 2, "a1", "", "IA==", true},                  // the command ends in the source
		{1, 2, "a", "", "", true},
		{1, 12, "a", "", "IA==", true},
		{1, 10, "a", "", "", true}, // 0 is no twin
		{1001, 2, "a", "QUJD1001", "QUJD1001", false},
	} {
		m := msgbus.Message{Version: 1, Command: c.cmd, Data: c.data, Source: c.src, Destinations: []uint32{c.dst}}
		if pinned := m.PinReply(); pinned != c.pinned || m.Data != c.want {
			t.Errorf("%d to %d with %q: %q, %v; want %q, %v", c.src, c.dst, c.data, m.Data, pinned, c.want, c.pinned)
		}
	}
}
