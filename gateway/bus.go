package gateway

import (
	"context"
	"encoding/json"

	"github.com/msgbusd/msgbusd/client"
)

// A Bus is where events come from and go to. [OnClient] makes one of a client.
type Bus interface {
	// Subscribe hears what is published under the topics that a pattern is for, from when
	// it returns on.
	Subscribe(ctx context.Context, pattern string) (Subscription, error)
	// Latest returns, of the topics that a pattern is for, the latest event that was
	// published to be kept, in any order.
	Latest(ctx context.Context, pattern string) ([]*client.Event, error)
	// Publish returns when the bus has the event. The data is JSON.
	Publish(ctx context.Context, topic string, data json.RawMessage) error
	// Announce takes a name from whoever has it, and tells so with an event, as
	// [client.Client.Announce] does.
	Announce(ctx context.Context, name string, info any) (Name, error)
	// Present returns what the holder of a name has said of himself.
	Present(ctx context.Context, name string) (info json.RawMessage, ok bool, err error)
}

// A Subscription must be closed.
type Subscription interface {
	// Next waits for the next event. An error is that of ctx, or means that none come any
	// more.
	Next(ctx context.Context) (*client.Event, error)
	Close() error
}

// A Name is had until Close, or until somebody else has taken it.
type Name interface {
	Lost() <-chan struct{}
	Close() error
}
