package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// resolvesTo is a resolver for which every name has these IPv4 addresses.
func resolvesTo(addresses ...string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerDNS(there, addresses)
		return here, nil
	}}
}

// answerDNS answers one query as over TCP (RFC 1035, 4.1 and 4.2.2).
func answerDNS(c net.Conn, addresses []string) {
	defer c.Close()
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size))
	if _, err := io.ReadFull(c, query); err != nil {
		return
	}
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // the root, type and class
	if query[end-3] != 1 {
		addresses = nil // only A is asked with success
	}
	answer := append([]byte{0, 0}, query[:end]...)
	copy(answer[4:], []byte{0x81, 0x80, 0, 1, 0, byte(len(addresses)), 0, 0, 0, 0})
	for _, a := range addresses {
		ip := netip.MustParseAddr(a).As4()
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		answer = append(answer, ip[:]...)
	}
	binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
	_, _ = c.Write(answer)
}

// A twin whose name has a forbidden address beside a good one that restarts
// would lose every message that comes meanwhile.
func TestANameIsRefusedOnlyIfNoneOfItsAddressesIsAllowed(t *testing.T) {
	guard := twin.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
	_, port, err := net.SplitHostPort(freeAddress(t)) // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addresses []string
		refused   bool
	}{
		{[]string{"127.0.0.2"}, true},
		{[]string{"127.0.0.2", "127.0.0.3"}, true},
		{[]string{"127.0.0.2", "127.0.0.1"}, false},
		{[]string{"127.0.0.1", "127.0.0.2"}, false},
		{[]string{"127.0.0.1"}, false},
	} {
		_, err := dialer(guard, resolvesTo(c.addresses...))(t.Context(), "tcp", "peer.example.:"+port)
		var refusal *msgbus.Refusal
		refused := errors.As(err, &refusal) && refusal.Reason == msgbus.AddressNotAllowed
		if err == nil || strings.Contains(err.Error(), "no such host") || refused != c.refused {
			t.Errorf("%v: %v, want a refusal: %t", c.addresses, err, c.refused)
		}
	}
}
