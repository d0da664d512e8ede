package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An Error is what a service, or the bus, answers in place of a result, for errors.As. A
// handler returns one to say more than a text.
type Error struct {
	Twin    uint32 // that answered, or that could not be asked; a handler leaves it 0
	Code    int64  // the service's own, 0 when it has none
	Class   string // what kind of error, up to 256 bytes, "" when the service does not say
	Message string
	Data    json.RawMessage // whatever else the service says, nil or JSON
}

func (e *Error) Error() string {
	if e.Twin == 0 {
		return e.Message
	}
	return fmt.Sprintf("twin %d: %s", e.Twin, e.Message)
}

// busClass begins the classes of the bus's own errors.
const busClass = "msgbus."

// Reason returns why the bus could not do what was asked, such as [msgbus.Expired], and ""
// for an error of a service, or of a relay that does not say.
func (e *Error) Reason() msgbus.Reason {
	reason, _ := strings.CutPrefix(e.Class, busClass)
	if reason == e.Class {
		return ""
	}
	return msgbus.Reason(reason)
}

// errorOf is what an app is told of an error that a handler returned: all of an *Error in
// it, but with the text of the whole. What another bus's error was to the handler is none
// of this request's.
func errorOf(err error) *Error {
	told := &Error{Message: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		told.Code, told.Class, told.Data = e.Code, e.Class, e.Data
	}
	if strings.HasPrefix(told.Class, busClass) {
		told.Class = ""
	}
	if told.Message == "" {
		told.Message = fmt.Sprintf("error without a text (%T)", err)
	}
	return told
}
