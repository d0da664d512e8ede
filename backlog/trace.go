package backlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A Past is how a request ended that this Redis still knows of: one of this twin, or
// one that it served for another.
type Past struct {
	UID     string         `json:"uid"`
	Served  bool           `json:"served"` // for another twin, by a service of this machine
	Source  uint32         `json:"source"` // of one that was served: the twin that asked; otherwise 0
	Outcome msgbus.Outcome `json:"outcome"`
	Reason  msgbus.Reason  `json:"reason"` // of an error of the bus
	Began   time.Time      `json:"began"`  // when it was admitted, or accepted from the other twin; zero: not known
	// Stay is what the service's relay said of one that was asked, by the clock there;
	// zero times where it said nothing.
	Stay  msgbus.Stay `json:"stay"`
	Ended time.Time   `json:"ended"` // when its reply was pushed to the app, or left for the other twin; or its deadline, when no service had answered
}

// An OpenView is a request of another twin that a service here has not answered.
type OpenView struct {
	Source   uint32    `json:"source"` // the twin that asked
	Command  string    `json:"command"`
	Accepted time.Time `json:"accepted"`
	Deadline time.Time `json:"deadline"`
}

// ViewOpen returns the open requests with a uid: of several twins, who may use the same.
func (s *Store) ViewOpen(ctx context.Context, uid string) ([]OpenView, error) {
	opens, err := s.Opens(ctx, []string{uid})
	if err != nil {
		return nil, err
	}
	var views []OpenView
	for _, o := range opens[0] {
		f := strings.SplitN(o.Record, " ", 5) // as parseOpen has found it
		views = append(views, OpenView{Source: o.Source, Command: o.Command, Accepted: o.Accepted, Deadline: milliseconds(f[2])})
	}
	return views, nil
}

// ViewPast returns how requests with a uid ended, the latest first. The latest 1,000
// steps are known, in each of which up to some hundred requests ended.
func (s *Store) ViewPast(ctx context.Context, uid string) ([]Past, error) {
	result, err := s.run(ctx, s.scripts.viewEnded, []string{s.keys.ended()}, uid).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look for the end of %s: %w", uid, err)
	}
	var pasts []Past
	for i := 0; i+2 < len(result); i += 3 {
		f := append(strings.Split(result[i+2], " "), "", "", "", "", "")
		p := Past{UID: uid, Served: result[i+1] == "served", Outcome: msgbus.Outcome(f[1]), Began: milliseconds(f[2]), Ended: milliseconds(result[i])}
		if p.Served {
			source, _ := strconv.ParseUint(f[3], 10, 32)
			p.Source = uint32(source)
		} else {
			p.Reason = msgbus.Reason(f[3])
			p.Stay = msgbus.Stay{Accepted: milliseconds(f[4]), Left: milliseconds(f[5])}
		}
		pasts = append(pasts, p)
	}
	return pasts, nil
}

// milliseconds reads a time; what is none, or 0, is the zero time.
func milliseconds(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
