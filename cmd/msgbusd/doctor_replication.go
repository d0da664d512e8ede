package main

import "github.com/msgbusd/msgbusd/backlog"

// judgeReplication says what is wrong with the set-up of sentinels and replicas.
func judgeReplication(r *backlog.Replication, warn func(reason, hint string, args ...any)) {
	if r.Unbounded() {
		warn("min_replicas", "a master that is cut off from its replicas goes on to take messages, which are lost when it is the master no more: redis-cli CONFIG SET min-replicas-to-write 1, and in redis.conf of every server")
	}
	if r.Alone() {
		warn("no_replica", "no replica is attached to the master: if it dies now, nothing takes its place")
	}
	if r.Few() {
		warn("few_sentinels", "the loss of one machine leaves too few sentinels to agree on another master: run three or more, each on a machine of its own, with a quorum of half of them and one")
	}
	if n := r.Missing(); n > 0 {
		warn("sentinels", "%d sentinels of --redis tell nothing of the master: do they run, can they be reached, and do sentinel_user and sentinel_password fit?", n)
	}
}
