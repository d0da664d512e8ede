package twin

import (
	"errors"
	"fmt"

	"github.com/maypok86/otter/v2"
	voied25519 "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	voisr25519 "github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
)

// ErrSignature is wrapped by every error of [Verify].
var ErrSignature = errors.New("bad signature")

// SignatureLength is the length of a signature in bytes: the key type's byte,
// then the 64 bytes of the scheme.
const SignatureLength = 65

var (
	// substrate is the signing context of every sr25519 signature on the network.
	// It is never written to: each transcript is a copy of it.
	substrate = voisr25519.NewSigningContext([]byte("substrate"))

	// strict is voi's strictest reading of ed25519: canonical encodings only, and
	// neither a key nor an R of small order. A key of small order has signatures
	// that fit any message, and anybody can make them.
	strict = &voied25519.Options{Verify: &voied25519.VerifyOptions{}}
)

// Verify checks that the owner of pub signed the message. The signature is
// exactly 65 bytes, as [Identity.Sign] makes them, and its first byte says which
// scheme pub is a key of. Every error wraps [ErrSignature]: it says which check
// failed, which is of use to operators and of none to a forger.
func Verify(pub PublicKey, message, signature []byte) error {
	return new(verifier).verify(pub, message, signature)
}

// A verifier remembers keys as they are needed to verify with: to read one takes a
// fifth of the time of a verification. Without caches it remembers none.
type verifier struct {
	sr25519 *otter.Cache[PublicKey, *voisr25519.PublicKey]
	ed25519 *otter.Cache[PublicKey, *voied25519.ExpandedPublicKey]
}

// keysMost is how many keys of either scheme are remembered, of about 200 and 1,500
// bytes: of the twins that are dealt with most.
const keysMost = 1000

func newVerifier() *verifier {
	return &verifier{
		sr25519: otter.Must(&otter.Options[PublicKey, *voisr25519.PublicKey]{MaximumSize: keysMost}),
		ed25519: otter.Must(&otter.Options[PublicKey, *voied25519.ExpandedPublicKey]{MaximumSize: keysMost}),
	}
}

// remembered returns a key from a cache, or reads it.
func remembered[K any](cache *otter.Cache[PublicKey, K], pub PublicKey, read func() (K, error)) (K, error) {
	if cache == nil {
		return read()
	}
	if key, found := cache.GetIfPresent(pub); found {
		return key, nil
	}
	key, err := read()
	if err == nil {
		cache.Set(pub, key)
	}
	return key, err
}

func (v *verifier) verify(pub PublicKey, message, signature []byte) error {
	if len(signature) != SignatureLength {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSignature, len(signature), SignatureLength)
	}
	kt, raw := KeyType(signature[0]), signature[1:]
	switch kt {
	case ED25519:
		key, err := remembered(v.ed25519, pub, func() (*voied25519.ExpandedPublicKey, error) {
			return voied25519.NewExpandedPublicKey(voied25519.PublicKey(pub[:]))
		})
		if err != nil || !voied25519.VerifyExpandedWithOptions(key, message, raw, strict) {
			return fmt.Errorf("%w: not by this key's owner over this message (ed25519)", ErrSignature)
		}
		return nil
	case SR25519:
		return v.verifySR25519(pub, message, raw)
	default:
		return fmt.Errorf("%w: unknown key type 0x%02x", ErrSignature, signature[0])
	}
}

func (v *verifier) verifySR25519(pub PublicKey, message, raw []byte) error {
	// Zero is how ristretto writes its neutral element, the one key for which
	// anybody can sign anything. It is also the account of a record left empty.
	if pub == (PublicKey{}) {
		return fmt.Errorf("%w: the key is zero", ErrSignature)
	}
	key, err := remembered(v.sr25519, pub, func() (*voisr25519.PublicKey, error) { return voisr25519.NewPublicKeyFromBytes(pub[:]) })
	if err != nil {
		return fmt.Errorf("%w: the key is not an sr25519 key", ErrSignature)
	}
	sig, err := voisr25519.NewSignatureFromBytes(raw)
	if err != nil {
		return fmt.Errorf("%w: not an sr25519 signature", ErrSignature)
	}
	if !key.Verify(substrate.NewTranscriptBytes(message), sig) {
		return fmt.Errorf("%w: not by this key's owner over this message (sr25519)", ErrSignature)
	}
	return nil
}
