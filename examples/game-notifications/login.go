package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

// A Login is when a session of a user began. It says so of itself when it takes the user's
// name on the bus, and so do browsers' sessions at the gateway.
type Login struct {
	Session string `json:"session"` // no other has it
	Since   int64  `json:"since"`   // unix ms
}

// isOlder orders the sessions of a user, the same way on each machine, so that of two that
// hear of each other one is left: in the original both close. Two that begin closer together
// than the clocks of their machines agree are ordered by the clocks.
func (l Login) isOlder(than Login) bool {
	return cmp.Or(cmp.Compare(l.Since, than.Since), cmp.Compare(l.Session, than.Session)) < 0
}

// parseLogin reads what is said of a user's name.
func parseLogin(raw []byte) (l Login, err error) {
	if err = json.Unmarshal(raw, &l); err == nil && l.Session == "" {
		err = errors.New("it names no session")
	}
	if err != nil {
		return Login{}, fmt.Errorf("read who has logged in: %w", err)
	}
	return l, nil
}
