package relay

import (
	"context"
	"slices"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Interim replies come before the answer of a request and leave it open.

// wantsInterim tells whether the app of a request named a list for interim replies.
func wantsInterim(e *msgbus.Entry) bool {
	return e.Message.Ext != nil && e.Message.Ext.Progress != ""
}

// apart parts replies that end their requests from those that do not.
func apart(endings []*ending) (final, interim []*ending) {
	for _, e := range endings {
		if e.reply.IsInterim() {
			interim = append(interim, e)
		} else {
			final = append(final, e)
		}
	}
	return final, interim
}

// pushInterim gives interim replies of a transfer to their apps, before the answers that
// come with them. Nothing else tells a repeat of one, so the signature is noted first; it
// returns the transfer without it then.
func (r *Relay) pushInterim(ctx context.Context, t *msgbus.Transfer, interim []*ending) (*msgbus.Transfer, error) {
	interim = slices.DeleteFunc(interim, func(e *ending) bool {
		isLarge := len(e.Body) > msgbus.MaxInterim
		if isLarge {
			r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndDropped, msgbus.TooLarge, 1)
			r.refusal.Info().Str("msg_id", e.reply.UID).Uint32("twin", e.reply.Source).Str("reason", string(msgbus.TooLarge)).Msg("dropped an interim reply")
		}
		return isLarge
	})
	if len(interim) == 0 {
		return t, nil
	}
	if t.Digest != "" {
		if _, err := r.backlog.AcceptSigned(ctx, t, nil); err != nil {
			return nil, err
		}
		t = unsigned(t)
	}
	replies := make([]msgbus.Interim, len(interim))
	for i, e := range interim {
		replies[i] = msgbus.Interim{Entry: e.Entry, Body: e.Body}
	}
	var outcomes []msgbus.Outcome
	err := r.guard("transfer", func() (err error) {
		outcomes, err = r.backlog.PushInterim(ctx, replies)
		return err
	})
	switch {
	case isPoison(err): // nothing is lost that anybody waits for
		for _, e := range interim {
			e.tell(err)
		}
		return t, nil
	case err != nil:
		return nil, err
	}
	for i, e := range interim {
		if outcomes[i] != msgbus.Sent {
			r.late(e.reply)
		}
	}
	return t, nil
}
