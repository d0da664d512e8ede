package gateway

import (
	"context"
	"encoding/json"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// OnClient returns the bus that a client is on. Events of other twins come too if those are
// named. The client must be open for longer than the gateway runs.
func OnClient(c *client.Client, twins []uint32) Bus { return &clientBus{c, twins} }

type clientBus struct {
	*client.Client
	twins []uint32
}

// twinsWait is how long a subscription waits until other twins send.
const twinsWait = 2 * time.Second

// Subscribe keeps no page waiting for a twin that is away or refuses: its events come when
// it sends them.
func (b *clientBus) Subscribe(ctx context.Context, pattern string) (Subscription, error) {
	s, err := b.Client.Subscribe(ctx, pattern, client.From(b.twins...), client.Within(twinsWait), client.AskAgain())
	if err != nil {
		return nil, err // and no interface that holds a nil
	}
	return s, nil
}

func (b *clientBus) Publish(ctx context.Context, topic string, data json.RawMessage) error {
	return b.Client.Publish(ctx, topic, data)
}

func (b *clientBus) Announce(ctx context.Context, name string, info any) (Name, error) {
	p, err := b.Client.Announce(ctx, name, info)
	if err != nil {
		return nil, err
	}
	return p, nil
}
