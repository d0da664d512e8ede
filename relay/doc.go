// Package relay is the rules: what becomes of a local, a remote and a reply
// message, how lanes serve and rest, and when a request ends.
//
// A request at its source goes queued → claimed → admitted → sent → answered,
// failed or expired. Each arrow is one step of the [Backlog], which must be
// atomic; between two steps the relay holds nothing that it cannot read again,
// so it may be killed anywhere.
//
// [Relay.Run] does the work. The HTTP side hands over what arrives through
// [Relay.AcceptRequest], [Relay.AcceptReply] and [Relay.AcceptCommand].
package relay
