package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Browsers say of which site a page is that connects. Tokens are what lets somebody in;
// that the page is one of those that the operator knows is asked beside it, so that a
// token that has got into another page is of no use there.

// origins are of pages that may connect from another host.
type origins struct {
	all   bool
	known map[string]bool // in lower case
}

// CheckOrigins tells what is wrong with [Options.Origins], or nil.
func CheckOrigins(texts []string) error {
	_, err := parseOrigins(texts)
	return err
}

func parseOrigins(texts []string) (origins, error) {
	o := origins{known: make(map[string]bool)}
	for _, text := range texts {
		if text == "*" {
			o.all = true
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.TrimSuffix(text, "/") != u.Scheme+"://"+u.Host {
			return origins{}, fmt.Errorf("%q is no origin: want https://app.example.org, with the port if it has one and no path, or *", text)
		}
		o.known[strings.ToLower(u.Scheme+"://"+u.Host)] = true
	}
	return o, nil
}

// allow tells whether a page of an origin may ask a host. A request without an origin is
// not of another site's page.
func (o *origins) allow(origin, host string) bool {
	if origin == "" || o.all || o.known[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	// Not the scheme: who ends TLS before the gateway makes it another one.
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// checkOrigin refuses pages of other sites, and tells browsers that the others may read.
// Nothing is sent along by browsers themselves, such as cookies, so nothing is said of that.
func (g *Gateway) checkOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		origin := req.Header.Get("Origin")
		h := w.Header()
		h.Add("Vary", "Origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address may have a token in it
		if !g.origins.allow(origin, req.Host) {
			g.refuse(w, req, refuse(BadOrigin, "pages of %q may not connect: --gateway-origin names those that may", clip(origin)))
			return
		}
		if origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
		}
		if req.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET")
			h.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, req)
	})
}
