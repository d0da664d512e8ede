package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A Station is a place on the way of a message.
type Station struct {
	At   time.Time `json:"at"` // zero: now
	What string    `json:"what"`
	Text string    `json:"text"`
}

// A Journey is all that is known of a uid here.
type Journey struct {
	UID      string               `json:"uid"`
	Request  *backlog.RequestView `json:"request"` // of this twin, which has not ended
	Open     []backlog.OpenView   `json:"open"`    // of other twins, which a service here has not answered
	Past     []backlog.Past       `json:"past"`
	Stations []Station            `json:"stations"`
}

// ReadJourney tells all that is known of a uid, or returns msgbus.ErrNotFound.
func ReadJourney(ctx context.Context, s *backlog.Store, uid string) (*Journey, error) {
	j := &Journey{UID: uid}
	view, err := s.ViewRequest(ctx, uid)
	switch {
	case err == nil:
		j.Request = &view
	case !errors.Is(err, msgbus.ErrNotFound):
		return nil, err
	}
	if j.Open, err = s.ViewOpen(ctx, uid); err != nil {
		return nil, err
	}
	if j.Past, err = s.ViewPast(ctx, uid); err != nil {
		return nil, err
	}
	if j.Request == nil && len(j.Open) == 0 && len(j.Past) == 0 {
		return nil, msgbus.ErrNotFound
	}
	return j, j.tell(ctx, s)
}

// tell says in words what is known.
func (j *Journey) tell(ctx context.Context, s *backlog.Store) error {
	add := func(at time.Time, what, format string, args ...any) {
		j.Stations = append(j.Stations, Station{at, what, fmt.Sprintf(format, args...)})
	}
	for n := len(j.Past) - 1; n >= 0; n-- {
		p := j.Past[n]
		took := "after an unknown time"
		if !p.Began.IsZero() {
			took = "after " + p.Ended.Sub(p.Began).String()
		}
		switch {
		case p.Served:
			if !p.Began.IsZero() {
				add(p.Began, "accepted", "from twin %d, for a service of this machine", p.Source)
			}
			if p.Outcome == msgbus.FailedOutcome {
				add(p.Ended, "expired", "no service of this machine had answered; the app of twin %d got an error", p.Source)
				continue
			}
			add(p.Ended, string(p.Outcome), "the service's reply left for twin %d %s", p.Source, took)
		default:
			if !p.Began.IsZero() {
				add(p.Began, "admitted", "from an app of this machine")
			}
			if at := p.Stay.Accepted; !at.IsZero() {
				add(at, "there", "the relay of the service had it, by its clock")
			}
			if at := p.Stay.Left; !at.IsZero() {
				add(at, "answered there", "the service's reply left%s, by the clock there", after(p.Stay))
			}
			add(p.Ended, string(p.Outcome), "%s; %s", took, endedBy(p))
		}
	}
	for _, o := range j.Open {
		add(o.Accepted, "accepted", "from twin %d, for the service of %s", o.Source, o.Command)
		queue, err := s.ViewQueue(ctx, o.Command, true, 1, 1)
		if err != nil {
			return err
		}
		if len(queue) > 0 {
			add(time.Time{}, "queued", "in the queue of %s, or with its service; msgbusd queue ls tells whether anybody serves it", o.Command)
		} else {
			add(time.Time{}, "taken", "by the service of %s, which has not answered", o.Command)
		}
	}
	if v := j.Request; v != nil {
		to, end := "the answer to "+v.ReturnQueue, "without an answer the app gets an error then"
		if v.ReturnQueue == "" {
			to, end = "nobody waits for an answer", "what is not delivered by then is a dead letter"
		}
		add(v.Admitted, "admitted", "%s to twin %d, %s", v.Command, v.Twin, to)
		if err := tellNow(ctx, s, v, add); err != nil {
			return err
		}
		add(v.Deadline, "deadline", "in %s: %s", Short(v.Deadline.Sub(s.Now())), end)
	}
	return nil
}

// after says how long a request was with its service.
func after(s msgbus.Stay) string {
	if s.Accepted.IsZero() {
		return ""
	}
	return " after " + s.Left.Sub(s.Accepted).String()
}

// endedBy says in words how a request ended.
func endedBy(p backlog.Past) string {
	switch p.Outcome {
	case msgbus.FailedOutcome:
		return "the app got an error of the bus: " + Because(p.Reason, "")
	case msgbus.QueueWrongType:
		return "the app's return queue was no list: the answer is a dead letter"
	case msgbus.DeliveredOutcome:
		return "its twin has it, and nobody waits for an answer"
	case msgbus.BuriedOutcome:
		return "nobody waits for an answer, so it is a dead letter: " + Because(p.Reason, "")
	case msgbus.KeptOutcome:
		return "the service had answered to the return queue itself"
	}
	return "the app got the answer"
}

// tellNow says where a request is that has not ended.
func tellNow(ctx context.Context, s *backlog.Store, v *backlog.RequestView, add func(time.Time, string, string, ...any)) error {
	lane, err := s.ViewLane(ctx, v.Twin)
	if err != nil {
		return err
	}
	why := Because(v.Reason, v.Detail)
	switch {
	case v.State == backlog.RequestSent && v.Twin == 0:
		add(time.Time{}, "queued", "with a service of this machine")
	case v.State == backlog.RequestSent:
		add(time.Time{}, "sent", "twin %d has it, and its reply is awaited; msgbusd trace %s on its machine tells more", v.Twin, v.UID)
	case lane.State == backlog.LanePaused:
		add(time.Time{}, "waiting", "the lane to twin %d is paused: msgbusd lane resume %d", v.Twin, v.Twin)
	case v.State == backlog.RequestPutOff:
		add(time.Time{}, "put off", "twin %d takes it later: %s", v.Twin, why)
	case v.Reason != "":
		add(time.Time{}, "waiting", "%s; attempt %d of its lane comes in %s, and %d more may fail", why, lane.Failures+1, Short(lane.At.Sub(s.Now())), v.TriesLeft)
	default:
		add(time.Time{}, "waiting", "for its turn on the lane to twin %d", v.Twin)
	}
	return nil
}
