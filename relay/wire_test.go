package relay_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// A wire stands for HTTP between relays. A message goes to the relay of its
// twin in this process, as JSON, checked as the HTTP side checks it; a test may
// make the way to a twin bad.
type wire struct {
	mu     sync.Mutex
	relays map[uint32][]*relay.Relay // guarded by mu
	ways   map[uint32]way            // guarded by mu
	sent   map[uint32][]sending      // by destination, guarded by mu
	signed atomic.Uint64
}

// A way is what becomes of messages to a twin.
type way func(ctx context.Context, messages []msgbus.Outgoing) []error

// A sending is one message of one attempt.
type sending struct {
	from    uint32
	kind    msgbus.ParcelKind
	uid     string
	message string
}

func newWire() *wire {
	return &wire{relays: make(map[uint32][]*relay.Relay), ways: make(map[uint32]way), sent: make(map[uint32][]sending)}
}

func (w *wire) attach(twin uint32, r *relay.Relay) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relays[twin] = append(w.relays[twin], r)
}

func (w *wire) detach(twin uint32, r *relay.Relay) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []*relay.Relay
	for _, other := range w.relays[twin] {
		if other != r {
			left = append(left, other)
		}
	}
	w.relays[twin] = left
}

// to says what becomes of messages to a twin; nil: they reach its relay.
func (w *wire) to(twin uint32, by way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ways[twin] = by
}

// sendings are the messages that were sent to a twin, in their order.
func (w *wire) sendings(twin uint32) []sending {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sending(nil), w.sent[twin]...)
}

func (w *wire) awaitSendings(t *testing.T, twin uint32, n int) []sending {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages were sent to twin %d", n, twin), func() bool { return len(w.sendings(twin)) >= n })
	return w.sendings(twin)
}

// A sender is the wire as one twin's relay sees it.
type sender struct {
	wire *wire
	from uint32
}

func (s sender) Send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	w := s.wire
	w.mu.Lock()
	for _, o := range messages {
		w.sent[twin] = append(w.sent[twin], sending{s.from, o.Kind, o.Message.UID, string(o.Message.AppendWire(nil))})
	}
	by := w.ways[twin]
	w.mu.Unlock()
	if by != nil {
		return by(ctx, messages)
	}
	return w.deliver(ctx, twin, messages)
}

// deliver hands messages to a relay of a twin.
func (w *wire) deliver(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	w.mu.Lock()
	relays := w.relays[twin]
	w.mu.Unlock()
	if len(relays) == 0 {
		return all(messages, unreachable(twin))
	}
	errs := make([]error, len(messages))
	for i, o := range messages {
		o.Message.Signature = hex.EncodeToString(fmt.Appendf(nil, "s%064d", w.signed.Add(1)))
		errs[i] = outcome(twin, accept(ctx, relays[i%len(relays)], twin, o.Kind, o.Message.AppendWire(nil)))
	}
	return errs
}

// accept does what the HTTP side does before and with a message.
func accept(ctx context.Context, r *relay.Relay, twin uint32, kind msgbus.ParcelKind, body []byte) error {
	m, err := msgbus.Decode(body)
	if err != nil {
		return err
	}
	m.Note = nil
	if kind == msgbus.ReplyParcel {
		if err := m.CheckRemoteReply(twin); err != nil {
			return err
		}
		return r.AcceptReply(ctx, m)
	}
	if err := m.CheckRemoteRequest(twin); err != nil {
		return err
	}
	return r.AcceptRequest(ctx, m)
}

// outcome is an answer of the HTTP side as its client reads it.
func outcome(twin uint32, err error) error {
	var refusal *msgbus.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal) && refusal.Reason == msgbus.QueueFull:
		return busy(twin, time.Second)
	case errors.As(err, &refusal):
		return refused(twin, refusal.Text)
	default:
		return &msgbus.Failure{Reason: msgbus.PeerFailed, Detail: fmt.Sprintf("twin %d could not take the message: %v", twin, err)}
	}
}

func unreachable(twin uint32) *msgbus.Failure {
	return &msgbus.Failure{Reason: msgbus.Unreachable, Detail: fmt.Sprintf("twin %d cannot be reached: connection refused", twin)}
}

func refused(twin uint32, why string) *msgbus.Refusal {
	return msgbus.Refuse(msgbus.RefusedByPeer, "twin %d refused the message: %s", twin, why)
}

func busy(twin uint32, rest time.Duration) *msgbus.Failure {
	return &msgbus.Failure{Reason: msgbus.PeerBusy, Detail: fmt.Sprintf("twin %d is busy", twin), Rest: rest}
}

// all gives every message the same outcome.
func all(messages []msgbus.Outgoing, err error) []error {
	errs := make([]error, len(messages))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// dead is the way to a twin that cannot be reached.
func dead(twin uint32) way {
	return func(_ context.Context, messages []msgbus.Outgoing) []error { return all(messages, unreachable(twin)) }
}

// hang is the way to a twin that accepts connections and never answers, until it
// is let go or the relay gives up.
func hang(twin uint32, letGo <-chan struct{}) way {
	return func(ctx context.Context, messages []msgbus.Outgoing) []error {
		select {
		case <-letGo:
			return make([]error, len(messages))
		case <-ctx.Done():
			return all(messages, &msgbus.Failure{Reason: msgbus.Timeout, Detail: fmt.Sprintf("twin %d did not answer", twin)})
		}
	}
}

// A journal keeps what a relay logs.
type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(line))
	return len(line), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "")
}

// find returns the lines with a message.
func (j *journal) find(message string) (found []map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["message"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// await waits until a message has been logged n times; more are a failure.
func (j *journal) await(t *testing.T, message string, n int) []map[string]any {
	t.Helper()
	eventually(t, fmt.Sprintf("%q was logged", message), func() bool { return len(j.find(message)) >= n })
	lines := j.find(message)
	if len(lines) != n {
		t.Errorf("%q was logged %d times, want %d", message, len(lines), n)
	}
	return lines
}
