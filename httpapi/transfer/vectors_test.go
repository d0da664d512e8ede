package transfer

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// hexBytes are written in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	var err error
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectors are testdata/seal.json. They were computed by another program, in
// another language, as the file says.
type vectors struct {
	Vectors []struct {
		Name                string
		Source, Destination uint32
		PrivateKey          hexBytes `json:"private_key"`
		PublicKey           hexBytes `json:"public_key"`
		EphemeralPrivateKey hexBytes `json:"ephemeral_private_key"`
		Enc                 hexBytes
		Info                string
		TransferKey         hexBytes `json:"transfer_key"`
		Nonce               hexBytes
		Plain, Sealed       hexBytes
		Offer, Field        string
	}
	RefusedFields []string `json:"refused_fields"`
	RefusedOffers []string `json:"refused_offers"`
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/seal.json")
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func wantBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%x, want\n%x", what, got, want)
	}
}

// Two relays of different versions, or by different hands, cannot open what the
// other has sealed.
func TestSealIsWhatTheVectorsSay(t *testing.T) {
	for _, v := range readVectors(t).Vectors {
		t.Run(v.Name, func(t *testing.T) {
			private, err := kem().NewPrivateKey(v.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			ephemeral, err := ecdh.X25519().NewPrivateKey(v.EphemeralPrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "the public key", private.PublicKey().Bytes(), v.PublicKey)
			wantBytes(t, "enc", ephemeral.PublicKey().Bytes(), v.Enc)
			wantBytes(t, "the info", transferInfo(v.Source, v.Destination), []byte(v.Info))
			key, err := export(private, v.Enc, []byte(v.Info))
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "the transfer key", key, v.TransferKey)
			aead, err := newAEAD((*[keySize]byte)(key))
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "the sealed body", aead.Seal(nil, v.Nonce, v.Plain, nil), v.Sealed)

			offer, err := ParseOffer(v.Offer)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "the offered key", offer.Key, v.PublicKey)
			drawer := newDrawer()
			drawer.private = map[string][]byte{offer.ID: v.PrivateKey}
			drawer.offered = offer.ID
			opener := NewOpener(v.Destination, drawer, time.Now)
			plain, err := opener.Open(t.Context(), v.Source, v.Field, v.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "the opened body", plain, v.Plain)
		})
	}
}

// A field that another reads in another way passes, or changes on its way.
func TestFieldsHaveOneSpelling(t *testing.T) {
	v := readVectors(t)
	if o, err := ParseOffer(None); o != nil || err != nil {
		t.Errorf("no offer is %v, error %v", o, err)
	}
	for _, field := range v.RefusedFields {
		if s, ok := parseSeal(field); ok {
			t.Errorf("%q is taken as %+v", field, s)
		}
	}
	for _, field := range v.RefusedOffers {
		if o, err := ParseOffer(field); err != ErrOffer || o != nil {
			t.Errorf("%q is taken as %+v, error %v", field, o, err)
		}
	}
}

// Property: no panic, and what is accepted re-encodes to itself.
func FuzzOfferHasOneSpelling(f *testing.F) {
	v := readVectors(f)
	for _, vector := range v.Vectors {
		f.Add(vector.Offer)
	}
	f.Add(None)
	f.Fuzz(func(t *testing.T, field string) {
		o, err := ParseOffer(field)
		switch {
		case err != nil && (err != ErrOffer || o != nil):
			t.Errorf("%q: %+v, error %v", field, o, err)
		case err != nil:
		case o == nil && field != None:
			t.Errorf("%q is no offer, and no error", field)
		case o != nil && (o.Field() != field || len(o.Key) != keySize || len(o.ID) != 16 || o.Until < 0):
			t.Errorf("%q is taken as %+v", field, o)
		}
	})
}

// Property: no panic, and what is accepted re-encodes to itself.
func FuzzSealHasOneSpelling(f *testing.F) {
	for _, vector := range readVectors(f).Vectors {
		f.Add(vector.Field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		if s, ok := parseSeal(field); ok && (s.field() != field || len(s.keyID) != 16) {
			t.Errorf("%q is taken as %+v", field, s)
		}
	})
}
