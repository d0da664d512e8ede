package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// directory tells the HTTP side, in its words, what package twin knows.
type directory struct {
	twins    *twin.Directory
	peerPort uint16
}

// Endpoints returns where a twin's relays listen, as bases of URLs.
func (d *directory) Endpoints(ctx context.Context, id uint32) ([]string, error) {
	rec, err := d.twins.Twin(ctx, id)
	switch {
	case errors.Is(err, twin.ErrNotFound):
		return nil, msgbus.Refuse(msgbus.TwinNotFound, "destination not found")
	case err != nil:
		return nil, &msgbus.Failure{Reason: msgbus.ResolverUnavailable, Detail: fmt.Sprintf("nobody can say now where twin %d is: %v", id, err)}
	case rec.Address == "":
		return nil, msgbus.Refuse(msgbus.BadAddress, "twin %d has no address in its record", id)
	}
	endpoints, err := twin.Endpoints(rec.Address, d.peerPort)
	if err != nil {
		return nil, msgbus.Refuse(msgbus.BadAddress, "the address in the record of twin %d: %v", id, err)
	}
	return endpoints, nil
}

// tooManyLookups is for everybody who is not known already: one who is honest
// comes again.
var tooManyLookups = msgbus.Refuse(msgbus.TooManyLookups, "too many twins are being looked up; send it again in a second")

// Verify checks a signature against the twin's record of now.
func (d *directory) Verify(ctx context.Context, id uint32, challenge, signature []byte) error {
	err := d.twins.Verify(ctx, id, challenge, signature)
	var soon *twin.TooSoonError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &soon):
		r := msgbus.Refuse(msgbus.KeyUncertain, "the signature is not of the key that twin %d had when it was last looked up; if it has a new one, send the message again in %d seconds", id, int(math.Ceil(soon.Wait.Seconds())))
		r.Rest = soon.Wait
		return r
	case errors.Is(err, twin.ErrSignature):
		return msgbus.Refuse(msgbus.BadSignature, "the signature is not of twin %d", id)
	case errors.Is(err, twin.ErrNotFound):
		return msgbus.Refuse(msgbus.TwinNotFound, "source twin %d not found", id)
	case errors.Is(err, twin.ErrTooMany):
		return tooManyLookups
	default:
		return msgbus.Refuse(msgbus.ResolverUnavailable, "nobody can say now which key twin %d has", id)
	}
}

// dialer connects to what the guard allows. A name may have several addresses:
// it is refused, for good, only if the guard allows none that was tried.
// Resolver nil is the system's.
func dialer(guard *twin.Guard, resolver *net.Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var allowed atomic.Bool // net.Dialer tries IPv4 and IPv6 side by side
		d := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Resolver: resolver,
			Control: func(network, address string, raw syscall.RawConn) error {
				err := guard.Control(network, address, raw)
				if err == nil {
					allowed.Store(true)
				}
				return err
			}}
		conn, err := d.DialContext(ctx, network, address)
		switch {
		case !errors.Is(err, twin.ErrAddressNotAllowed): // net.Dialer tells of the first address
			return conn, err
		case allowed.Load():
			return nil, fmt.Errorf("the addresses that may be dialled do not answer, and of the others: %v", err)
		default:
			return nil, msgbus.Refuse(msgbus.AddressNotAllowed, "the address in the twin's record may not be dialled: %v", err)
		}
	}
}

// recordStore keeps twin records in Redis, so that a site that comes back from
// a power cut works before its resolver does.
type recordStore struct{ store *backlog.Store }

const keepRecords = 24 * time.Hour

type savedRecord struct {
	Saved  int64       `json:"saved"` // unix seconds
	Record twin.Record `json:"record"`
}

func (r recordStore) LoadRecord(ctx context.Context, id uint32) (twin.Record, time.Time, error) {
	text, err := r.store.LoadTwin(ctx, id)
	if errors.Is(err, msgbus.ErrNotFound) {
		return twin.Record{}, time.Time{}, twin.ErrNotFound
	}
	var saved savedRecord
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	return saved.Record, time.Unix(saved.Saved, 0), err
}

func (r recordStore) SaveRecord(ctx context.Context, rec twin.Record) error {
	text, err := json.Marshal(savedRecord{Saved: r.store.Now().Unix(), Record: rec})
	if err != nil {
		return fmt.Errorf("encode the record of twin %d: %w", rec.ID, err)
	}
	return r.store.SaveTwin(ctx, rec.ID, text, keepRecords)
}
