package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/msgbus"
)

// acceptRequest takes a request that came by HTTP or a lane, or, with a claim,
// from the remote queue.
func (r *Relay) acceptRequest(ctx context.Context, c *msgbus.Claim, position int, m *msgbus.Message, digest string) error {
	a, err := r.arrivalAlone(m, digest)
	if err != nil {
		return err
	}
	a.Position = position
	if err := r.prepare(ctx, []*arrival{a}); err != nil {
		return err
	}
	if a.isUnheard() {
		return a.refusal
	}
	return r.accept(ctx, c, a)
}

// arrivalAlone checks a request that is in no transfer.
func (r *Relay) arrivalAlone(m *msgbus.Message, digest string) (*arrival, error) {
	_, number, ok := msgbus.ParseUID(m.UID)
	if !ok && m.Epoch != "" {
		return nil, msgbus.Refuse(msgbus.Malformed, "uid %q has no number", m.UID)
	}
	return r.checked(m, msgbus.Acceptance{UID: m.UID, Number: number, Digest: digest, Now: m.Now, Command: m.Command}), nil
}

// checked is a request that arrives.
func (r *Relay) checked(m *msgbus.Message, a msgbus.Acceptance) *arrival {
	a.OneWay = m.IsOneWay()
	return &arrival{Acceptance: a, message: m, refusal: r.checkServable(m)}
}

// prepare looks up what the storage knows of requests that arrive, before they are taken:
// at most one question of a kind for all of them, which are of one source.
func (r *Relay) prepare(ctx context.Context, arrivals []*arrival) error {
	return errors.Join(r.refuseUnserved(ctx, arrivals), r.prepareEvents(ctx, arrivals), r.prepareSubscriptions(ctx, arrivals), r.prepareLists(ctx, arrivals))
}

// An arrival is a request on its way to its service, or back to its source as a reply
// that the relay makes: with a refusal, an error.
type arrival struct {
	msgbus.Acceptance
	message *msgbus.Message
	refusal *msgbus.Refusal
	result  string         // of a command of the relay itself
	news    []string       // patterns of topics of which its source gets the latest events, if it is new
	all     []string       // patterns that it asks for
	outcome msgbus.Outcome // of the storage, by now
	came    time.Time      // when it was handed in, by the storage's clock
	tell    func(error)    // of one that is taken with others: notes what became of it
}

// isUnheard tells whether nobody waits for the error reply that an arrival would get: it is
// refused, and its source keeps it in its dead letters.
func (a *arrival) isUnheard() bool { return a.OneWay && a.refusal != nil }

// write fills in what the storage keeps of an arrival.
func (r *Relay) write(a *arrival) {
	a.came = r.backlog.Now()
	switch {
	case a.refusal != nil:
		a.IsReply, a.Body, a.Life, a.Effect = true, r.errorToPeer(a.message, a.refusal), msgbus.DefaultExpiration, nil
		return
	case msgbus.IsBuiltin(a.Command):
		a.IsReply, a.Life = true, msgbus.DefaultExpiration
		if !a.OneWay {
			a.Body = r.answerBuiltin(a.message, a.result).AppendWire(nil)
		}
		return
	}
	a.Life = a.message.Lifetime(a.came.Unix())
	a.Left = msgbus.MatchCommand(r.opts.LeftCommands, a.Command)
	a.Body = r.requestToService(a.message, a.came)
}

// accept gives a request to its service, or its source an error reply when it
// cannot be served. Whoever pushed a request to the remote queue cannot be told
// to come again: its source is told that its service's queue is full.
func (r *Relay) accept(ctx context.Context, c *msgbus.Claim, a *arrival) error {
	for {
		r.write(a)
		outcomes, err := r.backlog.Accept(ctx, c, a.message.Source, a.message.Epoch, []msgbus.Acceptance{a.Acceptance})
		if err != nil {
			return err
		}
		again, err := r.arrived(a, outcomes[0])
		if err == nil {
			err = r.sendNews(ctx, a.message.Source, []*arrival{a})
		}
		if c != nil && outcomes[0] == msgbus.QueueIsFull && a.refusal == nil && !a.OneWay {
			a.refusal, again = queueFull(a.Command), true
		}
		if !again {
			return err
		}
	}
}

// arrived says what the storage made of a request. With again set it is to be
// handed in once more, as an error reply by now.
func (r *Relay) arrived(a *arrival, outcome msgbus.Outcome) (again bool, err error) {
	m := a.message
	r.log.Debug().Str("msg_id", m.UID).Uint32("twin", m.Source).Str("cmd", m.Command).Str("outcome", string(outcome)).Msg("request arrived")
	r.observeArrival(a, outcome)
	a.outcome = outcome
	switch outcome {
	case msgbus.Accepted:
		if a.refusal != nil {
			r.log.Info().Str("msg_id", m.UID).Uint32("twin", m.Source).Str("reason", string(a.refusal.Reason)).Msg("answered a request with an error")
		}
		if a.IsReply && a.Body != nil {
			r.lanes.wake(m.Source)
		}
		return false, nil
	case msgbus.Repeated:
		return false, nil
	case msgbus.QueueIsFull: // or too many replies wait for this source
		return false, queueFull(m.Command)
	case msgbus.TooOld:
		return false, msgbus.Refuse(msgbus.BelowWindow, "uid %s is older than what can be told from a repeat; send it under a new one", m.UID)
	case msgbus.QueueWrongType:
		a.refusal = msgbus.Refuse(msgbus.WrongType, "command %q cannot be served: its queue is no list", m.Command)
		if a.OneWay {
			return false, a.refusal
		}
		return true, nil
	default:
		return false, fmt.Errorf("accept request %s: unexpected outcome %q", m.UID, outcome)
	}
}

func queueFull(cmd string) *msgbus.Refusal {
	return msgbus.Refuse(msgbus.QueueFull, "queue of command %q is full", cmd)
}

// checkServable tells why a request that is in order cannot be served. Its
// source is answered with an error reply.
func (r *Relay) checkServable(m *msgbus.Message) *msgbus.Refusal {
	switch {
	case !r.deals(m.Source):
		return notAllowed(m.Source)
	case m.Version != msgbus.Version:
		return msgbus.Refuse(msgbus.BadVersion, "received invalid message: protocol version mismatch")
	case m.Command == "":
		return msgbus.Refuse(msgbus.MissingCommand, "received invalid message: missing command request")
	case msgbus.ReservedCommand(m.Command):
		return msgbus.Refuse(msgbus.ReservedName, "received invalid message: command %q is reserved", m.Command)
	case msgbus.IsQuestion(m.Command) && m.IsOneWay():
		return msgbus.Refuse(msgbus.BadCommand, "command %q does nothing but answer", m.Command)
	}
	if !msgbus.IsBuiltin(m.Command) || m.Command == msgbus.SubscribeCommand { // an event was asked for
		if refusal := r.refuseCommand(m.Source, m.Command); refusal != nil {
			return refusal
		}
	}
	switch life := m.Lifetime(r.backlog.Now().Unix()); {
	case life <= 0:
		return msgbus.Refuse(msgbus.Expired, "request timeout (expiration reached, %d)", m.Expiration)
	case life > r.opts.MaxLife:
		return msgbus.Refuse(msgbus.ExpTooLong, "exp %d is too long: at most %d seconds are allowed here", m.Expiration, int64(r.opts.MaxLife.Seconds()))
	}
	return nil
}

// refuseCommand tells why a twin may not call a command of this one, by the operator's rules.
func (r *Relay) refuseCommand(twin uint32, cmd string) *msgbus.Refusal {
	rules := r.rules.Load()
	switch {
	case twin == r.opts.Twin:
		return nil
	case !r.AdmitsTwin(twin):
		return notAllowed(twin)
	case !msgbus.MatchCommand(rules.Expose, cmd):
		return msgbus.Refuse(msgbus.NotExposed, "command %q cannot be called from remote", cmd)
	case !rules.Policy.AdmitsCommand(twin, cmd):
		return msgbus.Refuse(msgbus.CommandNotAllowed, "twin %d may not call command %q", twin, cmd)
	}
	return nil
}

// deals tells whether the operator's lists let this relay deal with a twin. Its
// own is not held back.
func (r *Relay) deals(twin uint32) bool {
	return twin == r.opts.Twin || r.AdmitsTwin(twin)
}

func notAllowed(twin uint32) *msgbus.Refusal {
	return msgbus.Refuse(msgbus.TwinNotAllowed, "twin %d is not one that this relay deals with", twin)
}

func (r *Relay) acceptReply(ctx context.Context, m *msgbus.Message) error {
	reply := &single{message: m}
	r.takeSingles(ctx, m.Source, []*single{reply})
	return reply.err
}

// answer ends a request with a service's reply.
func (r *Relay) answer(ctx context.Context, c *msgbus.Claim, position int, e *msgbus.Entry, reply *msgbus.Message) error {
	outcomes, err := r.backlog.Answer(ctx, c, []msgbus.Answer{{Entry: e, Position: position, Body: r.replyToApp(reply, e)}})
	if err != nil {
		return err
	}
	r.replied(e, reply, outcomes[0])
	return nil
}

// replied tells what a reply did to its request.
func (r *Relay) replied(e *msgbus.Entry, reply *msgbus.Message, outcome msgbus.Outcome) {
	if outcome == msgbus.TooLate {
		r.late(reply)
		return
	}
	r.logEnd(e, outcome, "")
}

func (r *Relay) late(m *msgbus.Message) {
	r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndDropped, msgbus.Late, 1)
	r.log.Debug().Str("msg_id", m.UID).Uint32("twin", m.Source).Str("reason", string(msgbus.Late)).Msg("dropped a reply")
}

// logEnd says how a request ended.
func (r *Relay) logEnd(e *msgbus.Entry, outcome msgbus.Outcome, reason msgbus.Reason) {
	event := r.log.Debug()
	if outcome == msgbus.QueueWrongType {
		event, reason = r.log.Warn(), msgbus.WrongType
	}
	took := r.backlog.Now().Sub(e.Admitted)
	r.observeEnd(e, outcome, reason, took)
	event.Str("msg_id", e.Message.UID).Uint32("twin", e.Message.Destinations[0]).Str("outcome", string(outcome)).
		Str("reason", string(reason)).Dur("took", took).Msg("request ended")
}

// AcceptCommand takes a request from `/zbus-cmd` and returns the queue in which
// `/zbus-result` finds the answer: the same one for a repeat. An error is a
// *msgbus.Refusal or tells of Redis.
func (r *Relay) AcceptCommand(ctx context.Context, m *msgbus.Message) (string, error) {
	r.seen(ctx, m.Source)
	return r.acceptCommand(ctx, m, digestOf(m.Signature), uuid.NewString())
}

func (r *Relay) acceptCommand(ctx context.Context, m *msgbus.Message, digest, queue string) (string, error) {
	if msgbus.IsBuiltin(m.Command) && !msgbus.IsQuestion(m.Command) {
		return "", msgbus.Refuse(msgbus.BadCommand, "command %q is for relays", m.Command)
	}
	asked := &arrival{Acceptance: msgbus.Acceptance{Command: m.Command}, message: m, refusal: r.checkServable(m)}
	if err := r.prepare(ctx, []*arrival{asked}); err != nil {
		return "", err
	}
	if asked.refusal != nil {
		return "", asked.refusal
	}
	s := m.Clone()
	s.UID, s.ReturnQueue, s.Proxied = queue, queue, true
	s.Error, s.Signature, s.Epoch, s.Ext, s.TypedError = "", "", "", nil, nil
	came := r.backlog.Now()
	s.Now = came.Unix()
	a := msgbus.Acceptance{
		Digest: digest, Now: m.Now, Command: m.Command,
		Life: m.Lifetime(came.Unix()),
		Left: msgbus.MatchCommand(r.opts.LeftCommands, m.Command),
		Body: s.AppendRequest(nil, r.serviceDialect(m.Command)), IsReply: msgbus.IsBuiltin(m.Command),
	}
	made, outcome, err := r.backlog.Proxy(ctx, m.Source, queue, a, s.AppendEntryTail(nil))
	switch {
	case err != nil:
		return "", err
	case outcome == msgbus.QueueIsFull:
		return "", queueFull(m.Command)
	case outcome == msgbus.QueueWrongType:
		return "", msgbus.Refuse(msgbus.WrongType, "command %q cannot be served: its queue is no list", m.Command)
	}
	if made == "" {
		return "", msgbus.Refuse(msgbus.BadSignature, "the signature has been used for another request")
	}
	r.log.Debug().Str("msg_id", made).Uint32("twin", m.Source).Str("cmd", m.Command).Str("outcome", string(outcome)).Msg("command arrived")
	if outcome == msgbus.Repeated {
		r.observer.MessageRepeated()
	} else {
		r.traceArrival(s, "", came)
		r.observer.MessagesAccepted(msgbus.CommandKind, 1)
	}
	if a.IsReply && outcome != msgbus.Repeated {
		return made, r.answerProxied(ctx, made, s, asked.result)
	}
	return made, nil
}

// seen notes that a twin has just shown that it is there: a lane that rests
// because it was not need not rest longer. Redis knows whether it rests, also
// after a restart and where another relay serves the lane.
func (r *Relay) seen(ctx context.Context, twin uint32) {
	if !r.hasten.allow(twin) {
		return
	}
	if rested, err := r.backlog.Hasten(ctx, twin); err == nil && rested {
		r.lanes.wake(twin)
	}
}

// digestOf names a signature. A message is accepted once under it, however its
// hex is spelt.
func digestOf(signature string) string {
	if signature == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.ToLower(signature)))
	return hex.EncodeToString(sum[:16])
}

// handleRemote serves requests that came to this machine by other means than
// HTTP: an app pushed them, or the archived daemon left them.
func (r *Relay) handleRemote(ctx context.Context, c *msgbus.Claim) error {
	for i, raw := range c.Messages {
		if raw == msgbus.DealtWith {
			continue
		}
		m, err := r.read(c, raw, msgbus.Decode)
		if err == nil {
			err = r.guard(string(c.Queue), func() error { return r.passOn(ctx, c, i, m) })
			if !isProxied(m) {
				m.ReturnQueue = "" // what has a source is answered there, or not at all
			}
		}
		if err != nil {
			err = r.refuse(ctx, c, i, m, err)
		}
		if err != nil {
			return err
		}
	}
	return r.backlog.Drop(ctx, c)
}

// isProxied tells whether a message of the remote queue came by `/zbus-cmd`: its
// answer goes to a queue that the archived daemon made.
func isProxied(m *msgbus.Message) bool {
	return m.Proxied && uuid.Validate(m.ReturnQueue) == nil
}

// passOn hands a request from the remote queue to its service. One that
// the archived daemon took from `/zbus-cmd` keeps its queue.
func (r *Relay) passOn(ctx context.Context, c *msgbus.Claim, position int, m *msgbus.Message) error {
	proxied := isProxied(m)
	switch {
	case m.Source == 0:
		return msgbus.Refuse(msgbus.WrongSource, "a message in the remote queue needs src")
	case m.UID == "" && !proxied:
		return msgbus.Refuse(msgbus.Malformed, "a message in the remote queue needs a uid")
	case len(m.Command) > msgbus.MaxCommandLength:
		return msgbus.Refuse(msgbus.BadCommand, "command is longer than %d bytes", msgbus.MaxCommandLength)
	}
	m.Note, m.Epoch = nil, "" // nobody has verified that it is its source's
	digest := digestOf(m.Signature)
	if proxied {
		if digest == "" {
			digest = digestOf(m.ReturnQueue)
		}
		_, err := r.acceptCommand(ctx, m, digest, m.ReturnQueue)
		return err
	}
	return r.acceptRequest(ctx, c, position, m, digest)
}
