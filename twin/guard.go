package twin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// ErrAddressNotAllowed is wrapped by every refusal of a [Guard], also when it
// comes back through net.Dialer and http.Client.
var ErrAddressNotAllowed = errors.New("address not allowed")

// A Guard keeps twin records from leading the relay into its own network: to
// its Redis, its neighbours or a cloud's metadata service. It judges the address
// that is about to be connected to, after names were resolved, so that neither a
// name nor a redirect nor a second DNS answer gets around it.
//
// Allowed are the public unicast ranges and the overlay networks that twins live
// in, 200::/7 (Yggdrasil) and 400::/7 (Mycelium). The rest is forbidden unless a
// rule lifts the ban. Addresses that carry an IPv4 address are judged by it.
// Of ports only those are allowed that were named: a relay that posts to port 25
// or 6379 of whoever a stranger chooses is a tool for strangers.
//
// Use it as the Control of a net.Dialer, in a Transport whose Proxy is nil: a
// proxy would connect on its own judgement. A Guard never changes and is safe for
// concurrent use.
type Guard struct {
	allow []netip.Prefix
	ports []Ports
}

// NewGuard returns a guard that allows the given networks besides those allowed
// to everybody, and the given ports and no others. 0.0.0.0/0 with ::/0 allows
// every address, and IPv4-mapped prefixes (::ffff:10.0.0.0/104) mean the IPv4
// ones.
func NewGuard(allow []netip.Prefix, ports ...Ports) *Guard {
	g := &Guard{ports: slices.Clone(ports)}
	for _, p := range allow {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow = append(g.allow, p)
	}
	return g
}

// Control refuses a connection before its first packet. It has the signature of
// net.Dialer.Control; address is ip:port there, whatever name was dialled.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		// A Unix socket, or something newer: nothing that a twin record may name.
		return fmt.Errorf("%w: %s %q is not an IP address with a port", ErrAddressNotAllowed, network, address)
	}
	if err := g.Allowed(ap.Addr()); err != nil {
		return err
	}
	return g.allowedPort(ap.Port())
}

// allowedPort is [Guard.Allowed] for a port.
func (g *Guard) allowedPort(port uint16) error {
	if slices.ContainsFunc(g.ports, func(p Ports) bool { return p.contain(port) }) {
		return nil
	}
	return fmt.Errorf("%w: port %d is not one of those that may be dialled (if this twin is yours: --allow-port %d)", ErrAddressNotAllowed, port, port)
}

// Allowed returns nil, or an error that wraps [ErrAddressNotAllowed], says what
// the address is and which setting would allow it. It does not look at ports.
func (g *Guard) Allowed(addr netip.Addr) error {
	if !addr.IsValid() {
		return fmt.Errorf("%w: no address at all", ErrAddressNotAllowed)
	}
	addr = addr.WithZone("").Unmap()
	for _, p := range g.allow {
		if p.Contains(addr) {
			return nil
		}
	}
	if inner, how := embedded(addr); inner.IsValid() {
		if err := g.Allowed(inner); err != nil {
			return fmt.Errorf("%s carries an IPv4 address (%s): %w", addr, how, err)
		}
		return nil
	}
	what := forbidden(addr)
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w: %s is %s (if this twin is yours: --allow-network %s)",
		ErrAddressNotAllowed, addr, what, netip.PrefixFrom(addr, addr.BitLen()))
}

// A network is a range of addresses and what it is for.
type network struct {
	prefix netip.Prefix
	what   string
}

func networks(what string, prefixes ...string) []network {
	var list []network
	for _, p := range prefixes {
		list = append(list, network{netip.MustParsePrefix(p), what})
	}
	return list
}

// The tables are read from the top, and the first match counts. They follow
// IANA's registries of special-purpose addresses, and are never written to.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")

	// Forbidden among the IPv4 addresses, of which the others are public.
	special4 = concat(
		networks("unspecified", "0.0.0.0/8"),
		networks("loopback", "127.0.0.0/8"),
		networks("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
		networks("link-local", "169.254.0.0/16"),
		networks("shared by a provider's customers", "100.64.0.0/10"),
		networks("multicast", "224.0.0.0/4"),
		networks("broadcast", "255.255.255.255/32"),
		networks("reserved", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4"),
		networks("for documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
		networks("for benchmarks", "198.18.0.0/15"),
	)

	// Names for what is forbidden among the IPv6 addresses; those outside of
	// inUse6 would be forbidden without a name, too.
	special6 = concat(
		networks("unspecified", "::/128"),
		networks("loopback", "::1/128"),
		networks("IPv4-compatible", "::/96"),
		networks("translated by a local NAT64", "64:ff9b:1::/48"),
		networks("discarded", "100::/64"),
		networks("in a Teredo tunnel", "2001::/32"),
		networks("reserved", "2001::/23"),
		networks("for documentation", "2001:db8::/32", "3fff::/20"),
		networks("private", "fc00::/7"),
		networks("link-local", "fe80::/10"),
		networks("site-local", "fec0::/10"),
		networks("multicast", "ff00::/8"),
	)

	// Allowed among the IPv6 addresses, if not in special6: what IANA has given
	// out as global unicast, and the overlay networks.
	inUse6 = concat(
		networks("global unicast", "2000::/3"),
		networks("overlay", "200::/7", "400::/7"),
	)
)

func concat(lists ...[]network) (all []network) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// forbidden says what kind of address it is that nobody may connect to without
// a rule, and "" for an ordinary address.
func forbidden(addr netip.Addr) string {
	if addr.Is4() {
		what, _ := lookup(special4, addr)
		return what
	}
	if what, special := lookup(special6, addr); special {
		return what
	}
	if _, ok := lookup(inUse6, addr); !ok {
		return "outside of the ranges in use"
	}
	return ""
}

func lookup(table []network, addr netip.Addr) (what string, found bool) {
	for _, n := range table {
		if n.prefix.Contains(addr) {
			return n.what, true
		}
	}
	return "", false
}

// embedded returns the IPv4 address that a gateway would connect to in our name.
// Teredo and local NAT64 carry one as well, but are forbidden whole: the one is
// obfuscated and out of use, in the other its place is for the site to choose.
func embedded(addr netip.Addr) (inner netip.Addr, how string) {
	if !addr.Is6() {
		return netip.Addr{}, ""
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), "NAT64"
	case sixTo4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), "6to4"
	default:
		return netip.Addr{}, ""
	}
}
