package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/msgbusd/msgbusd/client"
)

// A Raisable is an error that crosses the wire as itself. Its exported fields are its
// state.
type Raisable interface {
	error
	// Exception names its class and what the exception was made with.
	Exception() (module, class string, args []any)
}

// Exceptions are the errors that a caller knows, by `module.class`: each makes an empty one
// of its type, a pointer, into which the state is decoded.
type Exceptions map[string]func() error

// A RemoteException is an error whose class the caller does not know.
type RemoteException struct {
	Agent uint32
	Exception
}

func (e *RemoteException) Error() string {
	return fmt.Sprintf("%s at agent %d: %s", e.name(), e.Agent, e.ExVal)
}

// name is `module.class`.
func (x *Exception) name() string {
	if x.XModule == "" {
		return x.XClass
	}
	return x.XModule + "." + x.XClass
}

// Bounds of an exception: the bus carries 64 KiB beside the data of a reply, and the text
// twice.
const (
	maxExVal  = 2 << 10
	maxXState = 16 << 10 // of the state, and of the arguments: longer ones are left out
)

// exceptionOf makes the exception of an error. Other than the document's it has no trace: that is for
// the agent's log, and no business of whoever calls.
func exceptionOf(err error) Exception {
	x := Exception{ExVal: clip(err.Error(), maxExVal), XState: json.RawMessage("{}"), XArgs: json.RawMessage("[]")}
	var r Raisable
	if !errors.As(err, &r) {
		t := reflect.TypeOf(err)
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		x.XModule, x.XClass = t.PkgPath(), t.Name()
		return x
	}
	var args []any
	x.XModule, x.XClass, args = r.Exception()
	if state, err := json.Marshal(r); err == nil && len(state) <= maxXState {
		x.XState = state
	}
	if args, err := json.Marshal(args); err == nil && len(args) <= maxXState {
		x.XArgs = args
	}
	return x
}

// clip cuts a text to a number of bytes, and no character in two.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// failure is the exception as the bus carries it.
func (x *Exception) failure() *client.Error {
	data, _ := json.Marshal(x) // of texts and valid JSON
	return &client.Error{Class: x.name(), Message: x.ExVal, Data: data}
}

// raise is the reverse: the error that the agent's method has ended with, or a
// [*RemoteException].
func (known Exceptions) raise(e *client.Error) error {
	remote := &RemoteException{Agent: e.Twin}
	if json.Unmarshal(e.Data, &remote.Exception) != nil || remote.XClass == "" {
		// No agent of ours, or a method that panicked.
		remote.Exception = Exception{XClass: e.Class, ExVal: e.Message}
	}
	empty := known[remote.name()]
	if empty == nil {
		return remote
	}
	raised := empty()
	if json.Unmarshal(remote.XState, raised) != nil {
		return remote
	}
	return raised
}
