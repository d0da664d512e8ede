package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/msgbus"
)

// TLSFiles names the PEM files of a [TLS]. Each may be empty, but the
// certificate and its key go together.
type TLSFiles struct {
	Certificate string // what this side shows, with what stands between it and its authority
	Key         string // of the certificate
	Authorities string // whose certificates this side believes
	// CheckKey may refuse a file with a key: one that others can read. It may be nil.
	CheckKey func(*os.File) error
}

// A TLS is what one side of a connection shows and believes. It looks at its
// files at handshakes, at most once a second, and reads those again that have
// changed; while they have errors it goes on with what it has and logs why.
// Connections that there are go on.
//
// It speaks TLS 1.2 and 1.3 and, within, HTTP/1.1 only: with many messages in a
// POST, what HTTP/2 does at once in one connection is not needed, and it costs
// more. No session is resumed: each handshake is judged by the files of now.
type TLS struct {
	certificate *reloaded[*tls.Certificate] // nil: none is shown
	authorities *reloaded[*x509.CertPool]   // nil: a peer's must be of the system's, a client's is not asked for
}

// OpenTLS reads the files, of which there must be one.
func OpenTLS(files TLSFiles, log zerolog.Logger) (_ *TLS, err error) {
	t := new(TLS)
	if files.Certificate != "" {
		read := func() (*tls.Certificate, error) { return readCertificate(files, log) }
		if t.certificate, err = reload("certificate", log, read, files.Certificate, files.Key); err != nil {
			return nil, err
		}
	}
	if files.Authorities != "" {
		read := func() (*x509.CertPool, error) { return readAuthorities(files.Authorities) }
		if t.authorities, err = reload("certificates of authorities", log, read, files.Authorities); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// readCertificate tells of one that has run out and returns it all the same:
// somebody may believe it, and the relay is no worse off than without.
func readCertificate(files TLSFiles, log zerolog.Logger) (*tls.Certificate, error) {
	chain, err := readFile(files.Certificate, nil)
	if err != nil {
		return nil, err
	}
	key, err := readFile(files.Key, files.CheckKey)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate in %s with the key in %s: %w", files.Certificate, files.Key, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		log.Warn().Str("file", files.Certificate).Time("not_after", end).Msg("the certificate has run out")
	}
	return &pair, nil
}

func readAuthorities(name string) (*x509.CertPool, error) {
	text, err := readFile(name, nil)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("there is no certificate in %s that can be read", name)
	}
	return pool, nil
}

// Listener speaks TLS with those whom l accepts. A nil TLS leaves it plain.
func (t *TLS) Listener(l net.Listener) net.Listener {
	if t == nil {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.server(), nil },
	})
}

// server is how one client is met: with authorities, only if it shows a
// certificate of theirs.
func (t *TLS) server() *tls.Config {
	c := config()
	c.Certificates = []tls.Certificate{*t.certificate.get()}
	c.SessionTicketsDisabled = true
	if t.authorities != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, t.authorities.get()
	}
	return c
}

// client is how one peer is met: a nil TLS believes whom the system believes.
func (t *TLS) client(host string) *tls.Config {
	c := config()
	c.ServerName = host
	if t != nil && t.authorities != nil {
		c.RootCAs = t.authorities.get()
	}
	if t != nil && t.certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.certificate.get(), nil }
	}
	return c
}

func config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// over speaks TLS over what dial connects. The peer must have a certificate for
// the host that is dialled, which is that of its twin's record.
func (t *TLS) over(dial dialFunc, limit time.Duration) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		secured := tls.Client(conn, t.client(host))
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
}

// tlsFailure tells what went wrong between two sides' certificates, or nil. Either
// side may be mended, so the message is tried again.
func tlsFailure(twin uint32, err error) error {
	var ours *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var theirs *net.OpError
	failure := func(r msgbus.Reason, what string, err error) error {
		return &msgbus.Failure{Reason: r, Detail: fmt.Sprintf("twin %d %s: %s", twin, what, clip(err.Error()))}
	}
	switch {
	case errors.As(err, &ours):
		return failure(msgbus.BadCertificate, "has a certificate that is not believed here", ours.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return &msgbus.Failure{Reason: msgbus.Unreachable, Detail: fmt.Sprintf("twin %d speaks no TLS, though its record says https://", twin)}
	case !errors.As(err, &theirs) || theirs.Op != "remote error":
		return nil
	case strings.Contains(theirs.Err.Error(), "certificate"): // crypto/tls does not export its alerts
		return failure(msgbus.BadCertificate, "wants a certificate (--peer-cert), and not the one that it gets, if any", theirs.Err)
	default:
		return failure(msgbus.Unreachable, "does not agree on TLS", theirs.Err)
	}
}

// wantsTLS recognises how servers, Go's and nginx, answer a plain request at a port
// for TLS: with a 400, as if it were the request's fault.
func wantsTLS(body []byte) bool {
	text := string(body)
	return strings.Contains(text, "HTTP request to an HTTPS server") || strings.Contains(text, "plain HTTP request was sent to HTTPS port")
}

func speaksTLS(twin uint32) error {
	return &msgbus.Failure{Reason: msgbus.Unreachable, Detail: fmt.Sprintf("twin %d speaks TLS only, which its record does not say, or did not minutes ago", twin)}
}
