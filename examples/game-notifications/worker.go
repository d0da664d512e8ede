package main

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/client"
)

// TaskQueue is the queue of the workers of a twin. Each task goes to one of them.
const TaskQueue = "dd_app.tasks"

// A Task is what stands in the queue.
type Task struct {
	ID      string  `json:"id"`
	AuthUID string  `json:"auth_uid"` // whose it is, as the token said
	Message Message `json:"message"`
}

// A Worker does what the original has celery do: it charges nodes, and tells their owner.
type Worker struct {
	Messenger *Messenger
	Game      *Game
}

// Register has the worker take tasks of a server.
func (w *Worker) Register(mux client.Mux) { client.Handle(mux, TaskQueue, w.work) }

// work may be called again with a task that it has done, when this process crashed before
// the queue knew. Then the game is left alone and the owner told once more, with the same
// words: clients can stand that, and a message that was lost with the crash is made up for.
func (w *Worker) work(ctx context.Context, t Task) (any, error) {
	charged, err := w.Game.Charge(t)
	if err != nil {
		return nil, err
	}
	if err := w.tell(ctx, t, ActionNodeReady, charged.Ready); err != nil {
		return nil, err
	}
	return nil, w.tell(ctx, t, ActionNewItems, charged.Items)
}

// tell publishes to the owner of a task. That the owner is away is no error.
func (w *Worker) tell(ctx context.Context, t Task, action string, data any) error {
	m, err := NewMessage(action, data)
	if err != nil {
		return err
	}
	m.Token = t.Message.Token
	if err := w.Messenger.Publish(ctx, UserChannel(t.AuthUID), m); err != nil {
		return fmt.Errorf("tell the owner of task %s: %w", t.ID, err)
	}
	return nil
}
