package transfer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The body of a transfer is sealed for the twin that it goes to, so that only
// that twin's relays can read it. Who sent it, the signature tells: it covers the
// sealed body and the field that says how to open it.
//
//   - A relay offers a public key of X25519 in its signed answers, in Msgbus-Key.
//   - The sender makes a context of HPKE (RFC 9180) for it: mode base,
//     DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, export only, with the info
//     "msgbus-transfer 2 <source> <destination>". It gives `enc`, and the
//     transfer key: 32 bytes, exported under "msgbus transfer key".
//   - Each body is sealed with AES-256-GCM under the transfer key, a random
//     nonce and no additional data. Msgbus-Seal names the key of the offer, enc
//     and the nonce.
//
// The context is for as many transfers as are sent in a minute, since making one
// costs more than a signature. Random nonces allow for 2^20 under one key.
const (
	// None is the Msgbus-Seal of a transfer that is not sealed, the Msgbus-Key of an
	// answer that offers no key, and the Msgbus-Epoch of a transfer without requests.
	None = "none"
	// SealOverhead is how many bytes longer a body is sealed.
	SealOverhead = 16

	exporterContext = "msgbus transfer key"

	agreementLife = time.Minute
	sealsMost     = 1 << 20
	// peersMost bounds the peers whose transfer keys are remembered.
	peersMost = 100_000

	keySize, nonceSize = 32, 12
)

// ErrOffer means that an offer cannot be used: it has ended, or is none.
var ErrOffer = errors.New("the peer's offer of a key cannot be used")

// base64Strict refuses two spellings of the same bytes, save for line breaks.
var base64Strict = base64.StdEncoding.Strict()

// An Offer is a public key that transfers to a twin may be sealed for.
type Offer struct {
	ID    string // 16 hex digits
	Key   []byte // 32 bytes
	Until int64  // when it must not be used any more, in unix seconds
}

// Field returns the offer as the field Msgbus-Key has it.
func (o Offer) Field() string {
	return `id="` + o.ID + `", key=:` + base64Strict.EncodeToString(o.Key) + `:, until=` + strconv.FormatInt(o.Until, 10)
}

// ParseOffer reads what a signed answer says in Msgbus-Key. There is no offer and
// no error in "none". The error is ErrOffer.
func ParseOffer(field string) (*Offer, error) {
	if field == None {
		return nil, nil
	}
	id, rest := cutField(field, `id="`, `", key=:`)
	key, until := cutField(rest, "", `:, until=`)
	var o Offer
	var err error
	if o.Until, err = strconv.ParseInt(until, 10, 64); err != nil || len(until) > untilDigits || o.Until < 0 {
		return nil, ErrOffer
	}
	o.ID, o.Key = id, make([]byte, keySize)
	if !isKeyID(id) || !decode(o.Key, key) || o.Field() != field {
		return nil, ErrOffer
	}
	return &o, nil
}

// untilDigits is how long a structured field's integer may be (RFC 8941).
const untilDigits = 15

// A seal is what the receiver needs to open a body: the field Msgbus-Seal.
type seal struct {
	keyID string
	enc   [keySize]byte
	nonce [nonceSize]byte
}

func (s *seal) field() string {
	return `key="` + s.keyID + `", enc=:` + base64Strict.EncodeToString(s.enc[:]) +
		`:, nonce=:` + base64Strict.EncodeToString(s.nonce[:]) + `:`
}

func parseSeal(field string) (*seal, bool) {
	id, rest := cutField(field, `key="`, `", enc=:`)
	enc, rest := cutField(rest, "", `:, nonce=:`)
	nonce, end := cutField(rest, "", `:`)
	s := &seal{keyID: id}
	ok := isKeyID(id) && decode(s.enc[:], enc) && decode(s.nonce[:], nonce) && end == ""
	return s, ok && s.field() == field
}

// cutField returns what stands between start and mark, and what follows. What
// has not this form is found out by the caller, who compares the field with what
// it would have written.
func cutField(text, start, mark string) (between, after string) {
	between, after, _ = strings.Cut(strings.TrimPrefix(text, start), mark)
	return between, after
}

// decode fills out from base64, and tells whether that was all.
func decode(out []byte, text string) bool {
	if len(text) != base64Strict.EncodedLen(len(out)) {
		return false
	}
	var room [keySize + 2]byte // without its padding a text is of up to 2 bytes more
	n, err := base64Strict.Decode(room[:], []byte(text))
	copy(out, room[:n])
	return err == nil && n == len(out)
}

func isKeyID(id string) bool {
	return len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}

// A Sealer seals transfers of one twin to others. It may be used from many
// goroutines.
type Sealer struct {
	source uint32
	now    func() time.Time
	peers  *fleeting[uint32, *agreement]
}

// An agreement is a context of HPKE with a peer, of which the transfer key is left.
type agreement struct {
	keyID  string
	public [keySize]byte // what the peer has offered
	enc    [keySize]byte
	key    [keySize]byte // of the transfers
	made   time.Time
	seals  atomic.Int64
}

// NewSealer returns a Sealer for transfers from a twin. The clock is the one that
// signatures go by, since peers end their offers by theirs.
func NewSealer(source uint32, now func() time.Time) *Sealer {
	return &Sealer{source, now, newFleeting[uint32, *agreement](peersMost, agreementLife)}
}

// Seal seals a body for the twin that made the offer, and returns the Msgbus-Seal
// to send it with. The error is ErrOffer when another offer is needed.
func (s *Sealer) Seal(destination uint32, o *Offer, plain []byte) (field string, sealed []byte, err error) {
	now := s.now()
	if o == nil || now.Unix() >= o.Until {
		return "", nil, ErrOffer
	}
	a, err := s.agree(destination, o, now)
	if err != nil {
		return "", nil, err
	}
	aead, err := newAEAD(&a.key)
	if err != nil {
		return "", nil, err
	}
	head := seal{keyID: o.ID, enc: a.enc}
	_, _ = rand.Read(head.nonce[:]) // crypto/rand.Read never fails: it ends the program instead
	return head.field(), aead.Seal(nil, head.nonce[:], plain, nil), nil
}

// agree returns an agreement for one more body. Two that are made for one peer at
// the same time are both good, and the later is kept.
func (s *Sealer) agree(destination uint32, o *Offer, now time.Time) (*agreement, error) {
	if a, ok := s.peers.get(destination); ok && a.serves(o, now) && a.seals.Add(1) <= sealsMost {
		return a, nil
	}
	a, err := newAgreement(transferInfo(s.source, destination), o)
	if err != nil {
		return nil, err
	}
	a.made = now
	a.seals.Store(1)
	s.peers.put(destination, a)
	return a, nil
}

// serves tells whether an agreement is for this offer and young enough.
func (a *agreement) serves(o *Offer, now time.Time) bool {
	return a.keyID == o.ID && bytes.Equal(a.public[:], o.Key) && !due(a.made, now, agreementLife)
}

func newAgreement(info []byte, o *Offer) (*agreement, error) {
	public, err := kem().NewPublicKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOffer, err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil { // such as for a point of low order, with which every key agrees on the same
		return nil, fmt.Errorf("%w: %w", ErrOffer, err)
	}
	key, err := sender.Export(exporterContext, keySize)
	if err != nil {
		return nil, fmt.Errorf("export a transfer key: %w", err)
	}
	a := &agreement{keyID: o.ID}
	copy(a.public[:], o.Key)
	copy(a.enc[:], enc)
	copy(a.key[:], key)
	return a, nil
}

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// transferInfo binds a transfer key to the pair of twins: what one twin has
// sealed for another opens as nobody else's.
func transferInfo(source, destination uint32) []byte {
	return fmt.Appendf(nil, "msgbus-transfer 2 %d %d", source, destination)
}

// newAEAD is called for each body. To remember what it returns would take about a
// thousand bytes a peer, and save little beside a signature.
func newAEAD(key *[keySize]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// due tells whether something is to be done again. A clock that was set back
// makes it so.
func due(last, now time.Time, every time.Duration) bool {
	age := now.Sub(last)
	return age < 0 || age >= every
}
