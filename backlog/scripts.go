package backlog

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var scriptFiles embed.FS

// scripts holds one script a field; the field `dueReplies` is lua/due_replies.lua.
// What each takes and returns stands at the head of its file.
type scripts struct {
	join, renew, leave, ended, recover    *redis.Script
	take, admit, refuse, dropClaim        *redis.Script
	setApart, tell                        *redis.Script
	fetch, settle, fail, exhausted        *redis.Script
	lanes, hasten                         *redis.Script
	accept, proxy, depart, answer         *redis.Script
	interim, subscriptions, presence      *redis.Script
	due, dueReplies, closeOpen, takeStock *redis.Script
	hold, transferKeys                    *redis.Script
	giveBack, serving                     *redis.Script
	adopt, adoptRetry, discard, counts    *redis.Script
	walk, checkEntries, checkOpen         *redis.Script
	checkReplies, checkLane, checkClaim   *redis.Script
	checkSeen, checkCounts, overdue       *redis.Script
	checkTaken                            *redis.Script
	viewLanes, viewRequests               *redis.Script
	viewQueue, viewDead, viewEnded        *redis.Script
	pause, retryDead                      *redis.Script
	measure                               *redis.Script

	names map[string]string // of the files, by the hash that Redis knows a script by
}

func loadScripts() (*scripts, error) {
	preamble, err := scriptFiles.ReadFile("lua/preamble.lua")
	if err != nil {
		return nil, err
	}
	names := make(map[string]string)
	load := func(parts ...string) *redis.Script {
		text := string(preamble)
		for _, name := range parts {
			body, readErr := scriptFiles.ReadFile("lua/" + name + ".lua")
			if readErr != nil {
				err = readErr
				return nil
			}
			text += "\n" + string(body)
		}
		script := redis.NewScript(text)
		names[script.Hash()] = parts[len(parts)-1]
		return script
	}
	onClaims := func(name string) *redis.Script { return load("claims", name) }
	onBatches := func(name string) *redis.Script { return load("batch", name) }
	s := &scripts{
		join: load("join"), renew: load("renew"), leave: onClaims("leave"), ended: load("ended"), recover: onClaims("recover"),
		take: load("claims", "batch", "take"), admit: onBatches("admit"), refuse: load("refuse"), dropClaim: load("drop_claim"),
		setApart: onClaims("set_apart"), tell: load("tell"),
		fetch: onBatches("fetch"), settle: onBatches("settle"), fail: load("fail"), exhausted: load("exhausted"),
		lanes: load("lanes"), hasten: load("hasten"),
		accept: load("batch", "effects", "accept"), proxy: load("proxy"), depart: onBatches("depart"), answer: onBatches("answer"),
		interim: onBatches("interim"), subscriptions: load("subscriptions"), presence: load("presence"),
		due: load("due"), dueReplies: load("due_replies"), closeOpen: onBatches("close_open"), takeStock: load("take_stock"),
		hold: load("hold"), transferKeys: load("transfer_keys"),
		giveBack: load("give_back"), serving: onBatches("serving"),
		adopt: load("adopt"), adoptRetry: load("adopt_retry"), discard: load("discard"),
		counts: load("counts"), walk: load("walk"), checkEntries: load("check_entries"), checkOpen: load("check_open"),
		checkReplies: load("check_replies"), checkLane: load("check_lane"), checkClaim: load("check_claim"),
		checkSeen: load("check_seen"), checkCounts: load("check_counts"), overdue: load("overdue"), checkTaken: load("check_taken"),
		viewLanes: load("view_lanes"), viewRequests: load("view_requests"), viewQueue: load("view_queue"), viewDead: load("view_dead"), viewEnded: load("view_ended"),
		pause: load("pause"), retryDead: load("retry_dead"),
		measure: load("measure"), names: names,
	}
	return s, err
}
