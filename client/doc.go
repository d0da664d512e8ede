// Package client is what a Go app or service imports to speak over the bus.
//
// An app opens a [Client] with [Open] and asks with [Client.Call]:
//
//	c, err := client.Open(client.Options{})
//	…
//	defer c.Close()
//	var sum int
//	err = c.Call(ctx, 1002, "calculator.add", []int{20, 22}, &sum)
//
// or with [Call], which returns what it was answered. [Client.CallAll] asks many twins,
// [Client.Go] does not wait, and [Client.Notify] wants no answer. Data is JSON both
// ways, but for []byte and [json.RawMessage], which go as they are.
//
// A service makes a [Server], registers typed handlers with [Handle], and serves with
// [Server.Run]:
//
//	s := client.NewServer(c, client.ServerOptions{})
//	client.Handle(s, "calculator.add", func(ctx context.Context, in []int) (int, error) { … })
//	err := s.Run(ctx)
//
// Apps tell of what happens with [Client.Publish], and hear of it with [Client.Subscribe] or,
// where nothing may be missed, [Client.Stream]. A client may have thousands of subscriptions:
// they share one connection to Redis.
//
// The tests of an app need neither Redis nor relay: see [NewFake].
//
// Both sides speak to the Redis of their own machine and to nothing else; msgbusd does
// the rest. What they put there is described in docs/clients.md and docs/extensions.md.
// Redis must be 6.2 or newer.
package client
