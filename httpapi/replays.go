package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// used knows which transfers' signatures were used here lately. Somebody who has
// recorded the header fields of one can send them again, a hundred times and with
// no body after them: that must take no place from the twin that signed them, none
// of its rate, and prove nothing of the address that it comes from.
//
// It is no promise: a restart forgets it, and so does who has a twin sign a
// thousand transfers a second. Redis knows for certain which messages were taken.
// To refuse instead of forgetting would let one twin end the service for all.
type used struct {
	mu            sync.Mutex // guards what follows
	recent, older map[signatureDigest]struct{}
	since         time.Time // when recent was begun
}

// A signatureDigest stands for a signature, of which there is one spelling.
type signatureDigest [16]byte

func digestOf(signature []byte) signatureDigest {
	sum := sha256.Sum256(signature)
	return signatureDigest(sum[:16])
}

func (d signatureDigest) String() string { return hex.EncodeToString(d[:]) }

const (
	// usedMost bounds the signatures that are remembered: about 8 MB.
	usedMost = 1 << 18
	// usedFor is how long one is remembered at least: it may be signed for a minute
	// from now, is good for another, and clocks are compared in whole seconds.
	usedFor = 2*msgbus.MaxSkew + time.Second
)

func newUsed() *used { return &used{recent: make(map[signatureDigest]struct{})} }

// once returns nil for a signature that it has not seen, and a *msgbus.Refusal
// with the reason Replayed after that.
func (u *used) once(d signatureDigest, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.since) > usedFor || len(u.recent) >= usedMost/2 {
		u.recent, u.older = make(map[signatureDigest]struct{}), u.recent
		u.since = now
	}
	_, is := u.recent[d]
	if _, was := u.older[d]; is || was {
		return msgbus.Refuse(msgbus.Replayed, "this transfer was sent here before; sign a new one")
	}
	u.recent[d] = struct{}{}
	return nil
}
