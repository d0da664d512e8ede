package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
)

// measureNATS measures request and reply over two NATS servers that are joined as a
// leaf node is: apps at one, the service at the other. Nothing is kept on a disk. With
// signatures, each side signs what it sends and verifies what it gets.
func measureNATS(ctx context.Context, s setting, signs bool, duration time.Duration) (measurement, error) {
	joinAt, err := freeAddress()
	if err != nil {
		return measurement{}, err
	}
	leafAt := &url.URL{Scheme: "nats", Host: joinAt}
	port, err := strconv.Atoi(leafAt.Port())
	if err != nil {
		return measurement{}, err
	}
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

	there, err := nats.Connect(hub.ClientURL())
	if err != nil {
		return measurement{}, err
	}
	defer there.Close()
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
	_, err = there.Subscribe("bench", func(m *nats.Msg) {
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

func askNATS(ctx context.Context, nc *nats.Conn, seal sealer, s setting, duration time.Duration) (measurement, error) {
	data := make([]byte, s.size)
	// Until the leaf has heard of the service nobody answers.
	for end := time.Now().Add(10 * time.Second); ; {
		_, err := nc.Request("bench", seal.close(data), time.Second)
		if err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return measurement{}, fmt.Errorf("the NATS pair does not answer: %w", err)
		}
	}
	var mu sync.Mutex
	var latencies []float64 // guarded by mu
	var failure error       // guarded by mu
	began := time.Now()
	var asking sync.WaitGroup
	for range s.outstanding {
		asking.Go(func() {
			var own []float64
			var err error
			for err == nil && ctx.Err() == nil && time.Since(began) < duration {
				asked := time.Now()
				var answer *nats.Msg
				answer, err = nc.Request("bench", seal.close(data), 10*time.Second)
				if err == nil {
					if _, ok := seal.open(answer.Data); !ok {
						err = errors.New("a signature of the NATS pair does not fit")
					}
				}
				own = append(own, float64(time.Since(asked).Microseconds())/1000)
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, own...)
			failure = errors.Join(failure, err)
		})
	}
	asking.Wait()
	took := time.Since(began)
	if failure != nil || len(latencies) == 0 {
		return measurement{}, errors.Join(failure, ctx.Err())
	}
	slices.Sort(latencies)
	return measurement{
		roundTrips: float64(len(latencies)) / took.Seconds(),
		p50:        latencies[len(latencies)/2], p99: latencies[len(latencies)*99/100],
	}, nil
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
