package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"
)

// A Story is told what passes, by many goroutines at once.
type Story interface {
	// Saw is told of each message by the one who gets it, when he gets it.
	Saw(m Message)
	// Say is told the rest: what somebody makes of it, and what was lost.
	Say(who, what string)
}

// A Message is one that has come to somebody.
type Message struct {
	To   string          // the name of his queue
	From uint32          // the twin that it comes from
	Raw  json.RawMessage // as it came
}

// A Printer writes a story for people, one line a message.
type Printer struct {
	start time.Time

	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// NewPrinter writes to w.
func NewPrinter(w io.Writer) *Printer { return &Printer{start: time.Now(), w: w} }

func (p *Printer) Saw(m Message) {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(m.Raw, &fields) // what cannot be read is shown as it came
	action, rest := header(m.Raw).Action, []byte(m.Raw)
	if fields != nil {
		delete(fields, "action") // which stands in front
		delete(fields, "at")     // as good as now
		rest, _ = json.Marshal(fields)
	}
	p.print(fmt.Sprintf("%d → %s", m.From, m.To), fmt.Sprintf("%-12s %s", action, rest))
}

// header is what a message has for one.
func header(raw json.RawMessage) Header {
	var h Header
	_ = json.Unmarshal(raw, &h) // what cannot be read has no action
	return h
}

func (p *Printer) Say(who, what string) { p.print("", "· "+who+": "+what) }

// longID is an id of which people need not read more than the beginning.
var longID = regexp.MustCompile(`\b([0-9a-f]{4})[0-9a-f]{4}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)

// Chapter begins a part of the story.
func (p *Printer) Chapter(title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "\n%s\n", title)
}

func (p *Printer) print(way, what string) {
	const most = 140 // characters, for a line of a wide terminal
	what = longID.ReplaceAllString(what, "$1…")
	if runes := []rune(what); len(runes) > most {
		what = string(runes[:most]) + "…"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%6.2f s  %-18s %s\n", time.Since(p.start).Seconds(), way, what)
}

// silence is the story of those whom nobody listens to.
type silence struct{}

func (silence) Saw(Message)        {}
func (silence) Say(string, string) {}

func orSilence(s Story) Story {
	if s == nil {
		return silence{}
	}
	return s
}
