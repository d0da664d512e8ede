package twin

import (
	"errors"
	"fmt"

	"github.com/vedhavyas/go-subkey/v2"
)

// ErrAccount is wrapped by every error of [ParseAccount].
var ErrAccount = errors.New("not an account")

// PublicKey is the 32 bytes that an account stands for: an sr25519 or an
// ed25519 key. Which of the two, only a signature tells.
type PublicKey [32]byte

// The network that SS58 accounts of twins carry: 42, "any substrate chain".
// Accounts of it are 47 or 48 characters long, and so is anything that is worth
// decoding: go-subkey's decoder panics on some inputs of a few characters.
const (
	accountNetwork  = 42
	accountLenMin   = 47
	accountLenMax   = 48
	publicKeyLength = len(PublicKey{})
)

// ParseAccount returns the key that an SS58 account of network 42 (5…) stands
// for. What it accepts is exactly what [PublicKey.Account] writes; anything else
// is an error that wraps [ErrAccount].
func ParseAccount(ss58 string) (PublicKey, error) {
	if n := len(ss58); n < accountLenMin || n > accountLenMax {
		return PublicKey{}, fmt.Errorf("%w: %d characters, an account has %d or %d", ErrAccount, n, accountLenMin, accountLenMax)
	}
	network, raw, err := subkey.SS58Decode(ss58)
	switch {
	case err != nil:
		return PublicKey{}, fmt.Errorf("%w: bad characters or checksum", ErrAccount)
	case network != accountNetwork:
		return PublicKey{}, fmt.Errorf("%w of network %d: it belongs to network %d", ErrAccount, accountNetwork, network)
	case len(raw) != publicKeyLength:
		return PublicKey{}, fmt.Errorf("%w: it stands for %d bytes, a key has %d", ErrAccount, len(raw), publicKeyLength)
	}
	key := PublicKey(raw)
	// One account, one spelling: accounts are compared as text elsewhere.
	if key.Account() != ss58 {
		return PublicKey{}, fmt.Errorf("%w: not in the usual spelling", ErrAccount)
	}
	return key, nil
}

// Account returns the SS58 form of the key for network 42, such as
// 5EFsy5c74SbTa7yWs9TjRKEEfrHSYq4TDYXuPGThdKsonsFp.
func (k PublicKey) Account() string { return subkey.SS58Encode(k[:], accountNetwork) }

// String returns the account, so that keys can be read in logs.
func (k PublicKey) String() string { return k.Account() }
