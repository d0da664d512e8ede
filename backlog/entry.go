package backlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// note is what the relay notes on an entry, under the key `msgbusd`.
type note struct {
	Epoch    string `json:"epoch"`
	Admitted int64  `json:"admitted"` // ms
	Deadline int64  `json:"deadline"` // ms
	Dialect  string `json:"dialect"`
}

// ParseEntry reads a backlog entry as admit and proxy write it. An entry that
// makes it panic is one that cannot be read.
func ParseEntry(raw string) (e *msgbus.Entry, err error) {
	err = msgbus.Guard(func() error {
		e, err = parseEntry(raw)
		return err
	})
	return e, err
}

func parseEntry(raw string) (*msgbus.Entry, error) {
	m, err := msgbus.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read a backlog entry: %w", err)
	}
	n, err := readNote(m.Note)
	if err != nil {
		return nil, fmt.Errorf("read the note of backlog entry %s: %w", m.UID, err)
	}
	m.Note = nil
	m.Dialect = msgbus.Classic
	if n.Dialect == msgbus.Ref.String() {
		m.Dialect = msgbus.Ref
	}
	return &msgbus.Entry{
		Message:  m,
		Epoch:    n.Epoch,
		Admitted: time.UnixMilli(n.Admitted),
		Deadline: time.UnixMilli(n.Deadline),
		Dialect:  m.Dialect,
		Head:     entryHead(raw),
	}, nil
}

// readNote reads what entry_of writes, which it knows by heart: this is done for each
// request that leaves, and again for its reply.
func readNote(text []byte) (n note, err error) {
	rest, found := bytes.CutPrefix(text, []byte(`{"epoch":"`))
	epoch, rest, cutEpoch := bytes.Cut(rest, []byte(`","admitted":`))
	admitted, rest, cutAdmitted := bytes.Cut(rest, []byte(`,"deadline":`))
	deadline, rest, cutDeadline := bytes.Cut(rest, []byte(`,"dialect":"`))
	dialect, end, cutDialect := bytes.Cut(rest, []byte(`"`))
	if !found || !cutEpoch || !cutAdmitted || !cutDeadline || !cutDialect || string(end) != "}" || !isEpoch(string(epoch)) {
		return n, json.Unmarshal(text, &n)
	}
	n.Epoch, n.Dialect = string(epoch), string(dialect)
	if n.Admitted, err = strconv.ParseInt(string(admitted), 10, 64); err == nil {
		n.Deadline, err = strconv.ParseInt(string(deadline), 10, 64)
	}
	return n, err
}

// entryHead returns the part of an entry up to the end of the note: uid, epoch
// and time of admission are in it, so no two entries share it. The note comes
// before anything that an app wrote.
func entryHead(raw string) string {
	start := strings.Index(raw, `"msgbusd":{`)
	if start < 0 {
		return raw
	}
	end := strings.IndexByte(raw[start:], '}')
	if end < 0 {
		return raw
	}
	return raw[:start+end+1]
}

// Entry returns the backlog entry of a uid, or msgbus.ErrNotFound.
func (s *Store) Entry(ctx context.Context, uid string) (*msgbus.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := s.rdb.HGet(ctx, s.keys.backlog(), uid).Result()
	if isNil(err) {
		return nil, msgbus.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read backlog entry %s: %w", uid, translate(err))
	}
	return ParseEntry(raw)
}

// Entries returns the backlog entries of several uids, "" for those that have
// none, as [ParseEntry] reads them.
func (s *Store) Entries(ctx context.Context, uids []string) ([]string, error) {
	entries := make([]string, len(uids))
	if len(uids) == 0 {
		return entries, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values, err := s.rdb.HMGet(ctx, s.keys.backlog(), uids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %d backlog entries: %w", len(uids), translate(err))
	}
	for i, v := range values {
		entries[i], _ = v.(string)
	}
	return entries, nil
}

// entries reads what due, fail and exhausted return. One that cannot be read
// goes to the dead letters, or it would come up for ever: nobody can be answered.
func (s *Store) entries(ctx context.Context, pairs []string) ([]*msgbus.Entry, error) {
	var out []*msgbus.Entry
	for i := 0; i+1 < len(pairs); i += 2 {
		e, err := ParseEntry(pairs[i+1])
		if err != nil {
			if err := s.discardEntry(ctx, pairs[i], pairs[i+1], err); err != nil {
				return out, err
			}
			continue
		}
		out = append(out, e)
	}
	return out, nil
}

// discardEntry moves what is no entry from the backlog to the dead letters,
// unless it is another entry by now.
func (s *Store) discardEntry(ctx context.Context, uid, raw string, why error) error {
	refusal := &msgbus.Refusal{Reason: msgbus.Malformed, Text: why.Error()}
	if p := (*msgbus.Panic)(nil); errors.As(why, &p) {
		refusal = p.Refusal()
	}
	p := msgbus.Parcel{Kind: msgbus.RequestParcel, ID: uid, Body: raw}
	if err := s.discard(ctx, p, "backlog", refusal); err != nil {
		return err
	}
	s.opts.Observer.MessagesFinished(msgbus.RequestKind, msgbus.EndBuried, refusal.Reason, 1)
	return nil
}

// ParseEntry is [ParseEntry], for those who know the storage as an interface.
func (s *Store) ParseEntry(raw string) (*msgbus.Entry, error) { return ParseEntry(raw) }
