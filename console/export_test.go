package console

import (
	"time"

	"github.com/msgbusd/msgbusd/inspect"
)

const (
	MostSessions = mostSessions
	MostGuesses  = mostGuesses
	SessionLife  = sessionLife
	EventsMost   = eventsMost
	LookMost     = lookMost
)

// FakeClock has sessions and wrong tokens end by another clock.
func (c *Console) FakeClock(now func() time.Time) { c.sessions.now = now }

// Look is one look of Run, as if the relay fared so.
func (c *Console) Look(o *inspect.Overview) { c.live.add(o) }
