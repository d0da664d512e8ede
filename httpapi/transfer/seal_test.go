package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Twin 1001 seals for twin 1002 in these tests.
const (
	source      = 1001
	destination = 1002
)

// drawer is Keys in memory.
type drawer struct {
	mu      sync.Mutex // guards what follows
	private map[string][]byte
	offered string
	err     error
	looks   int
}

func newDrawer() *drawer {
	d := &drawer{private: map[string][]byte{}}
	d.rotate("00112233445566aa")
	return d
}

// rotate makes another key the offered one.
func (d *drawer) rotate(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := make([]byte, keySize)
	_, _ = rand.Read(key)
	d.private[id], d.offered = key, id
}

func (d *drawer) drop(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.private, id)
}

func (d *drawer) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *drawer) looked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.looks
}

func (d *drawer) TransferKeys(context.Context) (map[string][]byte, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	if d.err != nil {
		return nil, "", d.err
	}
	return maps.Clone(d.private), d.offered, nil
}

// A pair is both ends, with the keys of the destination.
type pair struct {
	testing.TB
	drawer *drawer
	sealer *Sealer
	opener *Opener
}

func newPair(t testing.TB) *pair {
	d := newDrawer()
	return &pair{t, d, NewSealer(source, time.Now), NewOpener(destination, d, time.Now)}
}

func (p *pair) offer() *Offer {
	p.Helper()
	o, err := p.opener.Offer(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return o
}

func (p *pair) seal(o *Offer, plain string) (field string, sealed []byte) {
	p.Helper()
	field, sealed, err := p.sealer.Seal(destination, o, []byte(plain))
	if err != nil {
		p.Fatal(err)
	}
	return field, sealed
}

// wantOpen fails unless a sealed body opens as want.
func (p *pair) wantOpen(field string, sealed []byte, want string) {
	p.Helper()
	plain, err := p.opener.Open(p.Context(), source, field, sealed)
	if err != nil || string(plain) != want {
		p.Fatalf("opened %d bytes, error %v; want %d bytes", len(plain), err, len(want))
	}
}

// wantRefused fails unless a sealed body is refused with one of the errors.
func (p *pair) wantRefused(what string, o *Opener, source uint32, field string, sealed []byte, want ...error) {
	p.Helper()
	plain, err := o.Open(p.Context(), source, field, sealed)
	for _, w := range want {
		if err == w && plain == nil { // bare: it must say no more
			return
		}
	}
	p.Errorf("%s: opened %d bytes, error %v; want one of %v", what, len(plain), err, want)
}

// A transfer arrives changed, or the network between two twins reads it.
func TestWhatIsSealedOpensAsItWasAndShowsNothing(t *testing.T) {
	p := newPair(t)
	for _, size := range []int{0, 1, 64, 16 << 10, 1 << 20} {
		plain := strings.Repeat("x", size)
		field, sealed := p.seal(p.offer(), plain)
		if len(sealed) != size+SealOverhead || bytes.Contains(sealed, []byte("xxxx")) {
			t.Errorf("%d bytes are sealed as %d, which show them", size, len(sealed))
		}
		p.wantOpen(field, sealed, plain)
		if again, other := p.seal(p.offer(), plain); again == field || bytes.Equal(other, sealed) {
			t.Error("the same body is sealed twice in the same way")
		}
	}
}

// Somebody who can sign as the twin, or a bug, makes a relay take a body that
// its sender never sealed; or a field has two spellings.
func TestNothingThatWasChangedOpens(t *testing.T) {
	p := newPair(t)
	field, sealed := p.seal(p.offer(), strings.Repeat("x", 64))
	for bit := range 8 * len(sealed) {
		forged := bytes.Clone(sealed)
		forged[bit/8] ^= 1 << (bit % 8)
		p.wantRefused(fmt.Sprint("bit ", bit, " of the body"), p.opener, source, field, forged, ErrSeal)
	}
	for bit := range 8 * len(field) {
		forged := []byte(field)
		forged[bit/8] ^= 1 << (bit % 8)
		p.wantRefused(fmt.Sprintf("%q", forged), p.opener, source, string(forged), sealed, ErrSeal, ErrUnknownKey)
	}
	for _, forged := range [][]byte{nil, sealed[:15], sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0)} {
		p.wantRefused(fmt.Sprint(len(forged), " bytes"), p.opener, source, field, forged, ErrSeal)
	}
	p.wantRefused("none", p.opener, source, None, sealed, ErrSeal)
	p.wantOpen(field, sealed, strings.Repeat("x", 64))
}

// A twin takes what another has sealed, and sends it on as its own.
//
// Breaks it: leave either twin out of transferInfo.
func TestASealIsForOnePairOfTwins(t *testing.T) {
	p := newPair(t)
	field, sealed := p.seal(p.offer(), "x")
	p.wantRefused("from another source", p.opener, source+1, field, sealed, ErrSeal)
	other := NewOpener(destination+1, p.drawer, time.Now)
	p.wantRefused("at another destination", other, source, field, sealed, ErrSeal)
	// The decimal numbers must not run together.
	split := NewOpener(2, p.drawer, time.Now)
	f, s, err := NewSealer(11, time.Now).Seal(12, p.offer(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	p.wantRefused("from 111 to 2", split, 111, f, s, ErrSeal)
}

// Each transfer costs a key agreement; or one key serves for ever, and whoever
// finds it reads everything.
//
// Breaks it: leave out any part of serves, or the count of seals.
func TestOneAgreementServesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		encs, nonces := map[[keySize]byte]int{}, map[[nonceSize]byte]bool{}
		seal := func(o *Offer) {
			t.Helper()
			field, sealed := p.seal(o, "x")
			p.wantOpen(field, sealed, "x")
			s, _ := parseSeal(field)
			encs[s.enc]++
			nonces[s.nonce] = true
		}
		offer := p.offer()
		for range 180 {
			seal(offer)
			time.Sleep(time.Second)
		}
		if len(encs) != 3 || len(nonces) != 180 {
			t.Errorf("%d agreements and %d nonces in 180 transfers of 3 minutes", len(encs), len(nonces))
		}

		clear(encs)
		seal(offer)
		seal(p.offer()) // a later end is no other offer
		p.drawer.rotate("00112233445566bb")
		time.Sleep(2 * lookAtMost)
		second, err := NewOpener(destination, p.drawer, time.Now).Offer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seal(second)
		forged := *second
		forged.ID = "00112233445566cc"
		p.seal(&forged, "x")
		a, _ := p.sealer.peers.get(destination)
		if len(encs) != 2 || encs[a.enc] != 0 {
			t.Errorf("%d agreements for two keys; another id shares one of them: %v", len(encs), encs[a.enc] != 0)
		}

		clear(encs)
		seal(p.offer())
		a, _ = p.sealer.peers.get(destination)
		a.seals.Store(sealsMost - 1)
		seal(p.offer())
		seal(p.offer())
		if len(encs) != 2 || encs[a.enc] != 2 {
			t.Errorf("%d agreements, the first for %d transfers, around the most under one key", len(encs), encs[a.enc])
		}
	})
}

// The sender goes on with a key that its peer may have deleted, or with one that
// anybody knows the agreement with.
func TestOnlyAGoodOfferIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		good := p.offer()
		p.seal(good, "x")
		for name, o := range map[string]*Offer{
			"none":      nil,
			"short":     {good.ID, good.Key[:31], good.Until},
			"low order": {good.ID, make([]byte, keySize), good.Until},
		} {
			if _, sealed, err := p.sealer.Seal(destination, o, []byte("x")); !errors.Is(err, ErrOffer) || sealed != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		time.Sleep(offerLife - time.Second)
		p.seal(good, "x")
		time.Sleep(time.Second)
		if _, _, err := p.sealer.Seal(destination, good, []byte("x")); err != ErrOffer {
			t.Errorf("after its end an offer is used, error %v", err)
		}
	})
}

// Many goroutines of a relay send to the same peers and receive from them. For
// the race detector.
func TestManyGoroutinesSealAndOpen(t *testing.T) {
	p := newPair(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 20 {
				o, err := p.opener.Offer(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				field, sealed, err := p.sealer.Seal(destination, o, []byte{byte(i)})
				if err != nil {
					t.Error(err)
					return
				}
				plain, err := p.opener.Open(t.Context(), source, field, sealed)
				if err != nil || !bytes.Equal(plain, []byte{byte(i)}) {
					t.Errorf("opened %x, error %v", plain, err)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkSeal(b *testing.B) {
	p := newPair(b)
	offer := p.offer()
	for _, size := range []int{64, 16 << 10} {
		plain := make([]byte, size)
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := p.sealer.Seal(destination, offer, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("agreement", func(b *testing.B) {
		for b.Loop() {
			if _, err := newAgreement(transferInfo(source, destination), offer); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	p := newPair(b)
	offer := p.offer()
	for _, size := range []int{64, 16 << 10} {
		field, sealed := p.seal(offer, strings.Repeat("x", size))
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.opener.Open(b.Context(), source, field, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("agreement", func(b *testing.B) {
		field, _ := p.seal(offer, "")
		s, _ := parseSeal(field)
		private, err := p.opener.ring.find(b.Context(), s.keyID)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := export(private, s.enc[:], transferInfo(source, destination)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
