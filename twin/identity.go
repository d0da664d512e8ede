package twin

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cosmos/go-bip39"
	voied25519 "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	voisr25519 "github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
	"github.com/vedhavyas/go-subkey/v2"
	subed25519 "github.com/vedhavyas/go-subkey/v2/ed25519"
	subsr25519 "github.com/vedhavyas/go-subkey/v2/sr25519"
)

// ErrSecret is wrapped by every error of [NewIdentity] about the secret itself.
// Such an error says what is wrong and where, and never repeats any of it.
var ErrSecret = errors.New("bad secret")

// KeyType is a signature scheme, written as the byte that stands before a
// signature on the wire.
type KeyType byte

// The schemes that twins use.
const (
	SR25519 KeyType = 's'
	ED25519 KeyType = 'e'
)

// ParseKeyType reads "sr25519" or "ed25519".
func ParseKeyType(name string) (KeyType, error) {
	for _, kt := range []KeyType{SR25519, ED25519} {
		if name == kt.String() {
			return kt, nil
		}
	}
	return 0, fmt.Errorf("unknown key type %q: known are sr25519 and ed25519", name)
}

// String returns "sr25519" or "ed25519".
func (kt KeyType) String() string {
	switch kt {
	case SR25519:
		return "sr25519"
	case ED25519:
		return "ed25519"
	default:
		return fmt.Sprintf("KeyType(%d)", byte(kt))
	}
}

// An Identity signs for one twin. It is safe for concurrent use, and it prints
// as its account whatever the verb.
type Identity struct {
	keyType KeyType
	public  PublicKey
	account string
	// sign makes the 64 bytes after the type byte. The key lives in its closure
	// only: fmt and debuggers' dumps of the struct show a function's address.
	sign func(message []byte) ([]byte, error)
}

// NewIdentity derives an identity from a secret, which is one of
//
//   - a BIP39 phrase of 12 to 24 English words: "neck stage box …"
//   - a substrate secret URI: a phrase, then junctions, /soft or //hard, then
//     ///password; without a phrase (//Alice) it is the public development one
//   - a seed of 32 bytes as hex with 0x before it, which may have junctions too
//
// White space around the secret is ignored, so that the content of a file can be
// passed as it is. ed25519 knows hard junctions only. Derivation takes some
// milliseconds (PBKDF2): do it once. Errors about the secret wrap [ErrSecret].
func NewIdentity(secret string, kt KeyType) (*Identity, error) {
	scheme, err := kt.scheme()
	if err != nil {
		return nil, err
	}
	uri, err := checkSecret(secret, kt)
	if err != nil {
		return nil, err
	}
	pair, err := subkey.DeriveKeyPair(scheme, uri)
	if err != nil {
		// The library's error may quote the secret, so it ends here.
		return nil, fmt.Errorf("%w: no %s key can be derived from it", ErrSecret, kt)
	}
	public := PublicKey(pair.Public())
	sign, err := signer(pair, kt)
	if err != nil {
		return nil, err
	}
	return &Identity{keyType: kt, public: public, account: public.Account(), sign: sign}, nil
}

// Generate makes a new random identity and the 12-word phrase (128 bits) that
// [NewIdentity] derives it from again.
func Generate(kt KeyType) (phrase string, id *Identity, err error) {
	entropy, err := bip39.NewEntropy(128)
	if err != nil {
		return "", nil, fmt.Errorf("read random bytes: %w", err)
	}
	phrase, err = bip39.NewMnemonic(entropy)
	if err != nil {
		return "", nil, errors.New("make a phrase of random bytes")
	}
	id, err = NewIdentity(phrase, kt)
	if err != nil {
		return "", nil, err
	}
	return phrase, id, nil
}

// PublicKey returns the key that others verify with.
func (id *Identity) PublicKey() PublicKey { return id.public }

// Account returns the SS58 form of the public key, network 42.
func (id *Identity) Account() string { return id.account }

// KeyType returns the scheme that Sign uses.
func (id *Identity) KeyType() KeyType { return id.keyType }

// Sign returns 65 bytes: the key type's byte, 'e' or 's', and the signature of
// the message (sr25519: in the signing context "substrate", and different each
// time). It panics if the system has no random bytes, as crypto/rand does.
func (id *Identity) Sign(message []byte) []byte {
	sig, err := id.sign(message)
	if err != nil {
		panic(fmt.Sprintf("twin: sign with %s: %v", id.keyType, err))
	}
	return append([]byte{byte(id.keyType)}, sig...)
}

// String returns the account.
func (id *Identity) String() string { return id.account }

// Format prints the account for every verb, %#v included.
func (id *Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, id.account) }

func (kt KeyType) scheme() (subkey.Scheme, error) {
	switch kt {
	case SR25519:
		return subsr25519.Scheme{}, nil
	case ED25519:
		return subed25519.Scheme{}, nil
	default:
		return nil, fmt.Errorf("unknown key type %s: known are sr25519 and ed25519", kt)
	}
}

// signer returns the fastest way to sign with a derived pair: voi is three times
// as fast as go-subkey, and starts from a seed. After a soft junction there is
// no seed, only the expanded key that go-subkey keeps to itself.
func signer(pair subkey.KeyPair, kt KeyType) (func([]byte) ([]byte, error), error) {
	seed := pair.Seed()
	if seed == nil {
		return pair.Sign, nil
	}
	if kt == ED25519 {
		key := voied25519.NewKeyFromSeed(seed)
		return func(message []byte) ([]byte, error) { return voied25519.Sign(key, message), nil }, nil
	}
	mini, err := voisr25519.NewMiniSecretKeyFromBytes(seed)
	if err != nil {
		return nil, fmt.Errorf("%w: its seed has %d bytes", ErrSecret, len(seed))
	}
	key := mini.ExpandEd25519().KeyPair()
	return func(message []byte) ([]byte, error) {
		sig, err := key.Sign(nil, substrate.NewTranscriptBytes(message))
		if err != nil {
			return nil, err
		}
		return sig.MarshalBinary()
	}, nil
}

// checkSecret returns the secret as go-subkey wants it, or says what is wrong
// with it. go-subkey alone would take an empty secret for the development phrase
// that everybody knows, any hex for a seed (and panic on its length), and two
// blanks between words for a word.
func checkSecret(secret string, kt KeyType) (uri string, err error) {
	secret = strings.TrimSpace(secret)
	if secret == "" {
		return "", fmt.Errorf("%w: it is empty", ErrSecret)
	}
	root, rest := secret, ""
	if i := strings.IndexByte(secret, '/'); i >= 0 {
		root, rest = secret[:i], secret[i:]
	}
	if kt == ED25519 && hasSoftJunction(rest) {
		return "", fmt.Errorf("%w: ed25519 has no soft junctions, only hard ones (//name)", ErrSecret)
	}
	if root == "" {
		return rest, nil
	}
	if digits, isHex := strings.CutPrefix(root, "0x"); isHex {
		digits = strings.TrimSpace(digits)
		seed, err := hex.DecodeString(digits)
		if err != nil || len(seed) != 32 {
			return "", fmt.Errorf("%w: after 0x there must be 64 hex digits", ErrSecret)
		}
		return "0x" + digits + rest, nil
	}
	words := strings.Fields(root)
	if err := checkPhrase(words); err != nil {
		return "", err
	}
	return strings.Join(words, " ") + rest, nil
}

func checkPhrase(words []string) error {
	if n := len(words); n < 12 || n > 24 || n%3 != 0 {
		return fmt.Errorf("%w: a phrase has 12, 15, 18, 21 or 24 words, this has %d (a seed begins with 0x)", ErrSecret, n)
	}
	for i, word := range words {
		if _, known := bip39.ReverseWordMap[word]; !known {
			return fmt.Errorf("%w: word %d is not an English BIP39 word in lower case", ErrSecret, i+1)
		}
	}
	if _, err := bip39.MnemonicToByteArray(strings.Join(words, " ")); err != nil {
		return fmt.Errorf("%w: the words are BIP39, but their checksum is wrong; is their order right?", ErrSecret)
	}
	return nil
}

// hasSoftJunction reports a single slash in the path before any ///password.
func hasSoftJunction(rest string) bool {
	path, _, _ := strings.Cut(rest, "///")
	return strings.Contains(strings.ReplaceAll(path, "//", ""), "/")
}
