package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Enable has all runners serve a bundle, and tells all of it. It returns when each runner
// that is there has acknowledged it; runners that come later are told when they awake. An
// error tells of those that could not; the bundle is enabled all the same.
func (t *Tron) Enable(ctx context.Context, b Bundle) error {
	t.mu.Lock()
	t.bundles[b.SHA] = b
	runners := slices.Collect(maps.Values(t.runners))
	t.mu.Unlock()
	return errors.Join(t.publishBundles(ctx), each(runners, func(r *runner) error { return t.enableOn(ctx, r, b) }))
}

// Disable has no runner serve a bundle any more. First the routes go, and only when the
// front ends have acknowledged that, the runners are told: no request comes to a queue
// that nobody serves. It returns when each runner has acknowledged it, which one does when
// it works on no request of the bundle any more.
func (t *Tron) Disable(ctx context.Context, sha string) error {
	t.mu.Lock()
	delete(t.bundles, sha)
	runners := slices.Collect(maps.Values(t.runners))
	for _, r := range runners {
		delete(r.serve, sha)
	}
	t.mu.Unlock()
	if err := errors.Join(t.publishBundles(ctx), t.publishRoutes(ctx)); err != nil {
		return err
	}
	t.awaitRouteAcks(ctx)
	return each(runners, func(r *runner) error { return t.disableOn(ctx, r, sha) })
}

// each does something with all runners at once.
func each(runners []*runner, do func(*runner) error) error {
	errs := make([]error, len(runners))
	var all sync.WaitGroup
	for i, r := range runners {
		all.Go(func() { errs[i] = do(r) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// enableAll returns what tells a runner that is awake all that it is to serve.
func (t *Tron) enableAll(r *runner) func() {
	return func() {
		for _, b := range t.enabled() {
			if err := t.enableOn(r.live, r, b); err != nil && r.live.Err() == nil {
				t.say("%v", err)
			}
		}
	}
}

func (t *Tron) enableOn(ctx context.Context, r *runner, b Bundle) error {
	h := newHeader(ActionEnable)
	err := t.order(ctx, r, h, Enable{Header: h, From: t.id, TronHost: t.opts.Host, Props: map[string]string{"host": b.Host, "path": b.Path}, SHA: b.SHA})
	if err != nil {
		return err
	}
	if !t.bind(r, b.SHA) {
		return t.disableOn(ctx, r, b.SHA) // it was disabled meanwhile, and this one may not know
	}
	return t.publishRoutes(ctx)
}

func (t *Tron) disableOn(ctx context.Context, r *runner, sha string) error {
	h := newHeader(ActionDisable)
	return t.order(ctx, r, h, Disable{Header: h, From: t.id, TronHost: t.opts.Host, SHA: sha})
}

// bind notes that a runner serves a bundle, and reports false when it should not.
func (t *Tron) bind(r *runner, sha string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, isEnabled := t.bundles[sha]; !isEnabled {
		return false
	}
	r.serve[sha] = struct{}{}
	return true
}

// order tells a runner to do something and waits for its ack, which must name the order.
// It ends when the runner does.
func (t *Tron) order(ctx context.Context, r *runner, h Header, message any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.live, cancel)()
	raw, err := ask(ctx, t.bus, r.queue, message, t.opts.Times.StaleAfter)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", h.Action, r.queue, err)
	}
	t.opts.Story.Saw(Message{To: tronQueue, From: r.queue.Twin, Raw: raw})
	ack, err := parse[Ack](raw, ActionAck)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", h.Action, r.queue, err)
	}
	if ack.AckID != h.MsgID || ack.From != r.id {
		return fmt.Errorf("%s on %s: %s of %s acknowledges something else: %s", h.Action, r.queue, ack.Action, ack.From, ack.AckID)
	}
	return nil
}

// enabled is all bundles, in the order of their names.
func (t *Tron) enabled() []Bundle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.bundles), func(a, b Bundle) int { return cmp.Compare(a.SHA, b.SHA) })
}

func (t *Tron) publishBundles(ctx context.Context) error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	all := AllBundles{Header: newHeader(ActionAllBundles), TronHost: t.opts.Host, Bundles: append([]Bundle{}, t.enabled()...)}
	return t.publish(ctx, topicAllBundles, all)
}
