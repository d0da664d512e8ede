package msgbus

import (
	"encoding/base64"
	"path"
	"strings"

	"github.com/google/uuid"
)

// CheckLocal tells whether a request that an app of this machine pushed can be
// admitted. Repeated destinations are to be gone ([Message.UniqueDestinations]).
// The error is a *Refusal whose text apps know from the specification.
func (m *Message) CheckLocal(maxDestinations int) error {
	switch {
	case m.Version != Version:
		return Refuse(BadVersion, "received invalid message: protocol version mismatch")
	case m.Command == "":
		return Refuse(MissingCommand, "received invalid message: missing command request")
	case len(m.Destinations) == 0:
		return Refuse(MissingDestination, "received invalid message: missing twin destination")
	case m.ReturnQueue == "" && !m.IsOneWay():
		return Refuse(MissingReturnQueue, "received invalid message: return queue not defined")
	case len(m.Command) > MaxCommandLength:
		return Refuse(BadCommand, "received invalid message: command is longer than %d bytes", MaxCommandLength)
	case ReservedCommand(m.Command):
		return Refuse(ReservedName, "received invalid message: command %q is reserved", m.Command)
	case len(m.ReturnQueue) > MaxQueueLength:
		return Refuse(ReservedName, "received invalid message: return queue is longer than %d bytes", MaxQueueLength)
	case len(m.Destinations) > maxDestinations:
		return Refuse(TooManyDestinations, "received invalid message: %d destinations, at most %d are served", len(m.Destinations), maxDestinations)
	}
	return nil
}

// UniqueDestinations removes the second and later mentions of a twin: the same
// twin named twice is one destination.
func (m *Message) UniqueDestinations() {
	seen := make(map[uint32]struct{}, len(m.Destinations))
	kept := m.Destinations[:0]
	for _, d := range m.Destinations {
		if _, again := seen[d]; !again {
			seen[d] = struct{}{}
			kept = append(kept, d)
		}
	}
	m.Destinations = kept
}

// CheckRemoteRequest tells whether a version 1 request from the network could
// be one that a relay signed for twin self, and nothing else: the signed fields
// run together, so what we would take as a request must not be readable out of
// any other message. The refusal is about the wire; a request that is in order
// but cannot be served is answered by an error reply instead.
func (m *Message) CheckRemoteRequest(self uint32) error {
	if err := m.checkRemote(self); err != nil {
		return err
	}
	dst, _, ok := ParseUID(m.UID)
	switch {
	case !ok || dst != self:
		return Refuse(Malformed, "uid %q is not of the form %d.<n>", clip(m.UID), self)
	case m.ReturnQueue != WireReplyQueue:
		return Refuse(ReservedName, "ret must be %s", WireReplyQueue)
	case m.Proxied:
		return Refuse(Malformed, "pxy must be false")
	}
	return nil
}

// CheckRemoteReply is CheckRemoteRequest's twin for replies: the uid must be
// one that this relay may have given to a request to the reply's source.
func (m *Message) CheckRemoteReply(self uint32) error {
	if err := m.checkRemote(self); err != nil {
		return err
	}
	asked, _, ok := ParseUID(m.UID)
	switch {
	case !ok:
		return Refuse(Malformed, "uid %q is not of the form <twin>.<n>", clip(m.UID))
	case asked != m.Source:
		return Refuse(WrongSource, "uid %s was not given to a request to twin %d", m.UID, m.Source)
	case m.ReturnQueue != WireReplyQueue:
		return Refuse(ReservedName, "ret must be %s", WireReplyQueue)
	case m.Proxied:
		return Refuse(Malformed, "pxy must be false")
	}
	return nil
}

// CheckProxied tells whether a message from `/zbus-cmd` is one that a client
// can have signed. What this relay signs in answer ([Message.MarkResult]) holds
// a colon among the signed bytes; nothing that passes here does.
func (m *Message) CheckProxied(self uint32) error {
	if err := m.checkRemote(self); err != nil {
		return err
	}
	if m.UID != "" {
		if _, _, ok := ParseUID(m.UID); !ok {
			return Refuse(Malformed, "uid %q is neither empty nor of the form <twin>.<n>", clip(m.UID))
		}
	}
	if m.ReturnQueue != "" && uuid.Validate(m.ReturnQueue) != nil || len(m.ReturnQueue) > 36 {
		return Refuse(Malformed, "ret is neither empty nor a UUID")
	}
	return nil
}

// resultMark stands before the uid of every result that `/zbus-result` signs.
// Its colon is in no uid, command, data, queue or number that the Check
// functions accept, so no relay can read a result as a request or a reply.
const resultMark = "result:"

// MarkResult makes the message one that can be signed as an answer to
// `/zbus-result` and be read as nothing else.
func (m *Message) MarkResult() {
	m.UID = resultMark + m.UID
	m.Proxied = true
}

// checkRemote holds for everything that comes from the network. A version that
// is not ours and a deadline are not looked at here: they are answered, not
// refused. But ver is signed right before uid, so it must be one digit: else
// 1 and "11002.7", a request to twin 11002, would be 11 and "1002.7" to ours.
func (m *Message) checkRemote(self uint32) error {
	switch {
	case len(m.Destinations) != 1 || m.Destinations[0] != self:
		return Refuse(WrongDestination, "this relay serves twin %d and no other", self)
	case m.Source == 0:
		return Refuse(WrongSource, "src is missing")
	case m.Source == self:
		return Refuse(WrongSource, "twin %d is this relay's own and does not come over the network", self)
	case m.Dialect == Ref:
		return Refuse(Malformed, "the keys ref and con are for apps and not sent between relays")
	case m.Version < 0 || m.Version > 9:
		return Refuse(BadVersion, "received invalid message: protocol version mismatch")
	case m.Command == "" || len(m.Command) > MaxCommandLength || !plainCommand(m.Command):
		return Refuse(BadCommand, "cmd must be 1 to %d letters, digits, '.', '_', '-' or '@'", MaxCommandLength)
	case !ValidData(m.Data):
		return Refuse(Malformed, "dat is not base64")
	}
	return nil
}

// plainCommand reports whether cmd has only the characters that a version 1
// signature keeps apart from its neighbours.
func plainCommand(cmd string) bool {
	for i := range len(cmd) {
		c := cmd[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !isDigit(c) && !strings.ContainsRune("._-@", rune(c)) {
			return false
		}
	}
	return true
}

// ValidData reports whether dat is as the wire wants it: standard padded base64
// on one line, with zero trailing bits.
func ValidData(s string) bool {
	if strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 {
		return false // the decoder passes over them
	}
	const chars, bytes = 1024, 768 // a part at a time needs no memory
	var buf [bytes]byte
	for ; len(s) > chars; s = s[chars:] {
		if n, err := strictBase64.Decode(buf[:], []byte(s[:chars])); n != bytes || err != nil {
			return false
		}
	}
	_, err := strictBase64.Decode(buf[:], []byte(s))
	return err == nil
}

var strictBase64 = base64.StdEncoding.Strict()

// CarriedData returns dat as relays take it from each other. Base64 with line
// breaks or without padding says what it said; what is none, such as the
// shortened dat of the specification's example, travels as the text that it is.
func CarriedData(dat string) string {
	if ValidData(dat) {
		return dat
	}
	bare := strings.TrimRight(strings.Join(strings.Fields(dat), ""), "=")
	data, err := base64.RawStdEncoding.Strict().DecodeString(bare)
	if err != nil {
		data = []byte(dat)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// ReservedCommand reports whether `<prefix>.<cmd>` would be a key of the relay
// itself.
func ReservedCommand(cmd string) bool {
	for _, word := range [...]string{"system", "counter"} {
		if cmd == word || strings.HasPrefix(cmd, word+".") {
			return true
		}
	}
	return false
}

// ReservedQueue reports whether queue is a key of the relay itself under prefix.
func ReservedQueue(prefix, queue string) bool {
	rest, found := strings.CutPrefix(queue, prefix+".")
	return found && ReservedCommand(rest)
}

// MatchCommand reports whether cmd matches one of the patterns, in which `*`
// stands for any characters but '/', `?` for one and `[…]` for one of a set. The
// pattern `*` alone matches everything.
func MatchCommand(patterns []string, cmd string) bool {
	for _, p := range patterns {
		if p == "*" {
			return true
		}
		if ok, err := path.Match(p, cmd); ok && err == nil {
			return true
		}
	}
	return false
}

// clip keeps a stranger's text from filling an error.
func clip(s string) string {
	const most = 150
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
