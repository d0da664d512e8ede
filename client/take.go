package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// takeAll takes the requests of a command until ctx ends, one ahead of the workers.
func (v *session) takeAll(ctx context.Context, cmd string) {
	var trouble backoff
	for v.lease.await(ctx) {
		if v.mayHaveStrays() {
			v.takeStrays(ctx, cmd)
		}
		raw, err := v.consumer.take(cmd)
		switch {
		case err == nil:
			v.takeOn(ctx, cmd, raw)
		case !errors.Is(err, redis.Nil):
			v.expectStrays()
			wait := trouble.next()
			v.log.Warn("requests cannot be taken; trying again", "cmd", cmd, "err", err, "in", wait)
			pause(ctx, wait)
			continue
		}
		if trouble.reset() {
			v.log.Info("requests can be taken again", "cmd", cmd)
		}
	}
}

// expectStrays is for a take whose connection broke: Redis may have moved a request, or
// move one yet, of which nobody here knows.
func (v *session) expectStrays() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.astray = time.Now().Add(2 * takeBlock)
}

// mayHaveStrays goes on for a while after strays are expected, and then once more.
func (v *session) mayHaveStrays() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Since(v.astray) < 2*takeBlock
}

func (v *session) takeStrays(ctx context.Context, cmd string) {
	v.mu.Lock()
	known := maps.Clone(v.inHand) // before the list is read: a worker may be done meanwhile
	v.mu.Unlock()
	held, err := v.consumer.held(cmd)
	if err != nil {
		v.expectStrays()
		return
	}
	for _, raw := range held {
		if known[raw]--; known[raw] < 0 {
			v.takeOn(ctx, cmd, raw)
		}
	}
}

// takeOn gives a request that was taken to a worker, or drops it when it is none. If ctx
// ends first, it stays on the list and is given back.
func (v *session) takeOn(ctx context.Context, cmd, raw string) {
	v.hold(raw, 1)
	r, err := v.read(raw)
	if err != nil {
		v.log.Warn("dropped a request", "cmd", cmd, "err", err)
		v.finish(raw, func() error { return v.consumer.drop(cmd, raw) })
		return
	}
	v.tell(r, statusAccepted)
	select {
	case v.slots <- struct{}{}:
		v.workers.Go(func() {
			defer func() { <-v.slots }()
			v.serveOne(cmd, raw, r)
		})
	case <-ctx.Done():
		v.hold(raw, -1)
	}
}

// read makes a request of what was taken, if anybody wants it done.
func (v *session) read(raw string) (*Request, error) {
	in, err := parseRequest([]byte(raw))
	if err != nil {
		return nil, err
	}
	r, err := newRequest(in)
	if err != nil {
		return nil, err
	}
	r.now, r.say = v.lease.now, v.push
	r.Deadline = v.lease.here(r.Deadline)
	if late := time.Since(r.Deadline); late > 0 {
		return nil, fmt.Errorf("request %s of twin %d ended %v ago", r.UID, r.Source, late.Round(time.Second))
	}
	return r, nil
}

func (v *session) push(ctx context.Context, list string, message []byte) error {
	return v.c.rdb.RPush(ctx, list, message).Err()
}

// tell says where a request is. It is only news: an error is no reason to stop.
func (v *session) tell(r *Request, word string) {
	ctx, cancel := context.WithTimeout(v.work, callTimeout)
	defer cancel()
	if err := r.Status(ctx, word, []byte(nil)); err != nil {
		v.log.Debug("an interim reply is lost", "msg_id", r.UID, "twin", r.Source, "err", err)
	}
}

// serveOne has a request handled and sees to it that the answer is in Redis.
func (v *session) serveOne(cmd, raw string, r *Request) {
	v.tell(r, statusStarted)
	ctx, cancel := context.WithDeadline(v.work, r.Deadline)
	ctx, returned := v.unwanted.begin(ctx, r)
	data, err := handle(ctx, v.handlers[cmd], r)
	isCancelled := err != nil && errors.Is(context.Cause(ctx), ErrCancelled)
	returned()
	cancel()
	v.report(r, err)
	if v.isUnfinished(err) {
		v.hold(raw, -1)
		return
	}
	if r.Oneway {
		v.finish(raw, func() error { return v.consumer.drop(cmd, raw) })
		return
	}
	var failure *Error
	switch {
	case isCancelled:
		failure = &Error{Class: classCancelled, Message: "the app has cancelled the request"}
	case err != nil:
		failure = failureOfHandler(err)
	}
	reply := r.answer(data, failure)
	v.finish(raw, func() error {
		if r.in.ret == "" || time.Since(r.Deadline) > 0 {
			return v.consumer.drop(cmd, raw) // nobody gets the answer
		}
		return v.consumer.answer(cmd, raw, r.in.ret, reply)
	})
}

// isUnfinished tells whether a request is given back, whatever its handler has returned: it was
// not let finish, or has returned when others may have the request.
func (v *session) isUnfinished(err error) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone || err != nil && v.work.Err() != nil
}

// report logs what only the service can mend.
func (v *session) report(r *Request, err error) {
	var panicked *msgbus.Panic
	switch {
	case errors.As(err, &panicked):
		v.log.Error("a handler panicked", "cmd", r.Command, "msg_id", r.UID, "twin", r.Source, "panic", panicked.Value, "stack", string(panicked.Stack))
	case err != nil && r.Oneway:
		v.log.Warn("a one-way request failed", "cmd", r.Command, "msg_id", r.UID, "twin", r.Source, "err", err)
	}
}

// finish tries until a request is off the list, or the server must stop.
func (v *session) finish(raw string, do func() error) {
	defer v.hold(raw, -1)
	var trouble backoff
	for {
		err := do()
		var refused errUnpushed
		switch {
		case err == nil:
			return
		case errors.As(err, &refused):
			v.log.Error("an answer cannot be pushed", "err", err)
			return
		case v.work.Err() != nil:
			v.log.Error("an answer could not be pushed; its request is done again", "err", err)
			return
		}
		wait := trouble.next()
		v.log.Warn("an answer cannot be pushed; trying again", "err", err, "in", wait)
		pause(v.work, wait)
	}
}

// hold counts a request that is, or is no longer, in somebody's hands here.
func (v *session) hold(raw string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.inHand[raw] += n; v.inHand[raw] <= 0 {
		delete(v.inHand, raw)
	}
}
