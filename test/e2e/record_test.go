package e2e

import (
	"net"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/twin"
)

// become gives the site's twin another key, and says so in its record.
func become(s *fleettest.Site, secret string, kt twin.KeyType) {
	s.T.Helper()
	identity, err := twin.NewIdentity(secret, kt)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Secret, s.Identity = secret, identity
	s.Without("--mnemonics-file")
	s.Args = append(s.Args, "--mnemonics-file", fleettest.SecretFile(s.T, secret), "--key-type", kt.String())
	s.Fleet.Register(s.ID, identity.Account(), s.Listen)
}

// Both kinds of keys are in use, and phrases and secret URIs in both.
func TestTwinsOfBothKeyTypesUnderstandEachOther(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	become(a, "neck stage box cup core magic produce exercise happy rely vocal then", twin.ED25519)
	become(b, "neck stage box cup core magic produce exercise happy rely vocal then//hard/soft", twin.SR25519)
	for _, s := range []*fleettest.Site{a, b} {
		s.Start()
		s.Echo()
	}
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
}

// A twin gets a new key. The other side still has the old one in its cache, and
// must not refuse the twin until that has run out.
func TestNewKeyOfATwinIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	a.Echo()
	b.Echo()
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
	a.Daemon.Stop()
	become(a, "//e2e//another", twin.SR25519)
	a.Start()
	a.WantAnswer(b.ID)
	b.WantAnswer(a.ID)
	b.Daemon.WantSaid("twin has a new key")
}

// Records name relays in many ways; the usual one is a bare IPv6 address, which
// a URL does not take as it is.
func TestAddressesOfAllFormsAreReached(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	host, port, err := net.SplitHostPort(b.Listen)
	if err != nil {
		t.Fatal(err)
	}
	records := []string{host, "localhost", "localhost:" + port}
	if l, err := net.Listen("tcp", "[::1]:"+port); err == nil {
		_ = l.Close()
		b.Without("--listen")
		b.Args = append(b.Args, "--listen", ":"+port)
		records = append(records, "::1", "[::1]", "[::1]:"+port, "0:0:0:0:0:0:0:1")
	} else {
		t.Logf("IPv6 is left out: %v", err)
	}
	b.Start()
	b.Echo()
	for i, record := range records {
		f.Register(b.ID, b.Identity.Account(), record)
		if i > 0 {
			a.Daemon.Stop() // it has the record of before for five minutes
			a.RDB.FlushAll(t.Context())
		}
		a.Start("--peer-port", port, "--allow-network", "::1/128")
		a.WantAnswer(b.ID)
	}
}

// A twin that only asks has no address. Asking it must fail at once.
func TestTwinWithoutAnAddressCannotBeAsked(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Start()
	a.Echo()
	f.Stranger(2001, "")
	a.WantError(fleettest.Request("echo", "x", 2001), "twin 2001 has no address in its record")
	a.WantAnswer(a.ID)
}
