package httpapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Versions of the wire.
const (
	unknownVersion = 0
	version1       = 1 // a message a POST
	version2       = 2 // transfers
)

const (
	// greetAgain is how long a peer that knows no transfers is not asked again. It
	// is asked at once when it has sent one.
	greetAgain = 10 * time.Minute
	// patienceWithDoubt is how long a peer that has spoken version 2 may answer as
	// if it did not before it is believed: somebody on the way may want version 1.
	patienceWithDoubt = 10 * time.Minute
	// doubtEnds is how long after the last such answer it counts for nothing: two
	// that are ten minutes apart are not ten minutes of them. A lane that has
	// something to send asks every twenty seconds.
	doubtEnds = time.Minute
	// peersMost bounds what is remembered in this process; over it everything is
	// forgotten, which costs each peer a look into the storage.
	peersMost = 100_000
)

// A Memory keeps which twins' relays speak version 2, and the latest key offer
// of each, where it survives this process.
type Memory interface {
	// LoadPeer returns msgbus.ErrNotFound for a twin of which nothing is kept.
	LoadPeer(ctx context.Context, twin uint32) (offer string, err error)
	SavePeer(ctx context.Context, twin uint32, offer string) error
	ForgetPeer(ctx context.Context, twin uint32) error
}

// forgetful keeps nothing.
type forgetful struct{}

func (forgetful) LoadPeer(context.Context, uint32) (string, error) { return "", msgbus.ErrNotFound }
func (forgetful) SavePeer(context.Context, uint32, string) error   { return nil }
func (forgetful) ForgetPeer(context.Context, uint32) error         { return nil }

// A peer is what is known of a twin's relay. Zero is nothing.
type peer struct {
	version  int
	until    time.Time       // of version 1: when to greet it again
	doubtful time.Time       // of version 2: since when it answers as if it spoke version 1; zero: not
	doubted  time.Time       // and when it last did
	offer    *transfer.Offer // of version 2; nil when it offers no key
	kept     bool            // in the storage, as it is here
}

// peers remembers them.
type peers struct {
	memory    Memory
	requireV2 bool // nobody is believed to speak version 1
	log       zerolog.Logger

	mu    sync.Mutex
	known map[uint32]peer // guarded by mu
}

func newPeers(opts ClientOptions) *peers {
	return &peers{
		memory: opts.Memory, requireV2: opts.RequireV2 || opts.RequireEncryption, log: opts.Log,
		known: make(map[uint32]peer),
	}
}

// of returns what is known of a twin's relay, from the storage if this process
// knows nothing. While the storage does not answer nothing is sent: what it would
// say may be that the peer speaks version 2.
func (p *peers) of(ctx context.Context, twin uint32) (peer, error) {
	p.mu.Lock()
	known, ok := p.known[twin]
	p.mu.Unlock()
	if ok && (known.version == version2 || time.Now().Before(known.until)) {
		return known, nil
	}
	text, err := p.memory.LoadPeer(ctx, twin)
	switch {
	case errors.Is(err, msgbus.ErrNotFound):
		return peer{}, nil
	case err != nil:
		return peer{}, &msgbus.Failure{Reason: msgbus.StorageFailed, Detail: err.Error(), Rest: time.Second}
	}
	offer, err := transfer.ParseOffer(text)
	if err != nil {
		offer = &transfer.Offer{} // one that has run out: the next greeting brings another
	}
	known = peer{version: version2, offer: offer, kept: true}
	p.set(twin, known)
	return known, nil
}

func (p *peers) set(twin uint32, known peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[twin]; !ok && len(p.known) >= peersMost {
		clear(p.known)
	}
	p.known[twin] = known
}

// greeted notes that a twin's relay seems to speak version 2: it has sent a transfer,
// or wants one. It need not wait to be greeted again.
func (p *peers) greeted(twin uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.known[twin]; known.version == version1 {
		delete(p.known, twin)
	}
}

// answered notes a signed answer: the twin's relay speaks version 2, and offers
// a key, or none.
func (p *peers) answered(ctx context.Context, twin uint32, offer *transfer.Offer) {
	p.mu.Lock()
	before := p.known[twin]
	p.mu.Unlock()
	now := peer{version: version2, offer: offer}
	now.kept = before.kept && before.version == version2 && offerID(before.offer) == offerID(offer)
	if !now.kept {
		text := transfer.None
		if offer != nil {
			text = offer.Field()
		}
		err := p.memory.SavePeer(ctx, twin, text)
		now.kept = err == nil // else the next answer is another chance
		if err != nil {
			p.log.Debug().Uint32("twin", twin).Err(err).Msg("cannot keep what a peer speaks")
		}
	}
	p.set(twin, now)
}

func offerID(o *transfer.Offer) string {
	if o == nil {
		return ""
	}
	return o.ID
}

// unknowing notes an answer of a relay that knows no transfers, which was known as
// this before. It tells whether version 1 is to be spoken now: to one that has
// spoken version 2 only when it has answered so for a while.
func (p *peers) unknowing(ctx context.Context, twin uint32, known peer) (speakVersion1 bool) {
	now := time.Now()
	switch {
	case p.requireV2:
		return false
	case known.version != version2:
	case now.Sub(known.doubted) > doubtEnds:
		p.log.Warn().Uint32("twin", twin).Str("reason", string(msgbus.Downgraded)).Str("for", patienceWithDoubt.String()).
			Msg("twin has spoken version 2 and answers as if it did not; its messages wait, then they go as version 1")
		known.doubtful, known.doubted = now, now
		p.set(twin, known)
		return false
	case now.Sub(known.doubtful) < patienceWithDoubt:
		known.doubted = now
		p.set(twin, known)
		return false
	default:
		p.log.Warn().Uint32("twin", twin).Str("reason", string(msgbus.Downgraded)).Msg("twin does not speak version 2 any more; its messages go as version 1")
		if err := p.memory.ForgetPeer(ctx, twin); err != nil {
			p.log.Debug().Uint32("twin", twin).Err(err).Msg("cannot forget what a peer spoke")
		}
	}
	p.set(twin, peer{version: version1, until: now.Add(greetAgain)})
	return true
}
