package twin

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"slices"
	"sync"
	"testing"

	voisr25519 "github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors are what the archived daemon's own verifier accepts: a relay that
// fails here can talk to no published one.
func TestTheSharedVectorsVerify(t *testing.T) {
	data, err := os.ReadFile("testdata/signature.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Phrase, MD5 string
		Vectors     []struct {
			Type, Account, Sig string
			PublicKey          string `json:"public_key"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 2 {
		t.Fatalf("%d vectors, want 2", len(file.Vectors))
	}
	message := unhex(t, file.MD5)
	for _, v := range file.Vectors {
		kt, err := ParseKeyType(v.Type)
		if err != nil {
			t.Fatal(err)
		}
		id := identity(t, file.Phrase, kt)
		if key := id.PublicKey(); id.Account() != v.Account || hex.EncodeToString(key[:]) != v.PublicKey {
			t.Errorf("%s: the phrase leads to %s, want %s", kt, id, v.Account)
		}
		sig := unhex(t, v.Sig)
		if err := Verify(id.PublicKey(), message, sig); err != nil {
			t.Errorf("%s: %v", kt, err)
		}
		if err := Verify(id.PublicKey(), message, id.Sign(message)); err != nil {
			t.Errorf("%s, signed anew: %v", kt, err)
		}
		if kt == ED25519 && !bytes.Equal(id.Sign(message), sig) {
			t.Error("ed25519 is deterministic, and yet our signature differs from the vector")
		}
	}
}

// One accepted forgery and the bus is anybody's: FAILURES.md row 28.
func TestNoFlippedBitNorChangedLengthIsAccepted(t *testing.T) {
	message := []byte("0123456789abcdef")
	for _, kt := range []KeyType{SR25519, ED25519} {
		id := identity(t, "//Alice", kt)
		sig, key := id.Sign(message), id.PublicKey()
		refused := func(what string, key PublicKey, message, sig []byte) {
			t.Helper()
			if err := Verify(key, message, sig); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s: %v", kt, what, err)
			}
		}
		for bit := range len(sig) * 8 {
			bad := slices.Clone(sig)
			bad[bit/8] ^= 1 << (bit % 8)
			refused("bit of the signature flipped", key, message, bad)
		}
		for bit := range len(message) * 8 {
			bad := slices.Clone(message)
			bad[bit/8] ^= 1 << (bit % 8)
			refused("bit of the message flipped", key, bad, sig)
		}
		for bit := range len(key) * 8 {
			bad := key
			bad[bit/8] ^= 1 << (bit % 8)
			refused("bit of the key flipped", bad, message, sig)
		}
		refused("no signature", key, message, nil)
		refused("type only", key, message, sig[:1])
		refused("without type", key, message, sig[1:])
		refused("one byte short", key, message, sig[:64])
		refused("one byte more", key, message, append(slices.Clone(sig), 0))
		refused("another message", key, message[:15], sig)
		refused("another key", identity(t, "//Bob", kt).PublicKey(), message, sig)
		swapped := slices.Clone(sig)
		swapped[0] = byte(SR25519) + byte(ED25519) - sig[0]
		refused("the other type", key, message, swapped)
		refused("zeros", key, message, append([]byte{byte(kt)}, make([]byte, 64)...))
	}
}

// A twin may register any 32 bytes as its account. With some, a signature that
// fits every message is public knowledge, and the standard library accepts it.
func TestKeysThatAnybodyCanSignForAreRefused(t *testing.T) {
	message := []byte("anything")

	// ed25519: the neutral element as key and R, and 0 as S; then the other points
	// of small order, and encodings that are not canonical.
	neutral := append([]byte{1}, make([]byte, 31)...)
	universal := slices.Concat(neutral, make([]byte, 32))
	if !ed25519.Verify(neutral, message, universal) {
		t.Fatal("the attack does not work on the standard library: the test is wrong")
	}
	for _, low := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	} {
		point := unhex(t, low)
		for i := range 64 { // of the messages, one in eight fits a point of order eight
			text := append([]byte{byte(i)}, message...)
			for _, r := range [][]byte{neutral, point} {
				sig := slices.Concat([]byte{'e'}, r, make([]byte, 32))
				if err := Verify(PublicKey(point), text, sig); !errors.Is(err, ErrSignature) {
					t.Errorf("ed25519 key %s: %v", low, err)
				}
			}
		}
	}

	// sr25519: the neutral element is written as zeros.
	var zero PublicKey
	sig := make([]byte, 65)
	sig[0], sig[64] = 's', 0x80
	key, err := voisr25519.NewPublicKeyFromBytes(zero[:])
	if err != nil {
		t.Fatal(err)
	}
	raw, err := voisr25519.NewSignatureFromBytes(sig[1:])
	if err != nil || !key.Verify(substrate.NewTranscriptBytes(message), raw) {
		t.Fatalf("the attack does not work on voi: the test is wrong (%v)", err)
	}
	if err := Verify(zero, message, sig); !errors.Is(err, ErrSignature) {
		t.Errorf("sr25519 key of zeros: %v", err)
	}
	var odd PublicKey // no canonical ristretto point has its lowest bit set
	odd[0] = 1
	if err := Verify(odd, message, sig); !errors.Is(err, ErrSignature) {
		t.Errorf("sr25519 key that is not a point: %v", err)
	}
}

// A signature is accepted once, and remembered by its bytes: a second spelling of
// it would be a replay that nobody notices.
func TestASignatureHasOneSpelling(t *testing.T) {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	message := []byte("0123456789abcdef")
	for _, kt := range []KeyType{SR25519, ED25519} {
		id := identity(t, "//Alice", kt)
		sig := id.Sign(message)
		marker := sig[64] & 0x80
		scalar := slices.Clone(sig[33:])
		scalar[31] &^= 0x80
		slices.Reverse(scalar)
		sum := new(big.Int).Add(new(big.Int).SetBytes(scalar), order)
		sum.FillBytes(scalar)
		slices.Reverse(scalar)
		other := append(slices.Clone(sig[:33]), scalar...)
		other[64] |= marker
		if err := Verify(id.PublicKey(), message, other); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: S plus the group order: %v", kt, err)
		}
	}
}

// One identity and one signing context serve all requests at once.
func TestSigningAndVerifyingRunConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for _, secret := range []string{"//Alice", "/soft"} {
		id := identity(t, secret, SR25519)
		for i := range 8 {
			wg.Go(func() {
				message := []byte{byte(i)}
				if err := Verify(id.PublicKey(), message, id.Sign(message)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// Property: no panic, typed errors, and nothing accepted that go-subkey refuses.
func FuzzVerify(f *testing.F) {
	for _, kt := range []KeyType{SR25519, ED25519} {
		id := identity(f, "//Alice", kt)
		key := id.PublicKey()
		f.Add(key[:], []byte("message"), id.Sign([]byte("message")))
	}
	f.Fuzz(func(t *testing.T, key, message, sig []byte) {
		var pub PublicKey
		copy(pub[:], key)
		err := Verify(pub, message, sig)
		if err != nil {
			if !errors.Is(err, ErrSignature) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		scheme, err := KeyType(sig[0]).scheme()
		if err != nil || len(sig) != SignatureLength {
			t.Fatalf("accepted % x", sig)
		}
		theirs, err := scheme.FromPublicKey(pub[:])
		if err != nil || !theirs.Verify(message, sig[1:]) {
			t.Errorf("accepted what go-subkey refuses: key %x, signature %x", pub, sig)
		}
	})
}

func BenchmarkSignVerify(b *testing.B) {
	message := []byte("0123456789abcdef")
	for _, kt := range []KeyType{SR25519, ED25519} {
		id := identity(b, "//Alice", kt)
		sig := id.Sign(message)
		b.Run(kt.String()+"/sign", func(b *testing.B) {
			for b.Loop() {
				id.Sign(message)
			}
		})
		b.Run(kt.String()+"/verify", func(b *testing.B) {
			for b.Loop() {
				if err := Verify(id.PublicKey(), message, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
