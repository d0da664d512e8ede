package twin

import (
	"errors"
	"fmt"

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
	if len(signature) != SignatureLength {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSignature, len(signature), SignatureLength)
	}
	kt, raw := KeyType(signature[0]), signature[1:]
	switch kt {
	case ED25519:
		if !voied25519.VerifyWithOptions(voied25519.PublicKey(pub[:]), message, raw, strict) {
			return fmt.Errorf("%w: not by this key's owner over this message (ed25519)", ErrSignature)
		}
		return nil
	case SR25519:
		return verifySR25519(pub, message, raw)
	default:
		return fmt.Errorf("%w: unknown key type 0x%02x", ErrSignature, signature[0])
	}
}

func verifySR25519(pub PublicKey, message, raw []byte) error {
	// Zero is how ristretto writes its neutral element, the one key for which
	// anybody can sign anything. It is also the account of a record left empty.
	if pub == (PublicKey{}) {
		return fmt.Errorf("%w: the key is zero", ErrSignature)
	}
	key, err := voisr25519.NewPublicKeyFromBytes(pub[:])
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
