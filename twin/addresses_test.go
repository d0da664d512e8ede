package twin

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// A twin with two relays must be found at both, however its operator parts their
// addresses; and a list that is wrong must be refused as a whole, or the mistake is
// found when the first relay is down.
func TestARecordMayNameSeveralAddresses(t *testing.T) {
	for addresses, want := range map[string][]string{
		"10.0.0.1:8051":                          {"http://10.0.0.1:8051"},
		"10.0.0.1:8051,10.0.0.2:8051":            {"http://10.0.0.1:8051", "http://10.0.0.2:8051"},
		"10.0.0.1 10.0.0.2:9000":                 {"http://10.0.0.1:8051", "http://10.0.0.2:9000"},
		"10.0.0.2, 10.0.0.1":                     {"http://10.0.0.2:8051", "http://10.0.0.1:8051"},
		"202:6df5::ee0f,https://b.example:443":   {"http://[202:6df5::ee0f]:8051", "https://b.example:443"},
		"a.example,A.example:8051,b.example":     {"http://a.example:8051", "http://b.example:8051"},
		"a,b,c,d,e,f,g,h":                        {"http://a:8051", "http://b:8051", "http://c:8051", "http://d:8051", "http://e:8051", "http://f:8051", "http://g:8051", "http://h:8051"},
		" a , ":                                  {"http://a:8051"},
		"":                                       nil,
		" , ":                                    nil,
		"a,b,c,d,e,f,g,h,i":                      nil,
		strings.Repeat("a,", EndpointsMax) + "a": nil,
		"10.0.0.1;10.0.0.2":                      nil,
		"10.0.0.1\n10.0.0.2":                     nil,
		"10.0.0.1,http://10.0.0.2":               nil,
		"10.0.0.1,10.0.0.2:":                     nil,
		"10.0.0.1,0x7f.1":                        nil,
	} {
		got, err := Endpoints(addresses, 8051)
		switch {
		case want == nil && !errors.Is(err, ErrAddress):
			t.Errorf("%q: %q, %v", addresses, got, err)
		case want != nil && (err != nil || !slices.Equal(got, want)):
			t.Errorf("%q: %q, %v, want %q", addresses, got, err, want)
		}
	}
}

// What relays of before read as one address, this one reads as the same: a list must
// not change where any twin of today is.
func TestAListOfOneIsWhatAnAddressWas(t *testing.T) {
	for _, address := range []string{"1.2.3.4", "202::1", "[202::1]:80", "relay.example.org:80", "https://relay", "HTTPS://1.2.3.4:443", "0x7f.1", "http://relay", "", "relay/path"} {
		one, errOne := Endpoint(address, 8051)
		list, err := Endpoints(address, 8051)
		if (err == nil) != (errOne == nil) || err == nil && !slices.Equal(list, []string{one}) {
			t.Errorf("%q: %q, %v, and as a list %q, %v", address, one, errOne, list, err)
		}
	}
}

// Property: each of what is accepted is what Endpoint accepts, once, and there are
// no more than the bound, whatever a stranger has registered.
func FuzzEndpoints(f *testing.F) {
	for _, seed := range []string{"10.0.0.1:8051,10.0.0.2:8051", "a b, c", "a,a", " ,", "a,b,c,d,e,f,g,h,i", "https://u@h,a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, addresses string) {
		bases, err := Endpoints(addresses, 8051)
		if err != nil {
			if !errors.Is(err, ErrAddress) || len(bases) > 0 {
				t.Errorf("%q: %q, untyped error %v", addresses, bases, err)
			}
			return
		}
		if len(bases) == 0 || len(bases) > EndpointsMax {
			t.Errorf("%q: %d addresses", addresses, len(bases))
		}
		for i, base := range bases {
			again, err := Endpoint(strings.TrimPrefix(base, "http://"), 1)
			if err != nil || again != base || slices.Index(bases, base) != i {
				t.Errorf("%q: %q, of which %q becomes %q, %v", addresses, bases, base, again, err)
			}
		}
	})
}

// A typing mistake in the second address of a registry file must not wait until the
// first relay is down to be found.
func TestARegistryServesListsAndRefusesBadOnes(t *testing.T) {
	const two = "10.0.0.1:8051, 10.0.0.2:8051"
	reg, err := NewRegistryFromRecords([]Record{record(t, 1002, bobAccount, two)})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(reg, "/twin/1002").Body.String(); !strings.Contains(got, `"IP":"`+two+`"`) {
		t.Errorf("the registry says %s", got)
	}
	if err := reg.Replace([]Record{record(t, 1002, bobAccount, "10.0.0.1:8051,10.0.0.2:")}); !errors.Is(err, ErrAddress) {
		t.Errorf("a bad second address: %v", err)
	}
}
