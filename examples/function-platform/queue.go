package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Queue is where messages for somebody go: a command of a twin. The document names its
// queues by a word, of one broker; here each machine has its own, so the twin is part of
// the name: `1002/RU-7`.
type Queue struct {
	Twin uint32
	Name string
}

func (q Queue) String() string { return fmt.Sprintf("%d/%s", q.Twin, q.Name) }

func (q Queue) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

func (q *Queue) UnmarshalText(text []byte) error {
	twin, name, found := strings.Cut(string(text), "/")
	id, err := strconv.ParseUint(twin, 10, 32)
	if !found || err != nil || name == "" {
		return fmt.Errorf("%q is no queue: a twin, a slash and a name, as in 1002/RU-7", text)
	}
	*q = Queue{Twin: uint32(id), Name: name}
	return nil
}

// The names of queues: each process has one, and each bundle one on each twin that has a
// runner for it. Runners of one twin that have the same bundle share its queue.
const tronQueue = "for_tron"

func runnerQueue(id string) string   { return "RU-" + id }
func frontEndQueue(id string) string { return "FRNT" + id }
func bundleQueue(sha string) string  { return "func-" + sha }

// What the tron tells all: the latest of each is kept for those who come later.
const (
	topicRoute      = "tron/frontends." + ActionRoute
	topicTronInfo   = "tron/runners." + ActionTronInfo
	topicAllBundles = "tron/runners." + ActionAllBundles
	topicsOfRunners = "tron/runners.*"
)

// Times of the document, and of its code where the document says nothing.
const (
	// HeartbeatEvery is how often runners and front ends tell the tron that they are there.
	HeartbeatEvery = 10 * time.Second
	// CleanUpAfter is how long the tron waits for a heartbeat before it forgets somebody.
	CleanUpAfter = 3 * time.Minute
	// StaleAfter is how old a message of the control bus may get before it is dropped.
	StaleAfter = 7*time.Minute + 30*time.Second
	// AnswerWithin is how old an answer may get.
	AnswerWithin = 15 * time.Minute
)

// Times are what the constants above are by default: 0 stands for them.
type Times struct {
	HeartbeatEvery, CleanUpAfter, StaleAfter, AnswerWithin time.Duration
}

func (t Times) orDefaults() Times {
	or := func(d *time.Duration, standard time.Duration) {
		if *d <= 0 {
			*d = standard
		}
	}
	or(&t.HeartbeatEvery, HeartbeatEvery)
	or(&t.CleanUpAfter, CleanUpAfter)
	or(&t.StaleAfter, StaleAfter)
	or(&t.AnswerWithin, AnswerWithin)
	return t
}
