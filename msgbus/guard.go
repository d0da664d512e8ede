package msgbus

import (
	"fmt"
	"runtime/debug"
)

// A Panic is what a message did to the code that handled it: a bug, which must
// cost nobody but the message. errors.As finds a *Refusal with reason Poison in
// it.
type Panic struct {
	Value string // what the code panicked with, cut short: it may hold part of the message
	Stack []byte
}

func (p *Panic) Error() string { return "panic: " + p.Value }

// Refusal is what becomes of the message.
func (p *Panic) Refusal() *Refusal {
	return Refuse(Poison, "the relay failed at this message, which is a bug of the relay")
}

// Unwrap lets a Panic be handled as a refusal.
func (p *Panic) Unwrap() error { return p.Refusal() }

// Guard does something with one message and returns a *Panic when that panics.
func Guard(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{Value: clip(fmt.Sprint(v)), Stack: debug.Stack()}
		}
	}()
	return do()
}
