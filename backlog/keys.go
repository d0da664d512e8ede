package backlog

import (
	"strconv"

	"github.com/msgbusd/msgbusd/msgbus"
)

// keys names every key of the project. The ones without `system` are the
// specification's.
type keys string

func (k keys) system(name string) string { return string(k) + ".system." + name }

// Lists and hashes that apps and the archived daemon know.
func (k keys) queue(q msgbus.Queue) string { return k.system(string(q)) }
func (k keys) command(cmd string) string   { return string(k) + "." + cmd }
func (k keys) counter(dst string) string   { return string(k) + ".counter." + dst }
func (k keys) backlog() string             { return k.system("backlog") } // hash: uid → entry
func (k keys) archivedRetry() string       { return k.system("retry") }   // hash of the archived daemon: id → request

// Sessions and claims.
func (k keys) sessions() string  { return k.system("sessions") }  // sorted set: session → end of its lease in ms, negative once fenced
func (k keys) instances() string { return k.system("instances") } // hash: instance → its latest session
func (k keys) claim(session string, q msgbus.Queue) string {
	return k.system("claim." + session + "." + string(q)) // list
}
func (k keys) suspects() string { return k.system("suspects") } // hash: sha1 of a message → relays that ended with it; claim → sha1 of its suspect

// hold is a string that is there for a while after Redis's clock was set: by how many ms.
func (k keys) hold() string { return k.system("hold") }

// Requests of this twin.
func (k keys) epoch() string     { return k.system("epoch") }     // hash: epoch, run_id, jump, base
func (k keys) deadlines() string { return k.system("deadlines") } // sorted set: uid → ms
func (k keys) stats() string     { return k.system("stats") }     // hash: accepted, answered, failed
func (k keys) ended() string     { return k.system("ended") }     // stream of what became of requests: asked or served → a line each
func (k keys) dead() string      { return k.system("dead") }      // stream of dead letters

// transferKey is a string: ms when a key pair was made, its id and the private key.
// It goes by itself.
func (k keys) transferKey(place int) string {
	return k.system("transfer.keys." + strconv.Itoa(place))
}

// Lanes.
func (k keys) lanesLater() string  { return k.system("lanes.later") }  // sorted set: twin → ms before which nothing put off is offered again
func (k keys) lanesPaused() string { return k.system("lanes.paused") } // sorted set: twin → ms since when an operator lets nothing go to it
func (k keys) lanes() string       { return k.system("lanes") }        // sorted set: twin → ms when it is due; see FAILING in the preamble
func (k keys) lane(twin string) string {
	return k.system("lane." + twin) // hash: epoch, owner, failing, failures, reason, detail, later_reason, later_detail
}
func (k keys) laneRequests(twin string) string { return k.lane(twin) + ".requests" } // sorted set: uid → its number
func (k keys) laneLater(twin string) string    { return k.lane(twin) + ".later" }    // sorted set: the same for requests that are put off
func (k keys) laneTries(twin string) string    { return k.lane(twin) + ".tries" }    // sorted set: uid → failures that end it
func (k keys) laneReplies(twin string) string  { return k.lane(twin) + ".replies" }  // sorted set: id → µs before which it waits
func (k keys) replies() string                 { return k.system("replies") }        // hash: id → reply
func (k keys) repliesDeadlines() string        { return k.system("replies.deadlines") }

// Requests of other twins.
func (k keys) open() string          { return k.system("open") }        // hash: uid → a line a record: twin, epoch, deadline, accepted, cmd
func (k keys) openCounts() string    { return k.system("open.counts") } // hash: "<twin> <cmd>" → how many records are open
func (k keys) openDeadlines() string { return k.system("open.deadlines") }
func (k keys) seen(twin string) string {
	return k.system("seen." + twin) // hash: 0 to 3 → epoch, highest number, last use
}
func (k keys) window(twin string, slot int) string {
	return k.seen(twin) + "." + strconv.Itoa(slot) // bitmap of accepted numbers
}
func (k keys) signatures(minute int64) string {
	return k.system("signatures." + strconv.FormatInt(minute, 10)) // hash: digest → result queue or ""
}
func (k keys) unread() string                { return k.system("commands") } // sorted set: cmd that no service has taken from → its latest deadline
func (k keys) served() string                { return k.system("served") }   // sorted set: cmd → when a service was last seen to take; see announced in the preamble
func (k keys) result(queue string) string    { return k.system("result." + queue) }
func (k keys) twinRecord(twin uint32) string { return k.system("twin." + id(twin)) }
func (k keys) peer(twin uint32) string       { return k.system("peer." + id(twin)) } // what its relay offers to seal with; there: it speaks version 2

// Services that have announced themselves. They write the first two and take into the third.
func (k keys) consumers() string           { return k.system("consumers") }        // sorted set: "<consumer> <cmd>" → 0, or the ms at which its lease was first found gone, half a ms more once that is told
func (k keys) consumer(name string) string { return k.system("consumer." + name) } // string that goes by itself: the lease, of apps that subscribe, too
func (k keys) taken(consumer, cmd string) string {
	return k.system("taken." + consumer + "." + cmd) // list of what it has taken and not acknowledged
}

// group is a set of twins, which apps and operators make.
func (k keys) group(name string) string { return k.system("group." + name) }

// Events.
func (k keys) channel(pattern string) string { return string(k) + ".events." + pattern } // of Redis's PUBLISH, and no key
func (k keys) stream(exchange string) string { return k.system("stream." + exchange) }   // stream of events
func (k keys) streams() string               { return k.system("streams") }              // sorted set: exchange → ms when its stream last got an event
func (k keys) retained() string              { return k.system("retained") }             // hash: "<src> <topic>" → the latest event
func (k keys) subscribers() string           { return k.system("subscribers") }          // sorted set: "<twin> <pattern>" → ms until which it gets events
func (k keys) subscriptions() string         { return k.system("subscriptions") }        // sorted set of this machine's apps: "<consumer> <twin> <pattern>" → 0, or the ms at which its lease was first found gone
func (k keys) subscribed() string            { return k.system("subscribed") }           // sorted set: "<twin> <pattern>" → ms when the twin was last asked

// Presence of apps.
func (k keys) presence() string           { return k.system("presence") }         // sorted set: name → 0, or the ms at which it was first found gone
func (k keys) present(name string) string { return k.system("presence." + name) } // string that the one who has the name keeps up

func id(twin uint32) string { return strconv.FormatUint(uint64(twin), 10) }
