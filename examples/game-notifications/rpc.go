package main

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/client"
)

// SubmitCommand is the method of dd_app's JSON-RPC by which clients, which reach no queue
// themselves, submit messages. It takes a [Message] and answers a [Submitted].
const SubmitCommand = "dd_app.submit"

// Submitted is the answer when a queue has the message.
type Submitted struct {
	Task string `json:"task"`
}

// ClassUnauthorized is the class of the error for a token that is nobody's, and
// ClassBadMessage for a message that no queue takes.
const (
	ClassUnauthorized = "unauthorized"
	ClassBadMessage   = "bad_message"
)

// RPC is dd_app's JSON-RPC on one machine.
type RPC struct {
	Messenger *Messenger
	Tokens    *Tokens
	Workers   uint32 // the twin where the workers are
}

// Register adds its methods to a server.
func (r *RPC) Register(mux client.Mux) { client.Handle(mux, SubmitCommand, r.submit) }

func (r *RPC) submit(ctx context.Context, m Message) (Submitted, error) {
	user, ok := r.Tokens.User(m.Token)
	if !ok {
		return Submitted{}, &client.Error{Class: ClassUnauthorized, Message: "the token is nobody's"}
	}
	if err := m.Check(); err != nil {
		return Submitted{}, &client.Error{Class: ClassBadMessage, Message: err.Error()}
	}
	if m.Action != ActionCharge {
		return Submitted{}, &client.Error{Class: ClassBadMessage, Message: fmt.Sprintf("no queue takes %q", m.Action)}
	}
	task := Task{ID: taskID(client.RequestFrom(ctx)), AuthUID: user, Message: m}
	if err := r.Messenger.Send(ctx, r.Workers, task); err != nil {
		return Submitted{}, err
	}
	return Submitted{Task: task.ID}, nil
}

// taskID is the same when the request comes again, because this process crashed between
// queueing the task and answering: then there are two tasks, and one is done.
func taskID(r *client.Request) string { return fmt.Sprintf("%d/%s", r.Source, r.UID) }
