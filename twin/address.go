package twin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ErrAddress is wrapped by every error of [Endpoint] and [Endpoints].
var ErrAddress = errors.New("bad address")

// Limits of the domain name system, in bytes.
const (
	nameLenMax  = 253
	labelLenMax = 63
)

// Endpoint turns the address of a twin record into the base of its relay's URLs,
// http://host:port or https://host:port. It takes what records hold: an IPv4
// address, a bare or bracketed IPv6 address, or a host name, each but the bare
// IPv6 with or without a port; defaultPort stands in for a missing one. With
// https:// before it, the relay is to be asked over TLS, and an IPv6 address needs
// its brackets.
//
// A record is written by a stranger, so all else is refused with an error that
// wraps [ErrAddress]: other URLs, users, paths, zones, and the spellings of IPv4
// that some resolvers expand and others do not (2130706433, 0177.0.0.1, 0x7f.1).
// http:// is refused as well: published relays read a plain address only, so it has
// one spelling, without. Endpoint looks at the text only. Where a name leads is for
// [Guard] to judge.
//
// What Endpoint returns, but for http://, it accepts and returns unchanged.
func Endpoint(address string, defaultPort uint16) (base string, err error) {
	scheme, rest := splitScheme(address)
	host, port, err := splitAddress(rest)
	if err == nil && scheme == schemeTLS && rest[0] != '[' && strings.Contains(host, ":") {
		err = errors.New("an IPv6 address in a URL stands in brackets")
	}
	if err != nil {
		return "", addressError(address, err)
	}
	if port == "" {
		port = strconv.Itoa(int(defaultPort))
	}
	if err := checkPort(port); err != nil {
		return "", addressError(address, err)
	}
	return scheme + net.JoinHostPort(host, port), nil
}

// EndpointsMax is how many addresses a record may name.
const EndpointsMax = 8

// Endpoints is [Endpoint] for all of a record's address, which may be a list: a twin
// may have several relays, each at an address of its own. Between them stand commas,
// spaces or both. What is named twice is returned once, at its first place. One that
// is refused has all of them refused, so that a mistake shows at once, and not when
// the others are down.
//
// Published relays, and ours of before, read no lists: for them the twin has no
// address that they can use.
func Endpoints(addresses string, defaultPort uint16) (bases []string, err error) {
	list := strings.FieldsFunc(addresses, func(c rune) bool { return c == ',' || c == ' ' })
	switch n := len(list); {
	case n == 0:
		list = []string{addresses} // for its error
	case n > EndpointsMax:
		return nil, addressError(addresses, fmt.Errorf("%d addresses, more than %d", n, EndpointsMax))
	}
	for _, address := range list {
		base, err := Endpoint(address, defaultPort)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	return bases, nil
}

// The schemes of a relay's URLs.
const (
	schemePlain = "http://"
	schemeTLS   = "https://"
)

// splitScheme returns what an address is to be asked over, and the rest of it.
func splitScheme(address string) (scheme, rest string) {
	if len(address) >= len(schemeTLS) && strings.EqualFold(address[:len(schemeTLS)], schemeTLS) {
		return schemeTLS, address[len(schemeTLS):]
	}
	return schemePlain, address
}

// addressError quotes an address that nobody vouches for: escaped, and cut.
func addressError(address string, err error) error {
	const quotedMax = 80
	if len(address) > quotedMax {
		address = address[:quotedMax] + "…"
	}
	return fmt.Errorf("%w %q: %w", ErrAddress, address, err)
}

// splitAddress returns a checked host without brackets, and the port as written,
// empty if there is none.
func splitAddress(address string) (host, port string, err error) {
	switch {
	case address == "":
		return "", "", errors.New("no host in it")
	case address[0] == '[':
		return splitBracketed(address)
	case strings.Count(address, ":") > 1:
		// Without brackets, all of it is the address: fe80::1:8051 has no port.
		host, err = ipv6(address)
		return host, "", err
	}
	host, port, hasPort := strings.Cut(address, ":")
	if hasPort && port == "" {
		return "", "", errors.New("no port after the colon")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), port, nil
	}
	host = strings.ToLower(host)
	return host, port, checkName(host)
}

func splitBracketed(address string) (host, port string, err error) {
	inside, after, closed := strings.Cut(address[1:], "]")
	if !closed {
		return "", "", errors.New("no closing bracket")
	}
	if host, err = ipv6(inside); err != nil || after == "" {
		return host, "", err
	}
	port, hasColon := strings.CutPrefix(after, ":")
	if !hasColon || port == "" {
		return "", "", errors.New("only a colon and a port may follow the bracket")
	}
	return host, port, nil
}

func ipv6(text string) (string, error) {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil || !ip.Is6():
		return "", errors.New("not an IPv6 address")
	case ip.Zone() != "":
		return "", errors.New("a zone names an interface of another machine")
	default:
		return ip.String(), nil
	}
}

func checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' {
		return errors.New("a port is a number from 1 to 65535")
	}
	return nil
}

// checkName accepts host names in lower case, with underscores because container
// networks have them, and with the final dot of an absolute name.
func checkName(name string) error {
	name = strings.TrimSuffix(name, ".")
	if len(name) > nameLenMax {
		return fmt.Errorf("a name has at most %d bytes", nameLenMax)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	// The rule of the WHATWG URL standard: a name that ends in a number is an
	// IPv4 address or nothing, and ParseAddr has already said that it is none.
	if isNumber(labels[len(labels)-1]) {
		return errors.New("neither a host name nor an IPv4 address in the usual form")
	}
	return nil
}

func checkLabel(label string) error {
	switch n := len(label); {
	case n == 0:
		return errors.New("empty part in the name")
	case n > labelLenMax:
		return fmt.Errorf("a part of a name has at most %d bytes", labelLenMax)
	case label[0] == '-' || label[n-1] == '-':
		return errors.New("a part of a name neither begins nor ends with a hyphen")
	}
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return errors.New("a name has letters, digits, hyphens, underscores and dots only")
		}
	}
	return nil
}

// isNumber reports what an IPv4 parser of the old school reads as a number:
// decimal or octal digits, or hex digits after 0x, of which there may be none.
func isNumber(label string) bool {
	digits, base16 := strings.CutPrefix(label, "0x")
	set := "0123456789"
	if base16 {
		set += "abcdef"
	}
	return strings.Trim(digits, set) == ""
}
