package transfer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The encodings of a body. A seal, if any, is put on what is encoded.
const (
	Identity = "identity"
	Gzip     = "gzip"
)

// MostMessages is how many messages a transfer holds at most.
const MostMessages = 1024

// ErrTooLarge: a body, or what it expands to, is over the limit.
var ErrTooLarge = errors.New("the body is over the limit")

// A Digest is the SHA-256 of a body.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a body.
func DigestOf(body []byte) Digest { return sha256.Sum256(body) }

const digestPrefix = "sha-256="

// Field returns the digest as Content-Digest says it (RFC 9530 section 2).
func (d Digest) Field() string { return digestPrefix + sequence(d[:]) }

// ParseDigest is the inverse of [Digest.Field]. Other algorithms, and several at
// once, are not read.
func ParseDigest(field string) (d Digest, ok bool) {
	if len(field) < len(digestPrefix) || field[:len(digestPrefix)] != digestPrefix {
		return d, false
	}
	b, ok := parseSequence(field[len(digestPrefix):], len(d))
	copy(d[:], b)
	return d, ok
}

// The beginnings of lines: what a message is stands before it.
const (
	requestLine = `{"request":`
	replyLine   = `{"reply":`
)

// AppendMessage appends a message as a line of a body. The message is as in
// version 1, without a signature of its own; a reply tells of its [msgbus.Stay].
func AppendMessage(b []byte, o msgbus.Outgoing) []byte {
	if o.Kind == msgbus.ReplyParcel {
		b = append(b, replyLine...)
		b = o.Message.AppendNoted(b)
	} else {
		b = append(b, requestLine...)
		b = o.Message.AppendWire(b)
	}
	return append(b, "}\n"...)
}

// A Line is a message of a body, or why there is none in it.
type Line struct {
	msgbus.Outgoing
	Size int   // bytes of the message
	Err  error // a *msgbus.Refusal with reason Malformed
}

// ReadBody reads the lines of a body. A line that is no message costs only
// itself; too many lines, or a last one that does not end, are the error of
// all, a *msgbus.Refusal.
func ReadBody(plain []byte) ([]Line, error) {
	if len(plain) > 0 && plain[len(plain)-1] != '\n' {
		return nil, msgbus.Refuse(msgbus.Malformed, "the last line does not end")
	}
	n := bytes.Count(plain, []byte{'\n'})
	if n > MostMessages {
		return nil, msgbus.Refuse(msgbus.Malformed, "more than %d messages", MostMessages)
	}
	lines := make([]Line, 0, n)
	for text := range bytes.Lines(plain) {
		lines = append(lines, readLine(text[:len(text)-1]))
	}
	return lines, nil
}

func readLine(text []byte) (l Line) {
	inner, ok := bytes.CutPrefix(text, []byte(requestLine))
	l.Kind = msgbus.RequestParcel
	if !ok {
		inner, ok = bytes.CutPrefix(text, []byte(replyLine))
		l.Kind = msgbus.ReplyParcel
	}
	inner, closed := bytes.CutSuffix(inner, []byte{'}'})
	if !ok || !closed {
		l.Message, l.Err = &msgbus.Message{}, msgbus.Refuse(msgbus.Malformed, `a line is neither {"request":…} nor {"reply":…}`)
		return l
	}
	l.Size = len(inner)
	l.Err = msgbus.Guard(func() (err error) {
		l.Message, err = msgbus.Decode(inner)
		return err
	})
	if l.Message == nil {
		l.Message = &msgbus.Message{}
	}
	if l.Kind != msgbus.ReplyParcel {
		l.Message.Note = nil
	}
	if l.Err == nil && l.Message.Signature != "" {
		l.Err = msgbus.Refuse(msgbus.Malformed, "a message of a transfer has no signature of its own")
	}
	return l
}

// Compress returns the body in the encoding Gzip.
func Compress(plain []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is one that there is
	_, _ = w.Write(plain)                           // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// Expand returns what a body of an encoding says, which is at most so many
// bytes, else ErrTooLarge. A gzip body is one member and nothing after it: a
// million empty ones would be work without end for nothing.
//
// count is told of each piece of bytes that an expansion makes, before there is
// the next one. Its error ends the expansion, and is returned.
func Expand(encoding string, body []byte, most int64, count func(n int64) error) ([]byte, error) {
	switch encoding {
	case Gzip:
		return gunzip(body, most, count)
	case Identity:
		if int64(len(body)) > most {
			return nil, ErrTooLarge
		}
		return body, nil
	default:
		return nil, msgbus.Refuse(msgbus.Malformed, "the encoding of the body is neither %s nor %s", Identity, Gzip)
	}
}

func gunzip(body []byte, most int64, count func(n int64) error) ([]byte, error) {
	from := bytes.NewReader(body)
	r, err := gzip.NewReader(from)
	if err != nil {
		return nil, msgbus.Refuse(msgbus.Malformed, "the body is not gzip")
	}
	r.Multistream(false)
	counted := &countedReader{from: r, count: count}
	plain, err := io.ReadAll(io.LimitReader(counted, most+1))
	switch {
	case counted.err != nil:
		return nil, counted.err
	case err != nil:
		return nil, msgbus.Refuse(msgbus.Malformed, "the body is not gzip")
	case int64(len(plain)) > most:
		return nil, ErrTooLarge
	case from.Len() > 0:
		return nil, msgbus.Refuse(msgbus.Malformed, "something stands after the gzip member")
	}
	return plain, nil
}

// A countedReader tells count of all that is read.
type countedReader struct {
	from  io.Reader
	count func(n int64) error
	err   error // of count
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if r.err = r.count(int64(n)); r.err != nil {
		return 0, r.err
	}
	return n, err
}
