package msgbus

import (
	"strconv"
	"strings"
	"time"
)

// Version is the one version of the message that exists.
const Version = 1

// Limits and constants of the wire.
const (
	// DefaultExpiration is what an expiration of 0 stands for.
	DefaultExpiration = time.Hour
	// absoluteExpiration is the value, in seconds, above which an expiration is
	// a point in time: one published client sends `now + seconds`.
	absoluteExpiration = 1_000_000_000
	// ReplyQueueTTL is how long a return queue is kept after the last push.
	ReplyQueueTTL = 30 * time.Minute
	// MaxUIDNumber is the largest n of a uid `<dst>.<n>`: the largest integer
	// that a JSON number in a float64 holds exactly.
	MaxUIDNumber = 1<<53 - 1
	// MaxCommandLength and MaxQueueLength bound names that become Redis keys.
	MaxCommandLength = 256
	MaxQueueLength   = 512
	// MaxSkew is how far a signed message's `now` may lie from the receiver's
	// clock, before or after it.
	MaxSkew = time.Minute
)

// WireReplyQueue is what `ret` says between relays, whatever prefix either
// side gives its own keys.
const WireReplyQueue = "msgbus.system.reply"

// A Dialect is one of the two shapes in which apps and services write messages.
type Dialect uint8

const (
	// Classic is the specification's: uid, src as a number, dst as a list, err
	// as text.
	Classic Dialect = iota
	// Ref is that of rmb-rs 1.x apps: ref instead of uid, src and dst as text,
	// err absent or an object.
	Ref
)

// String returns the word that settings and backlog entries use.
func (d Dialect) String() string {
	if d == Ref {
		return "ref"
	}
	return "classic"
}

// A Message is a request or a reply, as the specification's object schema says.
type Message struct {
	Version      int
	UID          string   // `<dst>.<n>`, set by the source relay
	Command      string   // the service's queue is `<prefix>.<Command>`
	Expiration   int64    // seconds from Now, 0 for an hour, or an absolute time above 1e9
	Retry        int      // how often to try again when the destination cannot be joined
	Data         string   // base64
	Source       uint32   // twin id
	Destinations []uint32 // twin ids
	ReturnQueue  string
	Schema       string
	Now          int64 // unix seconds
	Proxied      bool  // came by /zbus-cmd
	Error        string
	Signature    string // hex of the type byte and 64 bytes

	// Epoch names one unbroken history of the source's Redis data. It travels as
	// an extra key between relays of this project and is empty from others.
	Epoch string
	// Ref is the app's own name for the message in the Ref dialect. It stays in
	// the backlog and goes back to the app with the reply.
	Ref string
	// Dialect is how the sender wrote the message.
	Dialect Dialect
	// Note is the raw JSON of the key `msgbusd`, in which a relay notes what it
	// needs to know of an entry of its own backlog, or the [Stay] that comes with a
	// reply. It means nothing in any other message, and only AppendNoted writes it.
	Note []byte
	// Trace is what the key `traceparent` says, nil unless that is right and its app wants
	// spans kept. The key itself is carried as it came, among what is not known.
	Trace *Trace
	// Ext is what an app or a service added, nil if there is no key `ext`.
	Ext *Ext
	// TypedError is what a reply says of its error beside Error, if anything. It is in
	// `ext`, and in the Ref dialect in err.
	TypedError *TypedError

	// foreignExt is a key `ext` that is some program's own, as it came: it gives way to Ext.
	foreignExt []byte

	// extra holds the members that this package does not know, as they came,
	// each with a comma before it: they are kept and carry no rights.
	extra []byte
}

// Lifetime returns how long after start the message lives. start is in unix
// seconds and only matters to an absolute expiration, for which the result may
// be negative.
func (m *Message) Lifetime(start int64) time.Duration {
	switch {
	case m.Expiration == 0:
		return DefaultExpiration
	case m.Expiration > absoluteExpiration:
		return saturatedSeconds(m.Expiration - start)
	default:
		return saturatedSeconds(m.Expiration)
	}
}

// saturatedSeconds keeps a number that no clock reaches from overflowing.
func saturatedSeconds(s int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Second)
	return time.Duration(min(max(s, -most), most)) * time.Second
}

// Clone returns a copy that shares nothing that a caller would change.
func (m *Message) Clone() *Message {
	c := *m
	c.Destinations = append([]uint32(nil), m.Destinations...)
	if m.Ext != nil {
		e := *m.Ext
		c.Ext = &e
	}
	return &c
}

// FormatUID returns the uid of the n-th message to twin dst.
func FormatUID(dst uint32, n uint64) string {
	return strconv.FormatUint(uint64(dst), 10) + "." + strconv.FormatUint(n, 10)
}

// ParseUID is the inverse of [FormatUID]. ok is false for anything that
// FormatUID does not produce: signs, leading zeros, a number of 0 or above
// MaxUIDNumber.
func ParseUID(uid string) (dst uint32, n uint64, ok bool) {
	head, tail, found := strings.Cut(uid, ".")
	if !found || !plainDecimal(head) || !plainDecimal(tail) {
		return 0, 0, false
	}
	d, err := strconv.ParseUint(head, 10, 32)
	if err != nil {
		return 0, 0, false
	}
	n, err = strconv.ParseUint(tail, 10, 64)
	if err != nil || n > MaxUIDNumber {
		return 0, 0, false
	}
	return uint32(d), n, true
}

// plainDecimal reports whether s is a positive number as strconv writes it.
func plainDecimal(s string) bool {
	if s == "" || s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// HasAbsoluteExpiration tells whether Expiration is a point in time.
func (m *Message) HasAbsoluteExpiration() bool { return m.Expiration > absoluteExpiration }
