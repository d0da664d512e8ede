package e2e

import (
	"net"
	"testing"

	"github.com/msgbusd/msgbusd/twin"
)

// become gives the site's twin another key, and says so in its record.
func (s *site) become(secret string, kt twin.KeyType) {
	s.t.Helper()
	identity, err := twin.NewIdentity(secret, kt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.secret, s.identity = secret, identity
	s.without("--mnemonics-file")
	s.args = append(s.args, "--mnemonics-file", secretFile(s.t, secret), "--key-type", kt.String())
	s.fleet.register(s.id, identity.Account(), s.listen)
}

// Both kinds of keys are in use, and phrases and secret URIs in both.
func TestTwinsOfBothKeyTypesUnderstandEachOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	a.become("neck stage box cup core magic produce exercise happy rely vocal then", twin.ED25519)
	b.become("neck stage box cup core magic produce exercise happy rely vocal then//hard/soft", twin.SR25519)
	for _, s := range []*site{a, b} {
		s.start()
		s.echo()
	}
	a.wantAnswer(b.id)
	b.wantAnswer(a.id)
}

// A twin gets a new key. The other side still has the old one in its cache, and
// must not refuse the twin until that has run out.
func TestNewKeyOfATwinIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	a.echo()
	b.echo()
	a.wantAnswer(b.id)
	b.wantAnswer(a.id)
	a.daemon.stop()
	a.become("//e2e//another", twin.SR25519)
	a.start()
	a.wantAnswer(b.id)
	b.wantAnswer(a.id)
	b.daemon.wantSaid("twin has a new key")
}

// Records name relays in many ways; the usual one is a bare IPv6 address, which
// a URL does not take as it is.
func TestAddressesOfAllFormsAreReached(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	host, port, err := net.SplitHostPort(b.listen)
	if err != nil {
		t.Fatal(err)
	}
	records := []string{host, "localhost", "localhost:" + port}
	if l, err := net.Listen("tcp", "[::1]:"+port); err == nil {
		_ = l.Close()
		b.without("--listen")
		b.args = append(b.args, "--listen", ":"+port)
		records = append(records, "::1", "[::1]", "[::1]:"+port, "0:0:0:0:0:0:0:1")
	} else {
		t.Logf("IPv6 is left out: %v", err)
	}
	b.start()
	b.echo()
	for i, record := range records {
		f.register(b.id, b.identity.Account(), record)
		if i > 0 {
			a.daemon.stop() // it has the record of before for five minutes
			a.rdb.FlushAll(t.Context())
		}
		a.start("--peer-port", port, "--allow-network", "::1/128")
		a.wantAnswer(b.id)
	}
}

// A twin that only asks has no address. Asking it must fail at once.
func TestTwinWithoutAnAddressCannotBeAsked(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.start()
	a.echo()
	f.stranger(2001, "")
	a.wantError(request("echo", "x", 2001), "twin 2001 has no address in its record")
	a.wantAnswer(a.id)
}
