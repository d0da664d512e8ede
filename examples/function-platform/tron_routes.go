package main

import (
	"context"
	"slices"
	"time"
)

// settling is for how long a tron that has begun says nothing of routes. It cannot know
// yet who is there: a table without them would take the site off the web, while the one
// that the front ends have is still good.
func (t *Tron) settling() time.Duration { return t.opts.Times.HeartbeatEvery * 3 / 2 }

// publishRoutes tells the front ends the whole table, if it has changed.
func (t *Tron) publishRoutes(ctx context.Context) error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	t.mu.Lock()
	routes, before := t.routes(), t.table
	isSettled := !t.opened.IsZero() && time.Since(t.opened) >= t.settling()
	t.mu.Unlock()
	if !isSettled || before.MsgID != "" && slices.Equal(routes, before.Routes) {
		return nil
	}
	return t.publishTable(ctx, RouteTable{Header: newHeader(ActionRoute), Routes: routes})
}

// publishTable needs publishing.
func (t *Tron) publishTable(ctx context.Context, table RouteTable) error {
	if err := t.publish(ctx, topicRoute, table); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table, t.published = table, time.Now()
	return nil
}

// routes needs mu. Runners of one twin share a bundle's queue, so it stands there once.
func (t *Tron) routes() []Route {
	routes := []Route{}
	for _, r := range t.runners {
		for sha := range r.serve {
			b := t.bundles[sha]
			routes = append(routes, Route{Host: b.Host, Path: b.Path, Queue: Queue{r.queue.Twin, bundleQueue(sha)}})
		}
	}
	sortRoutes(routes)
	return slices.Compact(routes)
}

// ackWait is how long front ends have to say that they use a new table. A heartbeat's time
// is enough: one that needs longer is told again by remindFrontEnds.
func (t *Tron) ackWait() time.Duration { return t.opts.Times.HeartbeatEvery }

// awaitRouteAcks waits until all front ends use the latest table, or for a while.
func (t *Tron) awaitRouteAcks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.ackWait())
	defer cancel()
	for {
		t.mu.Lock()
		behind, acked := t.behind(), t.acked
		t.mu.Unlock()
		if len(behind) == 0 {
			return
		}
		select {
		case <-acked:
		case <-ctx.Done():
			t.say("goes on without an ack of the routes by %v", behind)
			return
		}
	}
}

// behind is the front ends that have not acknowledged the latest table. It needs mu.
func (t *Tron) behind() (queues []Queue) {
	if t.table.MsgID == "" {
		return nil
	}
	for _, f := range t.frontEnds {
		if f.table != t.table.MsgID {
			queues = append(queues, f.queue)
		}
	}
	return queues
}

// remindFrontEnds publishes the table once more when a front end has not acknowledged it
// in time: events are lost while a Redis is away.
func (t *Tron) remindFrontEnds(ctx context.Context) error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	t.mu.Lock()
	behind, table := t.behind(), t.table
	isDue := time.Since(t.published) >= t.ackWait()
	t.mu.Unlock()
	if len(behind) == 0 || !isDue {
		return nil
	}
	t.say("no ack of the routes by %v; publishing them again", behind)
	return t.publishTable(ctx, table)
}
