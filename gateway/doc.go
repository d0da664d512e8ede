// Package gateway gives events of the bus to browsers, which speak no Redis, and takes
// theirs. The whole conversation:
//
//	GET /events?topic=P&topic=Q[&latest=1]   server-sent events, for EventSource
//	GET /ws                                  a WebSocket
//
// Who asks shows a token that an app has made with [Mint], which says what he may hear and
// tell, and for how long. [New] makes the gateway, [Gateway.Handler] serves it, and
// [Gateway.Run] must run meanwhile.
//
// A connection holds nothing of the bus of its own: all that want a pattern share one
// subscription (hub.go). Events wait for a connection in a queue of its own, which is
// bounded; one that does not keep up loses the oldest and is told how many, and costs the
// others nothing (queue.go).
//
// docs/browsers.md says the same for those who write the pages.
package gateway
