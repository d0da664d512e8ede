package main

import "sync"

// Tokens are who is logged in: the auth_uid of each auth_token. The original asks its
// database.
type Tokens struct {
	mu    sync.Mutex
	users map[string]string // by token; guarded by mu
}

// Grant notes a token of a user.
func (t *Tokens) Grant(token, authUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == nil {
		t.users = make(map[string]string)
	}
	t.users[token] = authUID
}

// User tells whose token it is.
func (t *Tokens) User(token string) (authUID string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	authUID, ok = t.users[token]
	return authUID, ok
}
