package main

import "context"

// Domain is whose workers share the work, unless said otherwise.
const Domain = "default"

// A Scheduler says when a task runs: as soon as a runner has time for it. Any number of
// schedulers on one machine share the work.
type Scheduler struct {
	bus  *Bus
	work *Listener[Schedule]
}

// NewScheduler is one of the schedulers of a domain. No other has its name at the same time.
func NewScheduler(ctx context.Context, b *Bus, domain, name string) (*Scheduler, error) {
	work, err := compete[Schedule](ctx, b, ScheduleTask, domain, name)
	if err != nil {
		return nil, err
	}
	return &Scheduler{b, work}, nil
}

// Run works until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	return s.work.run(ctx, func(ctx context.Context, m Schedule) error {
		r := RunTask{TaskID: m.TaskID, TaskName: m.TaskName, Options: m.Overrides, GraphID: m.GraphID, NodeID: m.NodeID}
		return s.bus.Publish(ctx, RunATask, r, m.TaskID)
	})
}
