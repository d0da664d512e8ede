// Package gateway_test has a real browser hear, at one twin's gateway, what an app of
// another twin publishes.
package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

func TestMain(m *testing.M) { fleettest.Main(m, "2") }

const secret = "a secret of more than 32 characters"

// A stage is two twins, of which the first has a gateway, and a site of pages elsewhere.
type stage struct {
	*testing.T
	gateway string // its URL
	pages   string // URL of the pages
	other   *client.Client
	own     *client.Client
	relay   *fleettest.Site
}

func newStage(t *testing.T) *stage {
	t.Helper()
	pages := httptest.NewServer(http.FileServer(http.Dir("pages")))
	t.Cleanup(pages.Close)
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	b.Start()
	f.Stranger(1003, fleettest.FreeAddress(t)) // which is away, and must keep nobody from the others' events
	listen := fleettest.FreeAddress(t)
	a.Start("--gateway-listen", listen, "--gateway-secret-file", fleettest.SecretFile(t, secret),
		"--gateway-origin", pages.URL, "--gateway-from", "1002", "--gateway-from", "1003")
	s := &stage{T: t, gateway: "http://" + listen, pages: pages.URL, relay: a}
	s.own, s.other = s.open(a), s.open(b)
	return s
}

// open returns the client of an app beside a relay.
func (s *stage) open(at *fleettest.Site) *client.Client {
	s.Helper()
	c, err := client.Open(client.Options{Redis: at.Redis.URL()})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.Logf("close a client: %v", err)
		}
	})
	return c
}

// token is one that is good for an hour.
func (s *stage) token(c gateway.Claims) string {
	s.Helper()
	c.Expires = time.Now().Add(time.Hour).Unix()
	token, err := gateway.Mint([]byte(secret), c)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

// page is the address of a page, which finds the gateway and its token in it.
func (s *stage) page(name, token string) string {
	return fmt.Sprintf("%s/%s.html?gateway=%s&token=%s", s.pages, name, s.gateway, token)
}

// The pages are there: without them the browser would be looked at in vain.
func TestThereArePages(t *testing.T) {
	for _, name := range []string{"source", "socket"} {
		if _, err := os.Stat(filepath.Join("pages", name+".html")); err != nil {
			t.Error(err)
		}
	}
}
