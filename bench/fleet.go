package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// A fleet is many twins in one process, because a thousand relays and as many Redis
// servers do not fit on one machine. Each has a key, a listener and both ends of the
// wire between relays as msgbusd has them; what is missing is a relay and a Redis
// behind them: an echo answers at once. Its process is counted apart.
type fleet struct {
	count        int
	port         int
	key          string // type
	askerAt      string
	askerAccount string // account
}

const firstOfFleet = 2001

// fleetMode is the word on the command line that makes the program a fleet.
const fleetMode = "fleet"

func (f *fleet) flags() *flag.FlagSet {
	flags := flag.NewFlagSet(fleetMode, flag.ContinueOnError)
	flags.IntVar(&f.count, "count", 1, "`number` of twins")
	flags.IntVar(&f.port, "port", 0, "`port` of all of them")
	flags.StringVar(&f.key, "key", "sr25519", "`type` of their keys")
	flags.StringVar(&f.askerAt, "asker-at", "", "`address` of the relay that asks them")
	flags.StringVar(&f.askerAccount, "asker", "", "`account` of its twin")
	return flags
}

// args are what flags reads.
func (f *fleet) args() []string {
	return []string{fleetMode, "-count", strconv.Itoa(f.count), "-port", strconv.Itoa(f.port), "-key", f.key,
		"-asker-at", f.askerAt, "-asker", f.askerAccount}
}

// records are what a registry says of the fleet. Each twin has an address of
// loopback, since to a relay another address is another host.
func (f *fleet) records() ([]twin.Record, error) {
	records := make([]twin.Record, f.count)
	for i := range records {
		identity, err := f.identity(i)
		if err != nil {
			return nil, err
		}
		if records[i], err = twin.NewRecord(uint32(firstOfFleet+i), identity.Account(), f.address(i)); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func (f *fleet) address(i int) string {
	return net.JoinHostPort(fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250), strconv.Itoa(f.port))
}

func (f *fleet) identity(i int) (*twin.Identity, error) {
	return newIdentity(secretOf(firstOfFleet+i), f.key)
}

// runFleet is the process of a fleet, until ctx ends.
func runFleet(ctx context.Context, args []string) error {
	var f fleet
	if err := f.flags().Parse(args); err != nil {
		return err
	}
	asker, err := twin.NewRecord(asker, f.askerAccount, f.askerAt)
	if err != nil {
		return err
	}
	serving, ctx := errgroup.WithContext(ctx)
	for i := range f.count {
		identity, err := f.identity(i)
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", f.address(i))
		if err != nil {
			return err
		}
		serveEcho(ctx, serving, listener, uint32(firstOfFleet+i), identity, phoneBook{asker, i})
	}
	fmt.Fprintln(os.Stdout, "serving")
	return serving.Wait()
}

// serveEcho is a twin of the fleet.
func serveEcho(ctx context.Context, serving *errgroup.Group, l net.Listener, id uint32, identity *twin.Identity, book phoneBook) {
	client := httpapi.NewClient(httpapi.ClientOptions{Twin: id}, book, identity)
	e := &echo{twin: id, client: client, requests: make(chan *msgbus.Message, 100_000)}
	server := httpapi.HTTPServer(httpapi.NewServer(httpapi.ServerOptions{
		Twin: id, Greeted: client.Greeted, Opener: transfer.NewOpener(id, newSealKeys(), time.Now), Stop: ctx.Done(),
	}, e, e, book, identity).Handler())
	serving.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	serving.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	serving.Go(func() error {
		defer client.Close()
		return e.answer(ctx)
	})
}

// An echo is in the place of a relay, its Redis and a service.
type echo struct {
	twin     uint32
	client   *httpapi.Client
	requests chan *msgbus.Message
}

var errNoEcho = msgbus.Refuse(msgbus.NotExposed, "a fleet takes requests in transfers only")

func (e *echo) AcceptRequest(context.Context, *msgbus.Message) error { return errNoEcho }
func (e *echo) AcceptReply(context.Context, *msgbus.Message) error   { return errNoEcho }
func (e *echo) AcceptCommand(context.Context, *msgbus.Message) (string, error) {
	return "", errNoEcho
}
func (e *echo) Results(context.Context, string) (uint32, []string, error) {
	return 0, nil, msgbus.ErrNotFound
}

func (e *echo) AcceptTransfer(_ context.Context, t *msgbus.Transfer) ([]error, error) {
	errs := make([]error, len(t.Messages))
	for i, o := range t.Messages {
		select {
		case e.requests <- o.Message:
		default:
			errs[i] = msgbus.Refuse(msgbus.QueueFull, "the echo is behind")
		}
	}
	return errs, nil
}

// answer sends back what there is, again and again: what comes meanwhile goes in the
// next transfer, as on a lane.
func (e *echo) answer(ctx context.Context) error {
	const most = 128
	for {
		var replies []msgbus.Outgoing
		select {
		case <-ctx.Done():
			return nil
		case request := <-e.requests:
			replies = append(replies, e.replyTo(request))
		}
		for range min(len(e.requests), most-1) {
			replies = append(replies, e.replyTo(<-e.requests))
		}
		for _, err := range e.client.Send(ctx, asker, replies) {
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("twin %d answers: %w", e.twin, err)
			}
		}
	}
}

func (e *echo) replyTo(m *msgbus.Message) msgbus.Outgoing {
	m.Source, m.Destinations = e.twin, []uint32{m.Source}
	return msgbus.Outgoing{Kind: msgbus.ReplyParcel, Message: m}
}

// A phoneBook knows the twin that asks, and no other.
type phoneBook struct {
	asker twin.Record
	turn  int // of its addresses, the one that comes first here: so they are shared out
}

func (b phoneBook) Endpoints(context.Context, uint32) ([]string, error) {
	all, err := twin.Endpoints(b.asker.Address, 0)
	if err != nil {
		return nil, err
	}
	first := b.turn % len(all)
	return append(all[first:len(all):len(all)], all[:first]...), nil
}

func (b phoneBook) Verify(_ context.Context, id uint32, challenge, signature []byte) error {
	if id != b.asker.ID || twin.Verify(b.asker.PublicKey, challenge, signature) != nil {
		return msgbus.Refuse(msgbus.BadSignature, "not of twin %d", b.asker.ID)
	}
	return nil
}

// sealKeys are one key that peers seal for.
type sealKeys map[string][]byte

const sealKey = "00000000000000f1"

func newSealKeys() sealKeys {
	private := make([]byte, 32)
	_, _ = rand.Read(private) // never fails
	return sealKeys{sealKey: private}
}

func (k sealKeys) TransferKeys(context.Context) (map[string][]byte, string, error) {
	return k, sealKey, nil
}
