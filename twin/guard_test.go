package twin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// A twin record that says 127.0.0.1:6379 turns the relay into a hand inside the
// operator's network: FAILURES.md row 34.
func TestTheGuardForbidsWhatIsNotPublicInEveryDisguise(t *testing.T) {
	g := NewGuard(nil)
	for what, addrs := range map[string]string{
		"loopback":      "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1",
		"unspecified":   "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0",
		"private":       "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00::1 fdff:ffff::1 ::ffff:10.0.0.1",
		"link-local":    "169.254.169.254 fe80::1 febf::1 fe80::1%eth0 ::ffff:169.254.169.254",
		"multicast":     "224.0.0.1 239.255.255.255 ff02::1 ff0e::1",
		"broadcast":     "255.255.255.255",
		"reserved":      "192.0.0.1 192.0.0.170 192.88.99.1 240.0.0.1 2001:1::1 2001:20::1",
		"documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
		"benchmarks":    "198.18.0.1 198.19.255.255",
		"customers":     "100.64.0.1 100.127.255.255",
		"site-local":    "fec0::1",
		"compatible":    "::7f00:1 ::10.0.0.1 ::808:808",
		"discarded":     "100::1",
		"Teredo":        "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2",
		"NAT64":         "64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b::",
		"local NAT64":   "64:ff9b:1::7f00:1 64:ff9b:1:fffe::808:808",
		"6to4":          "2002:7f00:1:: 2002:a00:1::1 2002:c0a8:101::1 2002::1",
		"outside of":    "1::1 64:ff9b:2::1 600::1 4000::1 8000::1 5f00::1 fbff::1 100:0:0:1::1 ::ffff:0:7f00:1",
	} {
		for text := range strings.FieldsSeq(addrs) {
			err := g.Allowed(netip.MustParseAddr(text))
			if !errors.Is(err, ErrAddressNotAllowed) {
				t.Errorf("%s: %v, want it forbidden", text, err)
				continue
			}
			if !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "--allow-network ") {
				t.Errorf("%s: %q neither says %q nor what would allow it", text, err, what)
			}
		}
	}
	if err := g.Allowed(netip.Addr{}); !errors.Is(err, ErrAddressNotAllowed) {
		t.Errorf("no address: %v", err)
	}
}

// Most twins live on an overlay network. A guard that takes it for private cuts
// the relay off from them.
func TestTheGuardAllowsPublicAndOverlayAddresses(t *testing.T) {
	g := NewGuard(nil)
	for text := range strings.FieldsSeq(`1.1.1.1 8.8.8.8 185.206.122.7 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 192.0.1.1 198.17.0.1 198.20.0.1
		223.255.255.255 ::ffff:8.8.8.8 2606:4700:4700::1111 2a02:1802:5e::1 3ffe::1 2001:4860::1 2001:200::1
		200::1 202:6df5:9559:4c41:fa57:b09f:6e:ee0f 3ff::1 400::1 5ff::1 64:ff9b::808:808 2002:808:808::1`) {
		if err := g.Allowed(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A site that allows its own network must be able to, in whatever notation, and
// must not open more by it.
func TestAnAllowedNetworkLiftsTheBanForItselfOnly(t *testing.T) {
	for rule, c := range map[string]struct{ allowed, forbidden string }{
		"10.1.0.0/16":         {"10.1.2.3 ::ffff:10.1.2.3 64:ff9b::a01:203 2002:a01:203::1", "10.2.0.1 127.0.0.1 64:ff9b::a02:1 ::10.1.2.3"},
		"10.1.2.3/16":         {"10.1.9.9", "10.2.0.1"}, // host bits set
		"::ffff:10.1.0.0/112": {"10.1.2.3 ::ffff:10.1.2.3", "10.2.0.1"},
		"::ffff:0.0.0.0/96":   {"127.0.0.1 ::ffff:127.0.0.1", "::1"},
		"127.0.0.1/32":        {"127.0.0.1", "127.0.0.2 ::1"},
		"fd00::/8":            {"fd12::1", "fc00::1 fe80::1"},
		"fe80::/10":           {"fe80::1%eth0", "fd00::1"},
		"64:ff9b::/96":        {"64:ff9b::7f00:1", "127.0.0.1"},
		"0.0.0.0/0":           {"127.0.0.1 255.255.255.255 64:ff9b::7f00:1", "::1"},
		"::/0":                {"::1 fe80::1 2001::1 64:ff9b::7f00:1", "127.0.0.1 ::ffff:127.0.0.1"},
	} {
		g := NewGuard([]netip.Prefix{netip.MustParsePrefix("203.0.113.9/32"), prefix(t, rule)})
		for text := range strings.FieldsSeq(c.allowed) {
			if err := g.Allowed(netip.MustParseAddr(text)); err != nil {
				t.Errorf("rule %s: %s: %v", rule, text, err)
			}
		}
		for text := range strings.FieldsSeq(c.forbidden) {
			if err := g.Allowed(netip.MustParseAddr(text)); !errors.Is(err, ErrAddressNotAllowed) {
				t.Errorf("rule %s: %s: %v, want it forbidden", rule, text, err)
			}
		}
	}
	NewGuard([]netip.Prefix{{}}) // must not panic
}

// prefix parses what netip.ParsePrefix may refuse: IPv4-mapped prefixes.
func prefix(t *testing.T, text string) netip.Prefix {
	t.Helper()
	addr, bits, _ := strings.Cut(text, "/")
	n := 0
	for _, digit := range bits {
		n = 10*n + int(digit-'0')
	}
	p := netip.PrefixFrom(netip.MustParseAddr(addr), n)
	if !p.IsValid() {
		t.Fatalf("bad prefix %s", text)
	}
	return p
}

// Refusing must come before the first packet: what listens there sees nothing.
// Without Control in the dialer this test fails.
func TestADialerWithTheGuardOpensNoConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	guarded := &net.Dialer{Control: NewGuard(nil, allPorts).Control}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		conn, err := guarded.DialContext(context.Background(), "tcp", host+":"+port)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, ErrAddressNotAllowed) {
			t.Errorf("%s: %v", host, err)
		}
	}

	// The first connection that arrives is one that a rule allowed.
	allowing := &net.Dialer{Control: NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, allPorts).Control}
	conn, err := allowing.DialContext(context.Background(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first := <-accepted
	defer first.Close()
	if first.RemoteAddr().String() != conn.LocalAddr().String() {
		t.Errorf("the first connection is from %s, not from %s: a refused dial got through", first.RemoteAddr(), conn.LocalAddr())
	}
	listener.Close()
	for conn := range accepted {
		t.Errorf("another connection, from %s", conn.RemoteAddr())
		conn.Close()
	}
}

// A peer that is allowed may answer with a redirect into the network; a client
// that follows it is stopped at the next dial, and the reason gets through.
func TestARedirectIntoTheNetworkIsStoppedAtTheDial(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer inside.Close()
	g := NewGuard(nil, allPorts)
	first := true
	transport := &http.Transport{DialContext: (&net.Dialer{Control: g.Control}).DialContext}
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if first {
			first = false
			return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {inside.URL}}, Body: http.NoBody, Request: r}, nil
		}
		return transport.RoundTrip(r)
	})}
	resp, err := client.Get("http://peer.example/zbus-remote")
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if !errors.Is(err, ErrAddressNotAllowed) {
		t.Errorf("%v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Unix sockets have no IP address to be judged by.
func TestTheGuardRefusesWhatIsNoIPAddress(t *testing.T) {
	g := NewGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, allPorts)
	for _, address := range []string{"/run/redis.sock", "@abstract", "", "localhost:80", "127.0.0.1"} {
		if err := g.Control("unix", address, nil); !errors.Is(err, ErrAddressNotAllowed) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// allPorts leaves the judgement to the address.
var allPorts = Ports{First: 1, Last: 65535}

// A record that says relay.example:25 has the relay talk to a mail server, and
// 8.8.8.8:6379 to somebody's Redis, in our name.
//
// Broken by: Control without allowedPort.
func TestTheGuardAllowsOnlyThePortsThatWereNamed(t *testing.T) {
	g := NewGuard([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports{8051, 8051}, Ports{9000, 9002})
	for _, address := range []string{"8.8.8.8:8051", "8.8.8.8:9000", "8.8.8.8:9001", "8.8.8.8:9002", "10.1.2.3:8051", "[202::1]:8051", "[::ffff:8.8.8.8]:9001"} {
		if err := g.Control("tcp", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for address, setting := range map[string]string{
		"8.8.8.8:25": "--allow-port 25", "8.8.8.8:6379": "--allow-port 6379", "8.8.8.8:8050": "--allow-port 8050", "8.8.8.8:8052": "--allow-port 8052",
		"8.8.8.8:8999": "--allow-port 8999", "8.8.8.8:9003": "--allow-port 9003", "10.1.2.3:22": "--allow-port 22", "[202::1]:65535": "--allow-port 65535",
		"127.0.0.1:25": "--allow-network 127.0.0.1/32", // the address is the greater matter
	} {
		if err := g.Control("tcp", address, nil); !errors.Is(err, ErrAddressNotAllowed) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v, want it forbidden unless %s", address, err, setting)
		}
	}
	if err := NewGuard(nil).Control("tcp", "8.8.8.8:8051", nil); !errors.Is(err, ErrAddressNotAllowed) {
		t.Errorf("a guard to which no port was named: %v", err)
	}
}

// A range that is read as another one opens ports that nobody meant.
func TestPortsAreOnePortOrARange(t *testing.T) {
	for text, want := range map[string]Ports{"8100": {8100, 8100}, "1": {1, 1}, "65535": {65535, 65535}, "8000-8999": {8000, 8999}, "1-65535": {1, 65535}, "80-80": {80, 80}} {
		if got, err := ParsePorts(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "0", "65536", "80-", "-80", "90-80", "0-80", "80-65536", "80-90-100", "080", "+80", " 80", "80 - 90", "80,90", "http", "*"} {
		if got, err := ParsePorts(text); err == nil {
			t.Errorf("%q: taken for %v", text, got)
		}
	}
}
