package relay

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// DropRequest ends a request of the backlog with an error to its app, because an
// operator wants so. What its twin makes of it is late then. It returns
// msgbus.ErrNotFound when the request has ended.
func (r *Relay) DropRequest(ctx context.Context, uid string) error {
	entry, err := r.backlog.Entry(ctx, uid)
	if err != nil {
		return err
	}
	outcomes, err := r.endAll(ctx, []*msgbus.Entry{entry}, msgbus.Dropped, func(*msgbus.Entry) string { return "the request was dropped by an operator" })
	if err != nil {
		return fmt.Errorf("drop request %s: %w", uid, err)
	}
	if outcomes[0] == msgbus.TooLate {
		return msgbus.ErrNotFound
	}
	return nil
}
