package load

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/msgbus"
)

// LeastSize is what the number of a request takes, in bytes of data.
const LeastSize = 16

// A form is what the requests of one app have in common.
type form struct {
	message msgbus.Message
	data    []byte
	to      []uint32
}

// newForm makes up the return queue of an app.
func newForm(p Plan) *form {
	return &form{
		to:   p.Destinations,
		data: make([]byte, p.Size),
		message: msgbus.Message{
			Version: msgbus.Version, Command: p.Command, Expiration: int64(p.Life / time.Second), Retry: tries,
			Destinations: make([]uint32, 1), ReturnQueue: "bench-" + uuid.NewString(),
		},
	}
}

func (f *form) returnQueue() string { return f.message.ReturnQueue }

// write returns the request with a number, as an app pushes it. The number stands
// in its data twice, so that what was mixed up on the way is told.
func (f *form) write(number uint64) []byte {
	binary.BigEndian.PutUint64(f.data, number)
	binary.BigEndian.PutUint64(f.data[8:], ^number)
	f.message.Data = base64.StdEncoding.EncodeToString(f.data)
	f.message.Destinations[0] = f.to[number%uint64(len(f.to))]
	f.message.Now = time.Now().Unix()
	return f.message.AppendWire(nil)
}

// An answer is what came back for one request.
type answer struct {
	number  uint64
	failure string // the text of an error, or ""
}

// readAnswer returns an error for what is no answer to a request with so many
// bytes of data.
func readAnswer(raw string, size int) (answer, error) {
	m, err := msgbus.Decode(raw)
	if err != nil {
		return answer{}, fmt.Errorf("read an answer: %w", err)
	}
	data, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil || len(data) != size || binary.BigEndian.Uint64(data) != ^binary.BigEndian.Uint64(data[8:]) {
		if m.Error != "" {
			return answer{}, fmt.Errorf("an error does not tell which request it is for: %s", m.Error)
		}
		return answer{}, fmt.Errorf("twin %d answers with other data than it was sent", m.Source)
	}
	return answer{binary.BigEndian.Uint64(data), m.Error}, nil
}

// echo turns a request round.
func echo(raw string) ([]byte, error) {
	m, err := msgbus.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read a request: %w", err)
	}
	if len(m.Destinations) != 1 {
		return nil, fmt.Errorf("a request is for %d twins, not for one", len(m.Destinations))
	}
	m.Source, m.Destinations[0] = m.Destinations[0], m.Source
	m.Now = time.Now().Unix()
	return m.AppendWire(nil), nil
}
