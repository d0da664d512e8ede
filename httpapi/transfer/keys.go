package transfer

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Keys are the key pairs that transfers to a twin may be sealed for. All relays
// of the twin share them.
type Keys interface {
	// TransferKeys returns the private keys of X25519 by id, and the id of the one
	// to offer. It makes a new one from time to time, and forgets each one when
	// nothing can be sealed for it any more: what was recorded is not to be opened
	// later.
	TransferKeys(ctx context.Context) (private map[string][]byte, offered string, err error)
}

const (
	// lookEvery is how old what a relay knows of the keys may get.
	lookEvery = time.Minute
	// lookAtMost is how often it looks, whoever sends what for unknown keys.
	lookAtMost = time.Second
	// lookTimeout bounds a look that many wait for.
	lookTimeout = 5 * time.Second
	// forgetAfter is how long keys are remembered without a look: while Redis is
	// away, or when nothing comes in.
	forgetAfter = 10 * time.Minute
)

// A keyring remembers the keys of a twin.
type keyring struct {
	keys  Keys
	now   func() time.Time
	looks singleflight.Group

	mu     sync.Mutex // guards what follows
	known  *keySet    // nil before the first look, and when it is forgotten
	tried  time.Time  // the last look
	forget *time.Timer
}

// A keySet is what a look has found. It does not change.
type keySet struct {
	private map[string]hpke.PrivateKey
	offered string
	at      time.Time
}

// find returns a private key, and looks at Redis for one that it does not know:
// another relay may have made it. The error is ErrUnknownKey, or Redis's.
func (r *keyring) find(ctx context.Context, id string) (hpke.PrivateKey, error) {
	set, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	if key, ok := set.private[id]; ok {
		return key, nil
	}
	if set, err = r.look(ctx); err != nil {
		return nil, err
	}
	if key, ok := set.private[id]; ok {
		return key, nil
	}
	return nil, ErrUnknownKey
}

// current returns what was known a minute ago at most, or while Redis is away
// forgetAfter ago.
func (r *keyring) current(ctx context.Context) (*keySet, error) {
	set, _ := r.state()
	if set != nil && !due(set.at, r.now(), lookEvery) {
		return set, nil
	}
	fresh, err := r.look(ctx)
	if err != nil && set != nil {
		return set, nil
	}
	return fresh, err
}

func (r *keyring) state() (*keySet, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known, r.tried
}

// look asks Redis, once for all who wait, unless that was done a moment ago.
func (r *keyring) look(ctx context.Context) (*keySet, error) {
	found := r.looks.DoChan("", func() (any, error) {
		set, tried := r.state()
		if set != nil && !due(tried, r.now(), lookAtMost) {
			return set, nil
		}
		return r.load(context.WithoutCancel(ctx))
	})
	select {
	case f := <-found:
		set, _ := f.Val.(*keySet)
		return set, f.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("load the transfer keys: %w", ctx.Err())
	}
}

func (r *keyring) load(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	r.mu.Lock()
	r.tried = r.now()
	r.mu.Unlock()
	private, offered, err := r.keys.TransferKeys(ctx)
	if err != nil {
		return nil, err
	}
	set, err := newKeySet(private, offered)
	if err != nil {
		return nil, err
	}
	set.at = r.now()
	r.remember(set)
	return set, nil
}

func newKeySet(private map[string][]byte, offered string) (*keySet, error) {
	set := &keySet{private: make(map[string]hpke.PrivateKey, len(private)), offered: offered}
	for id, text := range private {
		key, err := kem().NewPrivateKey(text)
		if err != nil {
			return nil, errors.New("a transfer key is none of X25519")
		}
		set.private[id] = key
	}
	if set.private[offered] == nil {
		return nil, errors.New("no transfer key is to be offered")
	}
	return set, nil
}

func (r *keyring) remember(set *keySet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = set
	if r.forget != nil {
		r.forget.Stop()
	}
	r.forget = time.AfterFunc(forgetAfter, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.known == set {
			r.known = nil
		}
	})
}
