package main

import (
	"context"

	"github.com/msgbusd/msgbusd/client"
)

// The exchange of events of agents: their topics are `agent/<classname>.<what>`.
const eventExchange = "agent/"

// Emit tells whoever listens of something that has happened. Without [client.Durable], who does not listen
// does not get it.
func (a *Agent) Emit(ctx context.Context, class, what string, v any, opts ...client.CallOption) error {
	return a.bus.Publish(ctx, eventExchange+class+"."+what, v, opts...)
}

// Listen hears events of a class at an agent, from when it returns on. Those that were missed in between
// are counted by [client.Event.Lost].
func (s Stub) Listen(ctx context.Context, opts ...client.SubscribeOption) (*client.Subscription, error) {
	opts = append(opts, client.From(s.Agent))
	return s.Caller.bus.Subscribe(ctx, eventExchange+s.ClassName+".#", opts...)
}
