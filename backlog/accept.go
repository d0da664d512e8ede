package backlog

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// signatureKeep is how long a minute's signatures are kept. A message is
// accepted while its `now` is within MaxSkew of ours; the rest is for clocks
// that step.
const signatureKeep = 10 * time.Minute

// noEpoch stands in stored names for requests that came without an epoch.
const noEpoch = "-"

// Accept takes requests of one twin and one epoch ("" when the twin's relay
// sends none): each is pushed to its service's queue, or answered by a reply of
// the relay's own, once. The outcomes are msgbus.Accepted, Repeated, TooOld, QueueIsFull
// or QueueWrongType. Requests with a digest must be signed in the same minute.
// c is the claim that the requests came from, nil when they came by HTTP.
func (s *Store) Accept(ctx context.Context, c *msgbus.Claim, source uint32, epoch string, requests []msgbus.Acceptance) ([]msgbus.Outcome, error) {
	t := &msgbus.Transfer{Source: source, Epoch: epoch}
	if len(requests) > 0 {
		t.Signed = requests[0].Now
	}
	return s.accept(ctx, c, t, requests)
}

// AcceptSigned is Accept for requests under one signature, which is noted in the
// same step, also when there are none. It returns msgbus.ErrRepeated, and has
// done nothing, when the signature was accepted before.
func (s *Store) AcceptSigned(ctx context.Context, t *msgbus.Transfer, requests []msgbus.Acceptance) ([]msgbus.Outcome, error) {
	return s.accept(ctx, nil, t, requests)
}

func (s *Store) accept(ctx context.Context, c *msgbus.Claim, transfer *msgbus.Transfer, requests []msgbus.Acceptance) ([]msgbus.Outcome, error) {
	accepting, err := s.accepting(c, transfer, requests)
	if err != nil {
		return nil, err
	}
	result, err := s.call(ctx, accepting).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("accept %d requests of twin %d: %w", len(requests), transfer.Source, err)
	}
	out := outcomes(result[1:])
	if now, err := strconv.ParseInt(result[0], 10, 64); err == nil {
		s.rememberOpen(transfer, requests, out, now)
	}
	return out, nil
}

// openedMost bounds the open requests that are remembered: about as many as are
// answered soon. For others Redis is asked.
const openedMost = 8192

// rememberOpen remembers the records that accept.lua has written at a time in ms, so
// that they need not be read again for their replies.
func (s *Store) rememberOpen(t *msgbus.Transfer, requests []msgbus.Acceptance, out []msgbus.Outcome, now int64) {
	epoch := cmp.Or(t.Epoch, noEpoch)
	for i, r := range requests {
		if out[i] != msgbus.Accepted || r.IsReply || r.OneWay {
			continue
		}
		uid, cmd := strings.Clone(r.UID), strings.Clone(r.Command) // of a message that they would keep
		s.opened.Set(uid, msgbus.Open{
			UID: uid, Source: t.Source, Epoch: t.Epoch, Command: cmd, Remembered: true, Accepted: time.UnixMilli(now),
			Record: fmt.Sprintf("%d %s %d %d %s", t.Source, epoch, now+r.Life.Milliseconds(), now, cmd),
		})
	}
}

// RememberedOpen returns the record of a request that this relay has accepted lately.
// There may be others with its uid, or none by now, of which DepartAndFetch tells.
func (s *Store) RememberedOpen(uid string) (msgbus.Open, bool) { return s.opened.Get(uid) }

func (s *Store) accepting(c *msgbus.Claim, transfer *msgbus.Transfer, requests []msgbus.Acceptance) (call, error) {
	source, epoch := transfer.Source, transfer.Epoch
	if !isEpoch(epoch) {
		return call{}, fmt.Errorf("accept requests of twin %d: the epoch is not up to %d lower-case hex digits", source, maxEpoch)
	}
	t := id(source)
	keys := []string{s.keys.open(), s.keys.openDeadlines(), s.keys.unread(), s.keys.served(), s.keys.lanes(),
		s.keys.laneReplies(t), s.keys.replies(), s.keys.repliesDeadlines(), s.keys.signatures(transfer.Signed / 60), s.keys.seen(t),
		s.keys.window(t, 0), s.keys.window(t, 1), s.keys.window(t, 2), s.keys.window(t, 3)}
	session, claim := s.claimAtStake(c)
	keys = append(keys, s.keys.sessions(), claim, s.keys.openCounts(), s.keys.retained(), s.keys.subscribers(), s.keys.streams())
	bounds := s.bounds.Load()
	args := []any{t, epoch, Window, int(s.opts.MaxLife.Seconds()), bounds.MaxUnread, bounds.MaxQueue,
		flag(source == s.opts.Twin), int(signatureKeep.Seconds()), session, bounds.MaxReplies, transfer.Digest}
	commands := newNumbering[string]()
	for _, r := range requests {
		commands.of(r.Command)
	}
	args = append(args, len(commands.names))
	for _, cmd := range commands.names {
		keys = append(keys, s.keys.command(cmd))
		args = append(args, cmd)
	}
	streams := newNumbering[string]()
	for _, r := range requests {
		kind := side(r.Left)
		switch {
		case r.IsReply:
			kind = "reply"
		case r.OneWay:
			kind = strings.ToLower(kind)
		}
		position := ""
		if c != nil {
			position = strconv.Itoa(r.Position)
		}
		args = append(args, kind, commands.of(r.Command), r.Number, r.Digest, r.UID, r.Life.Milliseconds(), r.Body, position, s.effect(r.Effect, streams))
	}
	keys = append(keys, streams.names...)
	return call{s.scripts.accept, keys, args}, nil
}

// maxEpoch is the length of a longest epoch. Ours have 32 digits.
const maxEpoch = 64

// isEpoch tells whether an epoch, if any, can stand between the spaces of
// stored names.
func isEpoch(epoch string) bool {
	return len(epoch) <= maxEpoch && strings.Trim(epoch, "0123456789abcdef") == ""
}

// Proxy takes a request from `/zbus-cmd`. queue is the return queue that it
// gets and by which it is known from here on; a repeat gets the earlier one
// back. tail is what the backlog entry says behind its head. A result stays
// readable for msgbus.ReplyQueueTTL after the request's end. No service gets a request
// for which r.IsReply is set: the caller answers it.
func (s *Store) Proxy(ctx context.Context, source uint32, queue string, r msgbus.Acceptance, tail []byte) (string, msgbus.Outcome, error) {
	bounds := s.bounds.Load()
	end := side(r.Left)
	if r.IsReply {
		end = ""
	}
	result, err := s.run(ctx, s.scripts.proxy,
		[]string{s.keys.backlog(), s.keys.deadlines(), s.keys.unread(), s.keys.served(),
			s.keys.signatures(r.Now / 60), s.keys.result(queue), s.keys.command(r.Command), s.keys.stats()},
		queue, id(source), id(s.opts.Twin), r.Digest, int(signatureKeep.Seconds()), r.Life.Milliseconds(),
		int(msgbus.ReplyQueueTTL.Seconds()), r.Command, end, r.Body, tail, bounds.MaxUnread, bounds.MaxQueue, bounds.MaxBacklog).StringSlice()
	if err != nil {
		return "", "", fmt.Errorf("accept a command of twin %d: %w", source, err)
	}
	if len(result) < 2 {
		return "", msgbus.Outcome(result[0]), nil
	}
	return result[1], msgbus.Outcome(result[0]), nil
}

func side(left bool) string {
	if left {
		return "L"
	}
	return "R"
}

// Opens returns the open records of a uid: none, one, or several when more
// than one twin sent it.
func (s *Store) Opens(ctx context.Context, uids []string) ([][]msgbus.Open, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values, err := s.rdb.HMGet(ctx, s.keys.open(), uids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read open requests: %w", translate(err))
	}
	out := make([][]msgbus.Open, len(uids))
	for i, v := range values {
		lines, _ := v.(string)
		for _, line := range strings.Split(lines, "\n") {
			if o, ok := parseOpen(uids[i], line); ok {
				out[i] = append(out[i], o)
			}
		}
	}
	return out, nil
}

// parseOpen reads "<twin> <epoch or -> <deadline> <accepted> <cmd>".
func parseOpen(uid, line string) (msgbus.Open, bool) {
	f := strings.SplitN(line, " ", 5)
	if len(f) != 5 {
		return msgbus.Open{}, false
	}
	source, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		return msgbus.Open{}, false
	}
	o := msgbus.Open{UID: uid, Source: uint32(source), Epoch: f[1], Command: f[4], Record: line}
	if ms, err := strconv.ParseInt(f[3], 10, 64); err == nil {
		o.Accepted = time.UnixMilli(ms)
	}
	if o.Epoch == noEpoch {
		o.Epoch = ""
	}
	return o, true
}

// DepartAndFetch puts services' replies on the lanes to the twins that asked and closes
// the records that they answer. It drops the claim: with the departures all of it has
// been dealt with. Interim replies leave their records open. The outcomes are msgbus.Sent or TooLate. It returns msgbus.ErrStale,
// and has done nothing, when a record that is remembered is not the only one with its
// uid any more. Without a claim (nil) they are errors in place of replies.
//
// In the same exchange it fetches from the lane to a twin, unless that is 0. The
// batch is nil when it could not be fetched.
func (s *Store) DepartAndFetch(ctx context.Context, c *msgbus.Claim, departures []msgbus.Departure, twin uint32) ([]msgbus.Outcome, *msgbus.Batch, error) {
	session, claim := s.claimAtStake(c)
	seen := 0
	if c != nil {
		seen = len(c.Messages)
	}
	keys := []string{s.keys.sessions(), claim, s.keys.open(), s.keys.openDeadlines(), s.keys.replies(), s.keys.repliesDeadlines(), s.keys.lanes(), s.keys.openCounts(), s.keys.ended(), s.keys.served()}
	args := []any{session, msgbus.DefaultExpiration.Milliseconds(), publishedHold.Microseconds(), seen, s.bounds.Load().MaxReplies}
	twins := newNumbering[uint32]()
	for _, d := range departures {
		twins.of(d.Open.Source)
	}
	args = append(args, len(twins.names))
	for _, twin := range twins.names {
		keys = append(keys, s.keys.laneReplies(id(twin)))
		args = append(args, id(twin))
	}
	for _, d := range departures {
		epoch := d.Open.Epoch
		if epoch == "" {
			epoch = noEpoch
		}
		interim := ""
		if d.Interim {
			interim = strconv.FormatInt(d.Sequence, 10)
		}
		args = append(args, d.Open.UID, twins.of(d.Open.Source), epoch, d.Open.Record, flag(d.Open.Remembered), interim, d.Body)
	}
	departed, batch := s.withFetch(ctx, call{s.scripts.depart, keys, args}, twin)
	result, err := departed.StringSlice()
	if err != nil {
		return nil, nil, fmt.Errorf("send %d replies: %w", len(departures), err)
	}
	for _, d := range departures {
		if !d.Interim {
			s.opened.Delete(d.Open.UID)
		}
	}
	if c != nil {
		s.setDrained(c.Queue, true)
	}
	return outcomes(result), batch, nil
}

// publishedHold is how long after a request's acceptance its reply may be sent
// to a relay that is not ours: it writes its backlog after our 200, and loses
// the replies that are faster.
const publishedHold = 50 * time.Millisecond
