package transfer

import (
	"context"
	"crypto/hpke"
	"errors"
	"time"
)

var (
	// ErrUnknownKey means that a body is sealed for a key that the twin has no
	// more: the sender must take the offer of the answer.
	ErrUnknownKey = errors.New("sealed for a key that this twin does not have")
	// ErrSeal means that a body cannot be opened. It does not say why.
	ErrSeal = errors.New("the transfer's seal does not open")
)

// offerLife is how long a peer may use an offer.
const offerLife = time.Hour

// An Opener opens the transfers to one twin. It may be used from many goroutines.
//
// What it opens stays secret only as long as nobody has both the recording and
// the private key. That is deleted 24 hours after it was last offered, which is at
// most 30 hours after it was made; but files of Redis and backups that hold it
// longer can open it, and so can whoever has this Redis meanwhile, where the
// messages themselves are.
type Opener struct {
	destination uint32
	ring        *keyring
	keys        *fleeting[place, agreed]
}

// A place is where a transfer key of a source is remembered: each source has
// sixteen, so that one that sends ever new keys costs the others nothing, and one
// of several relays finds its own again.
type place struct {
	source uint32
	n      byte
}

const placesASource = 16

// agreed is a transfer key, and the key agreement that it is from.
type agreed struct {
	keyID string
	enc   [keySize]byte
	key   [keySize]byte
}

// NewOpener returns an Opener for transfers to a twin. The clock is Redis's.
func NewOpener(destination uint32, keys Keys, now func() time.Time) *Opener {
	return &Opener{
		destination: destination,
		ring:        &keyring{keys: keys, now: now},
		keys:        newFleeting[place, agreed](peersMost, agreementLife),
	}
}

// Open returns the body that a source has sealed, by the Msgbus-Seal that came
// with it. Both must be covered by a signature of the source that was verified:
// Open tells what was changed on the way, but not who has sealed it. The error is
// ErrUnknownKey, ErrSeal, or that of Keys: then the transfer may be tried again.
func (o *Opener) Open(ctx context.Context, source uint32, field string, sealed []byte) (plain []byte, err error) {
	s, ok := parseSeal(field)
	if !ok {
		return nil, ErrSeal
	}
	key, err := o.transferKey(ctx, source, s)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(&key)
	if err != nil {
		return nil, err
	}
	if plain, err = aead.Open(nil, s.nonce[:], sealed, nil); err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}

// transferKey agrees on the key, or remembers it.
func (o *Opener) transferKey(ctx context.Context, source uint32, s *seal) (key [keySize]byte, err error) {
	at := place{source, s.enc[0] % placesASource}
	if k, ok := o.keys.get(at); ok && k.keyID == s.keyID && k.enc == s.enc {
		return k.key, nil
	}
	private, err := o.ring.find(ctx, s.keyID)
	if err != nil {
		return key, err
	}
	exported, err := export(private, s.enc[:], transferInfo(source, o.destination))
	if err != nil {
		return key, ErrSeal
	}
	copy(key[:], exported)
	o.keys.put(at, agreed{s.keyID, s.enc, key})
	return key, nil
}

func export(private hpke.PrivateKey, enc, info []byte) ([]byte, error) {
	recipient, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, err
	}
	return recipient.Export(exporterContext, keySize)
}

// Offer returns the key that peers may seal for from now on. Each signed answer
// has one. The error is that of Keys.
func (o *Opener) Offer(ctx context.Context) (*Offer, error) {
	set, err := o.ring.current(ctx)
	if err != nil {
		return nil, err
	}
	return &Offer{
		ID:    set.offered,
		Key:   set.private[set.offered].PublicKey().Bytes(),
		Until: o.ring.now().Add(offerLife).Unix(),
	}, nil
}
