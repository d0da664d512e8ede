package transfer_test

import (
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A peer takes the offer of one relay of a twin, and the other cannot open what
// comes; or none can after a restart.
func TestAllRelaysOfATwinOpenWhatIsSealedForOne(t *testing.T) {
	redis := redistest.Start(t)
	relay := func(instance string) *transfer.Opener {
		t.Helper()
		addr, err := backlog.ParseURL(redis.URL())
		if err != nil {
			t.Fatal(err)
		}
		s, err := backlog.Open(backlog.Options{Redis: addr, Twin: 1002, Instance: instance})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return transfer.NewOpener(1002, s, s.Now)
	}
	offer, err := relay("a").Offer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealer := transfer.NewSealer(1001, time.Now)
	field, sealed, err := sealer.Seal(1002, offer, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, instance := range []string{"a", "b"} {
		plain, err := relay(instance).Open(t.Context(), 1001, field, sealed)
		if err != nil || string(plain) != "body" {
			t.Errorf("relay %s opens %q, error %v", instance, plain, err)
		}
	}
}
