package backlog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

const (
	// transferKeyOffered is how long a key pair is the one that peers are offered.
	transferKeyOffered = 6 * time.Hour
	// transferKeyKept is how much longer it is kept for what peers have sealed. It
	// is more than the life of an offer.
	transferKeyKept = 24 * time.Hour
	// transferKeyPlaces is how many times to offer a key there are from when one is
	// made until it is gone, the one that has begun among them.
	transferKeyPlaces = int((transferKeyOffered+transferKeyKept)/transferKeyOffered) + 1

	transferKeySize   = 32 // bytes: of X25519, for which any are good
	transferKeyIDSize = 8  // bytes, which is 16 digits of hex
)

// TransferKeys returns the private keys that transfers to this twin may be sealed
// for, by id, and the id of the one to offer to peers. They are X25519's, of 32
// bytes, and the same for all relays of the twin. Each is offered for 6 hours
// after it was made, and gone from Redis 24 hours later by Redis's clock, whether
// or not a relay runs.
//
// Whoever has Redis, a copy of its files or a backup has them, for as long as
// that is kept.
func (s *Store) TransferKeys(ctx context.Context) (private map[string][]byte, offered string, err error) {
	places := make([]string, transferKeyPlaces)
	for i := range places {
		places[i] = s.keys.transferKey(i)
	}
	result, err := s.run(ctx, s.scripts.transferKeys, places,
		randomHex(transferKeyIDSize), randomHex(transferKeySize),
		transferKeyOffered.Milliseconds(), transferKeyKept.Milliseconds()).StringSlice()
	if err != nil {
		return nil, "", fmt.Errorf("load the transfer keys: %w", err)
	}
	if len(result) < 3 || len(result)%2 == 0 {
		return nil, "", fmt.Errorf("load the transfer keys: %d elements in a script's answer", len(result))
	}
	private = make(map[string][]byte, len(result)/2)
	for i := 1; i < len(result); i += 2 {
		// The error of hex names a digit, which is nobody's business.
		if private[result[i]], err = hex.DecodeString(result[i+1]); err != nil {
			return nil, "", fmt.Errorf("load the transfer keys: one is no hex")
		}
	}
	return private, result[0], nil
}

// randomHex returns random bytes, in hex.
func randomHex(size int) string {
	b := make([]byte, size)
	_, _ = rand.Read(b) // crypto/rand.Read never fails: it ends the program instead
	return hex.EncodeToString(b)
}
