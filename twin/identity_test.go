package twin

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vedhavyas/go-subkey/v2"
)

const testPhrase = "neck stage box cup core magic produce exercise happy rely vocal then"

// An operator who moves a twin from another substrate tool must find the same
// account here, or the relay starts as somebody else.
func TestSecretsLeadToTheAccountsThatOtherToolsShow(t *testing.T) {
	for _, c := range []struct {
		secret  string
		kt      KeyType
		account string
	}{
		{"//Alice", SR25519, aliceAccount},
		{"//Bob", SR25519, bobAccount},
		{"//Alice", ED25519, "5FA9nQDVg267DEd8m1ZypXLBnvN7SFxYwV7ndqSYGiN9TTpu"},
		{"0xe5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a", SR25519, aliceAccount}, // the mini secret of //Alice
		{subkey.DevPhrase + "//Alice", SR25519, aliceAccount},
		{" " + strings.ReplaceAll(subkey.DevPhrase, " ", "\n ") + " //Alice\n", SR25519, aliceAccount},
		{testPhrase, SR25519, "5EFsy5c74SbTa7yWs9TjRKEEfrHSYq4TDYXuPGThdKsonsFp"},
		{testPhrase, ED25519, "5EGtD8gtMcKPupQ187AY8VMx3SP6489nnFUv7b9cC2eRKiqw"},
	} {
		id, err := NewIdentity(c.secret, c.kt)
		if err != nil {
			t.Errorf("%q, %s: %v", c.secret, c.kt, err)
			continue
		}
		if id.Account() != c.account || id.KeyType() != c.kt || id.PublicKey().Account() != c.account {
			t.Errorf("%q, %s: account %s, want %s", c.secret, c.kt, id.Account(), c.account)
		}
	}
}

// A relay whose signatures the published relays refuse is cut off, and so is one
// that refuses theirs; both happen for one kind of secret only, if they happen.
func TestSignaturesInteroperateWithGoSubkeyForEveryKindOfSecret(t *testing.T) {
	message := []byte("0123456789abcdef")
	for _, kt := range []KeyType{SR25519, ED25519} {
		scheme, err := kt.scheme()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{
			testPhrase,
			testPhrase + "//hard",
			testPhrase + "//hard//7///pass word/with//slashes",
			testPhrase + "/soft",
			testPhrase + "//hard/soft/0",
			testPhrase + "/soft//hard///password",
			testPhrase + "///password",
			"0x" + strings.Repeat("5a", 32),
			"//Alice",
		} {
			if kt == ED25519 && strings.Contains(secret, "/soft") {
				continue
			}
			theirs, err := subkey.DeriveKeyPair(scheme, secret)
			if err != nil {
				t.Fatal(err)
			}
			ours := identity(t, secret, kt)
			if key := ours.PublicKey(); !bytes.Equal(key[:], theirs.Public()) {
				t.Errorf("%s %q: another key than go-subkey's", kt, secret)
			}
			sig := ours.Sign(message)
			if len(sig) != SignatureLength || sig[0] != byte(kt) || !theirs.Verify(message, sig[1:]) {
				t.Errorf("%s %q: go-subkey refuses our signature", kt, secret)
			}
			raw, err := theirs.Sign(message)
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(ours.PublicKey(), message, append([]byte{byte(kt)}, raw...)); err != nil {
				t.Errorf("%s %q: we refuse go-subkey's signature: %v", kt, secret, err)
			}
		}
	}
}

// An empty key file must not make the relay sign with the development key that
// everybody has, and a mistyped secret must not end up in the log.
func TestBadSecretsAreRefusedWithoutBeingRepeated(t *testing.T) {
	for _, secret := range []string{
		"",
		" \n",
		"neck",
		"neck stage box cup core magic produce exercise happy rely vocal",
		"neck stage box cup core magic produce exercise happy rely vocal vocal", // checksum
		"neck stage box cup core magic produce exercise happy rely vocal xyzzy",
		strings.ToUpper(testPhrase),
		testPhrase + " ",
		testPhrase + "//",
		testPhrase + "//hard//",
		testPhrase + "//hard\n//harder///pass\nword",
		"deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef", // no 0x
		"0xdeadbeef",
		"0x" + strings.Repeat("zz", 32),
		"0x" + strings.Repeat("5a", 64),
		"0x",
	} {
		for _, kt := range []KeyType{SR25519, ED25519} {
			id, err := NewIdentity(secret, kt)
			if secret == testPhrase+" " {
				if err != nil {
					t.Errorf("a blank after the phrase: %v", err)
				}
				continue
			}
			if !errors.Is(err, ErrSecret) {
				t.Errorf("%q: identity %v, error %v, want ErrSecret", secret, id, err)
				continue
			}
			for part := range strings.FieldsFuncSeq(secret, func(r rune) bool { return strings.ContainsRune(" /\n", r) }) {
				if len(part) > 2 && strings.Contains(err.Error(), part) && part != "hard" {
					t.Errorf("error %q repeats %q of the secret", err, part)
				}
			}
		}
	}
	for secret, part := range map[string]string{
		"neck stage box cup core magic produce exercise happy rely vocal vocal": "checksum",
		"neck stage box cup core magic produce exercise happy rely vocal xyzzy": "word 12",
		"neck stage": "this has 2",
		"0xdeadbeef": "64 hex digits",
	} {
		if _, err := NewIdentity(secret, SR25519); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want it to say %q", secret, err, part)
		}
	}
	if _, err := NewIdentity(testPhrase+"/soft", ED25519); !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "soft") {
		t.Errorf("soft junction with ed25519: %v", err)
	}
	if _, err := NewIdentity(testPhrase, KeyType('x')); err == nil {
		t.Error("unknown key type accepted")
	}
}

// Whoever logs a struct that holds the identity logs the account, not the key.
func TestAnIdentityPrintsAsItsAccountWhateverTheVerb(t *testing.T) {
	id := identity(t, "//Alice", ED25519)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, id); got != id.Account() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	seed := "abf8e5bdbe30c65656c0a3cbd181ff8a56294a69dfedd27982aace4a76909115" // of //Alice
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if got := fmt.Sprintf(verb, *id); strings.Contains(got, seed[:16]) || strings.Contains(got, "171 248 229") {
			t.Errorf("a copy prints %q", got)
		}
	}
}

// The phrase is all that the operator keeps: it must lead back to the account
// that `msgbusd key new` printed.
func TestAGeneratedPhraseDerivesItsIdentityAgain(t *testing.T) {
	for _, kt := range []KeyType{SR25519, ED25519} {
		phrase, id, err := Generate(kt)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(phrase)); n != 12 {
			t.Errorf("%d words", n)
		}
		if again := identity(t, phrase, kt); again.PublicKey() != id.PublicKey() {
			t.Errorf("%s: the phrase leads to %s, not to %s", kt, again, id)
		}
		if other, _, err := Generate(kt); err != nil || other == phrase {
			t.Error("the same phrase twice")
		}
	}
}

// A typing error in the configuration must name what would be right.
func TestKeyTypesAreReadFromTheirNames(t *testing.T) {
	for _, kt := range []KeyType{SR25519, ED25519} {
		if got, err := ParseKeyType(kt.String()); err != nil || got != kt {
			t.Errorf("%s: %v, %v", kt, got, err)
		}
	}
	if _, err := ParseKeyType("secp256k1"); err == nil || !strings.Contains(err.Error(), "ed25519") {
		t.Errorf("error %v does not say what is known", err)
	}
}

// A truncated or foreign account must be refused where it enters, not when the
// first signature fails.
func TestAccountsHaveOneSpellingAndOneNetwork(t *testing.T) {
	key, err := ParseAccount(aliceAccount)
	if err != nil || key.Account() != aliceAccount || key.String() != aliceAccount {
		t.Fatalf("%v, %v", key, err)
	}
	for _, bad := range []string{
		"", "5", aliceAccount[:47], aliceAccount + "x", strings.ToLower(aliceAccount),
		"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", // checksum
		"15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5", // Alice on network 0
		"HNZata7iMYWmk5RvZRTiAsSDhV8366zq2YGb3tLH5Upf74F",  // Alice on network 2
		subkey.SS58Encode(key[:31], accountNetwork),
		subkey.SS58Encode(append(key[:], 0), accountNetwork),
		"NZoQ", // go-subkey's decoder panics on this
		strings.Repeat("1", 48), "\x00" + aliceAccount[1:],
	} {
		if key, err := ParseAccount(bad); !errors.Is(err, ErrAccount) {
			t.Errorf("%q: %v, %v", bad, key, err)
		}
	}
	if _, err := ParseAccount("15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"); err == nil || !strings.Contains(err.Error(), "belongs to network 0") {
		t.Errorf("account of another network: %v", err)
	}
}

// Property: no panic, and what is accepted is what would be written.
func FuzzParseAccount(f *testing.F) {
	f.Add(aliceAccount)
	f.Add("15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5")
	f.Add(strings.Repeat("1", 48))
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseAccount(text)
		if err == nil && key.Account() != text {
			t.Errorf("%q accepted, written as %q", text, key.Account())
		}
		if err != nil && !errors.Is(err, ErrAccount) {
			t.Errorf("%q: untyped error %v", text, err)
		}
	})
}
