// Package httpapi is the wire between relays, both ends, and the HTTP side for
// apps and operators.
//
// Between two of our relays messages go in transfers, many in one signed POST:
// version 2, which package transfer describes. The whole conversation of version
// 1, for all others:
//
//	POST /zbus-remote   a request, signed by the source twin    → 200 {"status":"accepted"}
//	POST /zbus-reply    a reply, signed by the twin that was asked → 200 {"status":"accepted"}
//	POST /zbus-cmd      a request of a client without a relay   → 200 {"retqueue":"<uuid>"}
//	POST /zbus-result   {"retqueue":"<uuid>"}, ?wait=10s        → 200 [message, …]
//
// The first two carry messages between relays: 200 is said only when Redis has
// the message. An error is {"Status":"error","Message":"…","Reason":"…"}: 400,
// 403, 409, 413 and 422 mean that the message will never be taken, 429 and 503
// that it may be later (Retry-After says when), anything else that this relay
// could not do its part. 429 is about who asks: the twin, or whoever pretends to be
// one at that address, has had its share; 503 about the relay, its storage or a
// service whose queue is full.
//
// Inbound is strict (see msgbus.CheckRemoteRequest), since the signed fields of
// version 1 run together; what is signed here is made to be read in one way only
// (PinReply, MarkResult); outbound takes any 2xx for an acceptance, since
// published relays differ.
//
// A Client greets a peer before it sends anything, to find out which version it
// speaks, and remembers that.
//
// A handler ends with its request's context, which http.Server.Shutdown leaves
// alone: for a long poll not to hold up the stop of the relay, close
// ServerOptions.Stop with it.
package httpapi
