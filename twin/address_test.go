package twin

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
)

// The usual record is a bare IPv6 address, which net.Dial and URLs refuse: half
// the network would be out of reach.
func TestEveryFormOfAddressInRecordsBecomesDialable(t *testing.T) {
	longest := strings.Repeat("a", 63)
	longest = strings.Join([]string{longest, longest, longest, longest[:61]}, ".")
	for address, want := range map[string]string{
		"185.206.122.7":                        "185.206.122.7:8051",
		"185.206.122.7:80":                     "185.206.122.7:80",
		"202:6df5:9559:4c41:fa57:b09f:6e:ee0f": "[202:6df5:9559:4c41:fa57:b09f:6e:ee0f]:8051",
		"[202:6df5::ee0f]":                     "[202:6df5::ee0f]:8051",
		"[202:6df5::ee0f]:9000":                "[202:6df5::ee0f]:9000",
		"202:6DF5:0::ee0f":                     "[202:6df5::ee0f]:8051",
		"2a02::1:8051":                         "[2a02::1:8051]:8051",
		"::1":                                  "[::1]:8051", // forbidden, but by the Guard
		"::ffff:127.0.0.1":                     "[::ffff:127.0.0.1]:8051",
		"127.0.0.1:1":                          "127.0.0.1:1",
		"relay":                                "relay:8051",
		"relay.example.org":                    "relay.example.org:8051",
		"Relay.Example.ORG:65535":              "relay.example.org:65535",
		"relay.example.org.":                   "relay.example.org.:8051",
		"relay_b":                              "relay_b:8051",
		"1and1.example.org":                    "1and1.example.org:8051",
		"1.2.3.4.example":                      "1.2.3.4.example:8051",
		"0x7f":                                 "", "0x7f.example": "0x7f.example:8051",
		"xn--mnchen-3ya.example": "xn--mnchen-3ya.example:8051",
		"localhost":              "localhost:8051",
		longest:                  longest + ":8051",

		"https://relay.example.org":     "https://relay.example.org:8051",
		"https://Relay.example.org:443": "https://relay.example.org:443",
		"HTTPS://relay":                 "https://relay:8051",
		"https://1.2.3.4":               "https://1.2.3.4:8051",
		"https://1.2.3.4:443":           "https://1.2.3.4:443",
		"https://[202:6DF5::ee0f]":      "https://[202:6df5::ee0f]:8051",
		"https://[202:6df5::ee0f]:9000": "https://[202:6df5::ee0f]:9000",
		"https://[::ffff:127.0.0.1]":    "https://[::ffff:127.0.0.1]:8051",
		"https":                         "https:8051", // a name like others
		"https:443":                     "https:443",
	} {
		got, err := Endpoint(address, 8051)
		if want == "" {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%q: %q, %v", address, got, err)
			}
			continue
		}
		if !strings.HasPrefix(want, "https://") {
			want = "http://" + want
		}
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", address, got, err, want)
		}
	}
}

// A record is written by a stranger. What is refused here never reaches a
// resolver or a URL parser that reads it in another way than the guard did.
func TestWhatIsNoPlainHostAndPortIsRefused(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, address := range []string{
		"", " ", ":", ":8051", "http://relay", "http://relay:80", "//relay", "relay/path", "relay:80/path", "relay?x", "relay#x",
		"user@relay", "user:pw@relay:80", "unix:/run/redis.sock", "unix:redis", "/run/redis.sock", "@abstract",
		"re lay", " relay", "relay ", "relay\n", "relay\x00", "relay\r\nHost: x", "rélay", "１２７.0.0.1", "relay%00", "re\\lay",
		"2130706433", "0177.0.0.1", "0x7f.1", "0x7f.0.0.1", "0X7F.1", "127.1", "127.0.0.01", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "1.2.3", "0x", "relay.0x", "relay.08",
		"2130706433:80", "0x7f.1:80",
		"fe80::1%eth0", "[fe80::1%eth0]:80", "[fe80::1%25eth0]:80",
		"relay:", "relay:0", "relay:65536", "relay:-1", "relay:+80", "relay:080", "relay:http", "relay:80:80", "relay:8 0",
		"[::1", "[::1]x", "[::1]:", "[::1]80", "[]", "[]:80", "[127.0.0.1]", "[relay]:80", "[[::1]]", "::1]", "[::1]]:80", ":::", "1::2::3", "202:6df5", "::1:80:x",
		"HTTP://relay", "https:relay", "https:/relay", "https://", "https://:443", "https:///relay", "https://https://relay", "https://relay/", "https://relay:443/", "https://relay/path",
		"https://relay?x", "https://relay#x", "https://relay:443?", "https://relay#", "https://user@relay", "https://user:pw@relay:443", "https://relay:", "https://relay:0", "https://relay:https",
		"https://202::1", "https://202::1:443", "https://[fe80::1%eth0]", "https://[fe80::1%25eth0]:443", "https://[relay]", "https://[127.0.0.1]:443", "https://2130706433", "https://0177.0.0.1:443",
		"https://0x7f.1", "https://127.1", "https:\\\\relay", "https://relay\\path", "https://re lay", " https://relay", "https://relay\r\nHost: x", "https+unix://relay", "wss://relay", "ftp://relay", "file:///etc/passwd", "unix:///run/redis.sock",
		"-relay", "relay-", "a..b", ".relay", "relay..", ".", long + "a.org", long + "." + long + "." + long + "." + long,
	} {
		if got, err := Endpoint(address, 8051); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: accepted as %q (%v)", address, got, err)
		} else if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 300 {
			t.Errorf("%q: an error that does not belong in a log: %q", address, err)
		}
	}
	if _, err := Endpoint("relay", 0); !errors.Is(err, ErrAddress) {
		t.Errorf("no port at all: %v", err)
	}
}

// Property: what is accepted comes back unchanged, and net and net/url read in it
// the host and the port that we read, and nothing else.
func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{
		"1.2.3.4", "202::1", "[202::1]:80", "relay.example.org:80", "0x7f.1", "fe80::1%eth0", "u@h:1", "::ffff:1.2.3.4",
		"https://relay", "https://[202::1]:443", "HTTPS://1.2.3.4:443", "https://u@h", "https://h/", "http://h",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		base, err := Endpoint(address, 8051)
		if err != nil {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%q: untyped error %v", address, err)
			}
			return
		}
		plain, isPlain := strings.CutPrefix(base, "http://")
		if again, err := Endpoint(plain, 1); err != nil || again != base {
			t.Errorf("%q became %q and then %q, %v", address, base, again, err)
		}
		host, port, err := net.SplitHostPort(strings.TrimPrefix(plain, "https://"))
		if err != nil {
			t.Fatalf("%q became %q: %v", address, base, err)
		}
		u, err := url.Parse(base + "/zbus-remote")
		if err != nil || u.Hostname() != host || u.Port() != port || u.User != nil || u.Path != "/zbus-remote" || u.RawQuery != "" || u.Fragment != "" || u.Scheme == "http" != isPlain {
			t.Errorf("%q became %q, which a URL reads as %+v, %v", address, base, u, err)
		}
	})
}
