package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/tlstest"
)

// securedPair is a fleet of which 1002 is asked over TLS, by its record. Neither
// runs yet.
func securedPair(t *testing.T, ca *tlstest.Authority) (a, b *fleettest.Site, pair tlstest.Pair) {
	t.Helper()
	f := fleettest.New(t)
	a, b = f.Site(1001), f.Site(1002)
	pair = ca.Issue("localhost", "127.0.0.1")
	b.Args = append(b.Args, "--tls-cert", pair.Certificate, "--tls-key", pair.Key)
	f.Register(b.ID, b.Identity.Account(), "https://"+b.Listen)
	return a, b, pair
}

// waits pushes a request that must not end before the relays understand each
// other, and returns the list for its reply.
func waits(from, to *fleettest.Site) (ret string) {
	from.T.Helper()
	m := fleettest.Request("echo", "it waited", to.ID).With("try", 1000)
	from.Push(m)
	return m.Text("ret")
}

func wantWaited(s *fleettest.Site, ret string) {
	s.T.Helper()
	if reply := s.Pop(ret); reply.Text("err") != "" || reply.Data() != "it waited" {
		s.T.Errorf("the reply is %s", reply)
	}
}

// With an authority of its own a fleet talks over TLS both ways, each side showing
// a certificate, and nobody else gets in.
func TestAFleetTalksOverTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	for i, s := range []*fleettest.Site{a, b} {
		pair := ca.Issue("localhost", "127.0.0.1")
		s.Args = append(s.Args, "--tls-cert", pair.Certificate, "--tls-key", pair.Key, "--tls-client-ca", ca.File,
			"--peer-ca", ca.File, "--peer-cert", pair.Certificate, "--peer-key", pair.Key)
		_, port, err := net.SplitHostPort(s.Listen)
		if err != nil {
			t.Fatal(err)
		}
		f.Register(s.ID, s.Identity.Account(), []string{"https://localhost:" + port, "https://" + s.Listen}[i])
		s.Launch()
		s.Echo()
	}
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
	a.WantAnswer(a.ID)

	for what, config := range map[string]*tls.Config{
		"no certificate": {RootCAs: ca.Pool()},
		"a stranger's":   {RootCAs: ca.Pool(), Certificates: []tls.Certificate{tlstest.New(t).Issue("localhost").Load()}},
	} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: fleettest.Patience}
		resp, err := client.Post("https://"+b.Listen+"/zbus-remote", "application/json", nil)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: answered %d", what, resp.StatusCode)
		}
	}
	if status, answer := fleettest.PostText(t, b.URL("/zbus-remote"), "{}"); status != http.StatusBadRequest {
		t.Errorf("a plain request: %d %s", status, answer)
	}
	b.Daemon.WantSaid("TLS handshake error")
}

// Somebody in between with a certificate of his own gets no message; and once the
// authority is the right one, what waited goes out, without a restart.
func TestAPeerOfAnotherAuthorityGetsNothing(t *testing.T) {
	t.Parallel()
	ca, wrong := tlstest.New(t), tlstest.New(t)
	a, b, _ := securedPair(t, ca)
	b.Start()
	b.Echo()
	a.Start() // believes the system's authorities
	a.WantError(fleettest.Request("echo", "x", b.ID).With("try", 0), "all retries done: twin 1002 has a certificate that is not believed here")
	a.Daemon.Stop()
	a.Start("--peer-ca", wrong.File)
	ret := waits(a, b)
	a.Daemon.WantSaid("reason=bad_certificate")
	right, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	tlstest.Write(t, wrong.File, 0o644, right)
	wantWaited(a, ret)
	a.WantAnswer(b.ID)
}

// A relay that takes messages only from its fleet's machines must not take those of
// a machine that has no certificate; with one, what waited goes out.
func TestARelayWithoutACertificateIsNotLetIn(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	a, b, pair := securedPair(t, ca)
	b.Start("--tls-client-ca", ca.File)
	b.Echo()
	a.Start("--peer-ca", ca.File)
	// In which words depends on who is faster, the refusal or the message.
	a.WantError(fleettest.Request("echo", "x", b.ID).With("try", 0), "all retries done: twin 1002 ")
	b.Daemon.WantSaid("client didn't provide a certificate")
	ret := waits(a, b)
	a.Daemon.Stop()
	a.Start("--peer-ca", ca.File, "--peer-cert", pair.Certificate, "--peer-key", pair.Key)
	wantWaited(a, ret)
	a.WantAnswer(b.ID)
}

// An ACME client replaces the certificate while the relay runs: who connects from
// then on sees the new one, connections that there are go on, and a mistake in it
// takes nothing away.
func TestACertificateIsReplacedWhileTheRelayRuns(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	a, b, pair := securedPair(t, ca)
	admin := ca.Issue("127.0.0.1")
	b.Launch("--admin-tls-cert", admin.Certificate, "--admin-tls-key", admin.Key)
	b.Daemon.WantSaid("serving")
	b.Echo()
	a.Start("--peer-ca", ca.File)
	a.WantAnswer(b.ID)
	shown := func(address string) (*tls.Conn, string) {
		t.Helper()
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: fleettest.Patience}, "tcp", address, &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	wantShown := func(address string, pair tlstest.Pair) {
		t.Helper()
		fleettest.Eventually(t, "the new certificate is shown", func() error {
			conn, serial := shown(address)
			_ = conn.Close()
			if serial != pair.Serial() {
				return fmt.Errorf("it shows %s, want %s", serial, pair.Serial())
			}
			return nil
		})
	}
	old, serial := shown(b.Listen)
	defer old.Close()
	if serial != pair.Serial() {
		t.Errorf("it shows %s, want %s", serial, pair.Serial())
	}
	ca.Renew(pair, "localhost", "127.0.0.1")
	wantShown(b.Listen, pair)
	b.Daemon.WantSaid("certificate read again")
	_ = old.SetDeadline(time.Now().Add(fleettest.Patience))
	_, err := fmt.Fprintf(old, "POST /zbus-remote HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n")
	if n, readErr := old.Read(make([]byte, 9)); err != nil || n == 0 {
		t.Errorf("the connection of before has ended: %v, %v", err, readErr)
	}
	ca.Renew(admin, "127.0.0.1")
	wantShown(b.Admin, admin)

	good := pair.Load()
	tlstest.Write(t, pair.Certificate, 0o644, []byte("half of it"))
	fleettest.Eventually(t, "it complains", func() error {
		conn, serial := shown(b.Listen)
		_ = conn.Close()
		if serial != good.Leaf.SerialNumber.String() {
			t.Fatalf("it shows %s", serial)
		}
		return said(b, "certificate not usable, keeping the one from before")
	})
	a.WantAnswer(b.ID)
}

func said(s *fleettest.Site, text string) error {
	if !strings.Contains(s.Daemon.Said(), text) {
		return fmt.Errorf("it does not say %q", text)
	}
	return nil
}

// A twin moves to TLS while others have its old record, for minutes yet. What they
// send meanwhile is answered with a 400, and must not be lost by it.
func TestATwinThatMovesToTLSLosesNothing(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	a, b, _ := securedPair(t, ca)
	b.Fleet.Register(b.ID, b.Identity.Account(), b.Listen)
	b.Start()
	b.Echo()
	a.Start("--peer-ca", ca.File)
	ret := waits(a, b)
	a.Daemon.WantSaid("reason=unreachable") // the 400 may be lost with the connection
	b.Fleet.Register(b.ID, b.Identity.Account(), "https://"+b.Listen)
	a.Daemon.Stop() // instead of minutes
	a.RDB.Del(t.Context(), a.RDB.Keys(t.Context(), "msgbus.system.twin.*").Val()...)
	a.Start("--peer-ca", ca.File)
	wantWaited(a, ret)
}

// Strangers write records: one that names a port at which no relay listens has the
// relay talk to somebody's Redis or mail server.
func TestAPortThatNobodyAllowedIsNeverDialled(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	b.Start()
	b.Echo()
	a.Without("--allow-port")
	for i, record := range []string{b.Listen, "https://" + b.Listen} {
		f.Stranger(uint32(2001+i), record)
	}
	_, port, err := net.SplitHostPort(b.Listen)
	if err != nil {
		t.Fatal(err)
	}
	a.Start()
	for _, id := range []uint32{b.ID, 2001, 2002} {
		a.WantError(fleettest.Request("echo", "x", id).With("try", 5), "the address in the twin's record may not be dialled", "--allow-port "+port)
	}
	a.Daemon.WantSaid("reason=address_not_allowed")
	for _, args := range [][]string{{"--allow-port", port}, {"--allow-port", "9000-9999", "--allow-port", "10000-32000"}, {"--peer-port", port}} {
		a.Daemon.Stop()
		a.Start(args...)
		a.WantAnswer(b.ID)
	}
}
