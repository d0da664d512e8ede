package redisconn

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const sentinelScheme = "sentinel://"

// Join puts an address together again that was cut at commas, as options that take a
// list are: sentinels are named in a list of their own. What is not such an address
// stays as it is.
func Join(parts []string) []string {
	if len(parts) > 1 && strings.HasPrefix(parts[0], sentinelScheme) {
		return []string{strings.Join(parts, ",")}
	}
	return parts
}

// ParseHosts is url.Parse for addresses that may name several hosts with commas
// between them. The URL has the first one only.
func ParseHosts(address string) (u *url.URL, hosts []string, err error) {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		u, err = url.Parse(address)
		return u, nil, err
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	authority, user := rest[:end], ""
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, authority = authority[:i+1], authority[i+1:]
	}
	hosts = strings.Split(authority, ",")
	if u, err = url.Parse(scheme + "://" + user + hosts[0] + rest[end:]); err != nil {
		return nil, nil, err
	}
	return u, hosts, nil
}

// sentinelSettings are what may stand behind the ? of an address.
var sentinelSettings = map[string]bool{"db": true, "tls": true, "sentinel_user": true, "sentinel_password": true}

// parseSentinelURL reads
// `sentinel://user:password@host:port,host:port/name?db=0&sentinel_user=…&sentinel_password=…&tls=all`.
// User and password before the hosts are those of the data servers, as in other
// addresses.
func parseSentinelURL(address string) (*Address, error) {
	u, hosts, err := ParseHosts(address)
	if err != nil {
		return nil, errors.New("the address of sentinels cannot be read: want sentinel://[user:password@]host:port,host:port/name?db=0, with what is no letter or digit of a password as %XX")
	}
	s := &sentinels{name: strings.Trim(u.Path, "/"), conns: make(map[*conn]struct{})}
	if s.name == "" || strings.Contains(s.name, "/") {
		return nil, errors.New("the address of sentinels does not name the master: want sentinel://host:port,host:port/name")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("what stands behind the ? of the sentinels' address cannot be read")
	}
	for name := range query {
		if !sentinelSettings[name] {
			return nil, errors.New("the address of sentinels takes db, tls, sentinel_user and sentinel_password behind the ?, and no other setting")
		}
	}
	a := &Address{sentinels: s}
	if a.Options.DB, err = strconv.Atoi(or(query.Get("db"), "0")); err != nil || a.Options.DB < 0 {
		return nil, errors.New("db in the address of sentinels is no number")
	}
	a.Options.Username = u.User.Username()
	a.Options.Password, _ = u.User.Password()
	var ofSentinels bool
	switch query.Get("tls") {
	case "":
	case "all":
		s.tls, ofSentinels = &tls.Config{MinVersion: tls.VersionTLS12}, true
	case "servers":
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	case "sentinels":
		ofSentinels = true
	default:
		return nil, errors.New("tls in the address of sentinels is neither all, servers nor sentinels")
	}
	for _, host := range hosts {
		name, port, err := net.SplitHostPort(host)
		if err != nil || name == "" || port == "" {
			return nil, errors.New("each sentinel is host:port, as in sentinel://host:26379,host2:26379/name")
		}
		opts := redis.Options{Addr: host, Username: query.Get("sentinel_user"), Password: query.Get("sentinel_password")}
		if ofSentinels {
			opts.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
		}
		s.options = append(s.options, opts)
	}
	a.Options.Addr = sentinelScheme + strings.Join(hosts, ",") + "/" + s.name
	return a, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
