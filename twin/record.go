package twin

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A Record is what the network knows about one twin.
type Record struct {
	// ID is the twin's number, 1 or more.
	ID uint32
	// Account is SS58, network 42, and stands for PublicKey.
	Account string
	// PublicKey verifies what the twin signs.
	PublicKey PublicKey
	// Address is where its relays listen, in any form that [Endpoints] takes, as
	// the source gave it and unchecked. It is empty for a twin that nobody can
	// connect to: one that only calls, or one registered since 2023.
	Address string
}

// addressLenMax bounds what a stranger can make a cache keep. A name of 253 bytes
// and a port fit, and lists of [EndpointsMax] addresses that people choose.
const addressLenMax = 1024

// NewRecord returns the record of a twin, with the key of its account. It checks
// the id and the account, not the address.
func NewRecord(id uint32, account, address string) (Record, error) {
	if id == 0 {
		return Record{}, errors.New("twin ids begin at 1")
	}
	key, err := ParseAccount(account)
	if err != nil {
		return Record{}, fmt.Errorf("twin %d: %w", id, err)
	}
	if len(address) > addressLenMax {
		return Record{}, fmt.Errorf("twin %d: %w: %d bytes", id, ErrAddress, len(address))
	}
	return Record{ID: id, Account: account, PublicKey: key, Address: address}, nil
}

// MarshalJSON writes {"id":1,"account":"5…","ip":"…"}: the shape of a registry
// file, and one that UnmarshalJSON reads back.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID      uint32 `json:"id"`
		Account string `json:"account"`
		IP      string `json:"ip"`
	}{r.ID, r.Account, r.Address})
}

// UnmarshalJSON reads a record as any resolver writes it: keys in any case, the
// number as id or twinId, the account as account or accountId, the address as
// ip; other keys are ignored. The account is checked and becomes the public key.
func (r *Record) UnmarshalJSON(data []byte) error {
	var in struct {
		ID        *uint32 `json:"id"`
		TwinID    *uint32 `json:"twinId"`
		Account   *string `json:"account"`
		AccountID *string `json:"accountId"`
		IP        string  `json:"ip"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	id, err := either(in.ID, in.TwinID, "id", "twinId")
	if err != nil {
		return err
	}
	account, err := either(in.Account, in.AccountID, "account", "accountId")
	if err != nil {
		return err
	}
	rec, err := NewRecord(id, account, in.IP)
	if err != nil {
		return err
	}
	*r = rec
	return nil
}

// either returns the value of two keys that mean the same.
func either[T comparable](a, b *T, nameA, nameB string) (v T, err error) {
	switch {
	case a == nil && b == nil:
		return v, fmt.Errorf("neither %s nor %s in it", nameA, nameB)
	case a == nil:
		return *b, nil
	case b == nil || *a == *b:
		return *a, nil
	default:
		return v, fmt.Errorf("%s and %s differ", nameA, nameB)
	}
}
