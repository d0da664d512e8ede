package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/internal/freeport"
)

// measureNATS measures request and reply over two NATS servers that are joined as a
// leaf node is: apps at one, the service at the other. Nothing is kept on a disk. With
// signatures, each side signs what it sends and verifies what it gets.
func measureNATS(ctx context.Context, s setting, signs bool, duration time.Duration) (measurement, error) {
	port, release, err := freeport.Reserve()
	if err != nil {
		return measurement{}, err
	}
	defer release()
	leafAt := &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	hub, err := startNATS(&server.Options{LeafNode: server.LeafNodeOpts{Host: leafAt.Hostname(), Port: port}})
	if err != nil {
		return measurement{}, err
	}
	defer stopNATS(hub)
	leaf, err := startNATS(&server.Options{LeafNode: server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{{URLs: []*url.URL{leafAt}}}}})
	if err != nil {
		return measurement{}, err
	}
	defer stopNATS(leaf)

	here, err := nats.Connect(leaf.ClientURL())
	if err != nil {
		return measurement{}, err
	}
	defer here.Close()

	seal := plainly
	if signs {
		if seal, err = newSigner(); err != nil {
			return measurement{}, err
		}
	}
	for range runtime.GOMAXPROCS(0) { // a subscription calls one at a time
		there, err := nats.Connect(hub.ClientURL())
		if err != nil {
			return measurement{}, err
		}
		defer there.Close()
		_, err = there.QueueSubscribe("bench", "service", func(m *nats.Msg) {
			data, ok := seal.open(m.Data)
			if ok {
				_ = m.Respond(seal.close(data))
			}
		})
		if err != nil {
			return measurement{}, err
		}
		if err := there.Flush(); err != nil {
			return measurement{}, err
		}
	}
	if err := awaitNATS(ctx, here, seal); err != nil {
		return measurement{}, err
	}
	if _, err := askNATS(ctx, here, seal, s, duration/4); err != nil { // as ours
		return measurement{}, err
	}
	return askNATS(ctx, here, seal, s, duration)
}

func startNATS(o *server.Options) (*server.Server, error) {
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("NATS does not start")
	}
	return s, nil
}

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// awaitNATS waits until the leaf has heard of the service.
func awaitNATS(ctx context.Context, nc *nats.Conn, seal sealer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := nc.RequestWithContext(ctx, "bench", seal.close(nil))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the NATS pair does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func askNATS(ctx context.Context, nc *nats.Conn, seal sealer, s setting, duration time.Duration) (measurement, error) {
	data := make([]byte, s.size)
	var answered atomic.Int64
	began := time.Now()
	asking, ctx := errgroup.WithContext(ctx)
	for range s.outstanding {
		asking.Go(func() error {
			for ctx.Err() == nil && time.Since(began) < duration {
				answer, err := nc.Request("bench", seal.close(data), 10*time.Second)
				if err != nil {
					return err
				}
				if _, ok := seal.open(answer.Data); !ok {
					return errors.New("a signature of the NATS pair does not fit")
				}
				answered.Add(1)
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		return measurement{}, err
	}
	return measurement{roundTrips: float64(answered.Load()) / time.Since(began).Seconds()}, nil
}

// A sealer is what apps do to data before they send it, and after they got it.
type sealer struct {
	close func(data []byte) []byte
	open  func(sealed []byte) ([]byte, bool)
}

var plainly = sealer{
	close: func(data []byte) []byte { return data },
	open:  func(sealed []byte) ([]byte, bool) { return sealed, true },
}

// newSigner makes a key that both sides use: that costs the same as one each.
func newSigner() (sealer, error) {
	secret, err := sr25519.GenerateMiniSecretKey(rand.Reader)
	if err != nil {
		return sealer{}, err
	}
	pair := secret.ExpandEd25519().KeyPair()
	public := pair.PublicKey()
	signing := sr25519.NewSigningContext([]byte("substrate"))
	return sealer{
		close: func(data []byte) []byte {
			signature, err := pair.Sign(rand.Reader, signing.NewTranscriptBytes(data))
			if err != nil {
				return nil // whoever opens it says so
			}
			text, _ := signature.MarshalBinary()
			return append(text, data...)
		},
		open: func(sealed []byte) ([]byte, bool) {
			if len(sealed) < sr25519.SignatureSize {
				return nil, false
			}
			signature, err := sr25519.NewSignatureFromBytes(sealed[:sr25519.SignatureSize])
			data := sealed[sr25519.SignatureSize:]
			return data, err == nil && public.Verify(signing.NewTranscriptBytes(data), signature)
		},
	}, nil
}
