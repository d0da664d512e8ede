package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// transferOverhead is how much larger than the largest message a transfer may
// be: one of them always fits.
const transferOverhead = 64 << 10

// An Opener has the keys that transfers to this twin are sealed for.
type Opener interface {
	// Offer returns what peers are to seal with from now on.
	Offer(ctx context.Context) (*transfer.Offer, error)
	// Open returns transfer.ErrUnknownKey when the key has gone.
	Open(ctx context.Context, source uint32, field string, sealed []byte) ([]byte, error)
}

// transfer takes many messages of another relay in one POST. Until it is known
// who asks, answers are not signed, and nothing of the body is read.
func (s *Server) transfer(w http.ResponseWriter, req *http.Request) {
	head, signature, err := s.authenticateTransfer(req)
	if err != nil {
		s.turnAway(w, req, nil, err)
		return
	}
	s.opts.Greeted(head.Source)
	outcomes, err := s.takeTransfer(w, req, head, signature)
	if err != nil {
		refusal := s.refusalOf(req, head.Source, err)
		s.opts.Observer.MessagesReceived(refusal.Reason, 1)
		askToComeAgain(w, refusal)
		body, _ := json.Marshal(errorBody{Status: "error", Message: refusal.Text, Reason: refusal.Reason}) // plain text
		s.answerTransfer(w, req, status(refusal.Reason), signature, append(body, '\n'))
		return
	}
	s.answerTransfer(w, req, http.StatusOK, signature, s.tellOutcomes(head.Source, outcomes))
}

// authenticateTransfer makes sure that a twin signed these header fields for
// this one, now, and that they come for the first time.
func (s *Server) authenticateTransfer(req *http.Request) (*transfer.Head, []byte, error) {
	head, signature, err := transfer.ReadHead(req.Header)
	switch {
	case err != nil:
		return nil, nil, err
	case head.Destination != s.opts.Twin:
		return nil, nil, msgbus.Refuse(msgbus.WrongDestination, "this relay serves twin %d and no other", s.opts.Twin)
	case head.Source == s.opts.Twin:
		return nil, nil, msgbus.Refuse(msgbus.WrongSource, "twin %d is this relay's own and does not come over the network", head.Source)
	}
	if err := checkClock(s.opts.Now().Unix(), head.Created); err != nil {
		return nil, nil, err
	}
	return head, signature, s.verify(req, head.Source, func() error {
		if err := s.verifier.Verify(req.Context(), head.Source, head.Base(), signature); err != nil {
			return err
		}
		return s.used.once(digestOf(signature), s.opts.Now()) // what was not verified could use up another's
	})
}

// takeTransfer reads a transfer and hands its messages over. It returns what
// became of each.
func (s *Server) takeTransfer(w http.ResponseWriter, req *http.Request, head *transfer.Head, signature []byte) ([]error, error) {
	done, err := s.limits.begin(head.Source, 0, 0) // its place, before any of its memory
	if err != nil {
		return nil, err
	}
	defer done()
	plain, release, err := s.readTransfer(w, req, head)
	defer release()
	if err != nil {
		return nil, err
	}
	lines, err := transfer.ReadBody(plain)
	if err == nil {
		err = s.limits.spend(head.Source, max(1, len(lines)), len(plain)) // a greeting is work too
	}
	if err != nil {
		return nil, err
	}
	t := &msgbus.Transfer{Source: head.Source, Digest: digestOf(signature).String(), Signed: head.Created}
	if head.Epoch != transfer.None {
		t.Epoch = head.Epoch
	}
	outcomes := make([]error, len(lines))
	var positions []int
	for i, line := range lines {
		if outcomes[i] = s.checkLine(head, t.Epoch, line); outcomes[i] == nil {
			t.Messages = append(t.Messages, line.Outgoing)
			positions = append(positions, i)
		}
	}
	if len(t.Messages) == 0 {
		return outcomes, nil
	}
	accepted, err := s.relay.AcceptTransfer(req.Context(), t)
	if errors.Is(err, msgbus.ErrRepeated) {
		err = msgbus.Refuse(msgbus.Replayed, "this transfer was accepted before")
	}
	if err != nil {
		return nil, err
	}
	for i, position := range positions {
		outcomes[position] = accepted[i]
	}
	return outcomes, nil
}

// readTransfer returns the lines of a body, after its digest, its seal and its
// size were found to be in order. release gives back the memory that its opened
// and its expanded copy count for; it is never nil.
func (s *Server) readTransfer(w http.ResponseWriter, req *http.Request, head *transfer.Head) (plain []byte, release func(), err error) {
	opened, expanded := newMeter(s.inFlight), newMeter(s.inFlight)
	release = func() {
		opened.release()
		expanded.release()
	}
	most := s.opts.MaxBody + transferOverhead
	body, err := s.readBody(w, req, most)
	if err != nil {
		return nil, release, err
	}
	if transfer.DigestOf(body) != head.Digest {
		return nil, release, msgbus.Refuse(msgbus.BadSignature, "the body is not what Content-Digest says")
	}
	if body, err = s.unseal(req.Context(), head, body, opened.take); err == nil {
		plain, err = transfer.Expand(head.Encoding, body, most, expanded.take)
	}
	switch {
	case errors.Is(err, transfer.ErrTooLarge):
		err = tooLarge(most)
	case errors.Is(err, errOverloaded):
		err = overloaded()
	}
	return plain, release, err
}

// unseal opens a sealed body, of which it makes a copy that it counts.
func (s *Server) unseal(ctx context.Context, head *transfer.Head, body []byte, count func(n int64) error) ([]byte, error) {
	switch {
	case head.Seal == transfer.None && s.opts.RequireEncryption && len(body) > 0:
		return nil, msgbus.Refuse(msgbus.EncryptionRequired, "this relay takes sealed transfers only")
	case head.Seal == transfer.None:
		return body, nil
	case s.opts.Opener == nil:
		return nil, msgbus.Refuse(msgbus.UnknownKey, "this relay has no key to open it with")
	}
	if err := count(int64(len(body))); err != nil {
		return nil, err
	}
	plain, err := s.opts.Opener.Open(ctx, head.Source, head.Seal, body)
	switch {
	case errors.Is(err, transfer.ErrUnknownKey):
		return nil, msgbus.Refuse(msgbus.UnknownKey, "the key that it is sealed with has gone; take the one of this answer")
	case errors.Is(err, transfer.ErrSeal):
		return nil, msgbus.Refuse(msgbus.Malformed, "the seal cannot be opened")
	}
	return plain, err
}

// checkLine tells why a message cannot be one of a transfer.
func (s *Server) checkLine(head *transfer.Head, epoch string, line transfer.Line) error {
	m := line.Message
	switch {
	case line.Err != nil:
		return line.Err
	case int64(line.Size) > s.opts.MaxBody:
		return tooLarge(s.opts.MaxBody)
	case m.Source != head.Source:
		return msgbus.Refuse(msgbus.WrongSource, "a message of twin %d in a transfer of twin %d", m.Source, head.Source)
	case m.Epoch != "" && !plainEpoch(m.Epoch):
		return msgbus.Refuse(msgbus.Malformed, "epoch is not 1 to 32 hexadecimal digits")
	case line.Kind == msgbus.ReplyParcel:
		return m.CheckRemoteReply(s.opts.Twin)
	case m.Epoch == "" || m.Epoch != epoch:
		return msgbus.Refuse(msgbus.Malformed, "a request's epoch is not that of its transfer")
	default:
		return m.CheckRemoteRequest(s.opts.Twin)
	}
}

// tellOutcomes writes what became of each message, counts it, and logs what was refused.
func (s *Server) tellOutcomes(source uint32, outcomes []error) []byte {
	body := make([]byte, 0, 32*len(outcomes))
	taken := 0
	for _, err := range outcomes {
		o := outcomeOf(err)
		if o.Word == transfer.Accepted {
			taken++
		} else {
			s.opts.Observer.MessagesReceived(o.Reason, 1)
			s.log.Info().Str("path", transfer.Path).Uint32("twin", source).Str("reason", string(o.Reason)).
				Str("outcome", string(o.Word)).Str("detail", err.Error()).Msg("refused a message")
		}
		body = transfer.AppendOutcome(body, o)
	}
	if taken > 0 {
		s.opts.Observer.MessagesReceived("", taken)
	}
	return body
}

// outcomeOf is what an error is on the wire.
func outcomeOf(err error) transfer.Outcome {
	var refusal *msgbus.Refusal
	var deferral *msgbus.Deferral
	switch {
	case err == nil:
		return transfer.Outcome{Word: transfer.Accepted}
	case errors.As(err, &deferral):
		return transfer.Outcome{Word: transfer.Later, Reason: deferral.Reason, After: wholeSeconds(deferral.After)}
	case !errors.As(err, &refusal):
		return transfer.Outcome{Word: transfer.Later, Reason: msgbus.StorageFailed, After: 1}
	case comesAgain(refusal.Reason):
		return transfer.Outcome{Word: transfer.Later, Reason: refusal.Reason, After: wholeSeconds(refusal.Rest)}
	default:
		return transfer.Outcome{Word: transfer.Refused, Reason: refusal.Reason}
	}
}

// answerTransfer signs an answer, with the key offer of now in it. Where there
// should be one and is none, nothing is signed that says so: the peer would send
// the next transfer unsealed.
func (s *Server) answerTransfer(w http.ResponseWriter, req *http.Request, code int, signature, body []byte) {
	answer := transfer.AnswerHead{
		Status: code, Source: s.opts.Twin, Key: transfer.None,
		Digest: transfer.DigestOf(body), Created: s.opts.Now().Unix(), Request: signature,
	}
	if s.opts.Opener != nil {
		offer, err := s.opts.Opener.Offer(req.Context())
		if err != nil {
			s.refuse(w, req, nil, err)
			return
		}
		answer.Key = offer.Field()
	}
	answer.Sign(w.Header(), s.signer)
	write(w, code, body)
}
