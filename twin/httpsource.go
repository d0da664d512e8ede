package twin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// sourceTimeout bounds one call, from the dial to the last byte.
	sourceTimeout = 5 * time.Second
	// answerSizeMax bounds the answer, in bytes after decompression.
	answerSizeMax = 64 << 10
	// refusalSizeMax bounds a 404 that is believed: a resolver says little.
	refusalSizeMax = 1 << 10
)

// NewSource returns the source at an address. The scheme tells the dialect:
//
//	http://  https://                        GET <base>/twin/<id>
//	                                         GET <base>/twin?account=<SS58>
//	gridproxy+http://  gridproxy+https://    GET <base>/twins?twin_id=<id>
//	                                         GET <base>/twins?account_id=<SS58>
//	graphql+http://    graphql+https://      POST <base>, a query of twins
//	node+http://       node+https://         POST <base>, JSON-RPC to a chain node
//
// The client's Timeout bounds each call (5 s if it is zero); redirects are not
// followed, whatever the client says. A nil client means one with defaults and at
// most 16 connections.
func NewSource(rawurl string, client *http.Client) (Source, error) {
	u, err := url.Parse(rawurl)
	if err != nil {
		// url.Error quotes the address, and with it a password.
		return nil, errors.New("resolver address is not a URL")
	}
	// Out of the address, so that nothing that quotes it shows them: a token often
	// stands in the place of the user, which url.Redacted leaves.
	credentials := u.User
	u.User = nil
	dialect, transport := splitDialect(u.Scheme)
	s := &httpSource{base: u, credentials: credentials, client: resolverClient(client)}
	source := s.speaking(dialect)
	if source == nil || transport != "http" && transport != "https" {
		return nil, fmt.Errorf("resolver %q: unknown scheme %q: known are https, gridproxy+https, graphql+https and node+https, and each with http", u.Scheme+"://"+u.Host, u.Scheme)
	}
	if u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("resolver %q: want scheme://host/path, with neither ? nor #", u.Scheme+"://"+u.Host)
	}
	u.Scheme = transport
	return source, nil
}

// splitDialect returns what a resolver speaks, empty if the scheme does not say,
// and what that goes over.
func splitDialect(scheme string) (dialect, transport string) {
	dialect, transport, named := strings.Cut(scheme, "+")
	if !named {
		return "", scheme
	}
	return dialect, transport
}

// speaking returns nil for a dialect that is not known.
func (s *httpSource) speaking(dialect string) Source {
	switch dialect {
	case "":
		return twinSource{s}
	case "gridproxy":
		return gridproxySource{s}
	case "graphql":
		return graphqlSource{s}
	case "node":
		return nodeSource{s}
	default:
		return nil
	}
}

// PlainHTTPWarning reports whether a resolver's address sends keys and addresses
// of twins over a network in the clear, where whoever is on the path may change
// them: plain http to another machine than this one.
func PlainHTTPWarning(rawurl string) bool {
	u, err := url.Parse(rawurl)
	if err != nil {
		return false
	}
	if _, transport := splitDialect(u.Scheme); transport != "http" {
		return false
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.Unmap().IsLoopback())
}

func resolverClient(base *http.Client) *http.Client {
	c := http.Client{}
	if base != nil {
		c = *base
	}
	if c.Timeout == 0 {
		c.Timeout = sourceTimeout
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: sourceTimeout}).DialContext,
			ForceAttemptHTTP2:   true,
			MaxConnsPerHost:     16,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
			TLSHandshakeTimeout: sourceTimeout,
		}
	}
	// A redirect is how captive portals and moved sites answer; neither knows twins.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// twinSource speaks the dialect of the archived substrate resolver, and of
// [Registry]: one record, or 404.
type twinSource struct{ *httpSource }

func (s twinSource) Twin(ctx context.Context, id uint32) (Record, error) {
	a, err := s.get(ctx, "/twin/"+strconv.FormatUint(uint64(id), 10), nil)
	if err != nil {
		return Record{}, err
	}
	return s.record(a, isTwin(id))
}

func (s twinSource) TwinByAccount(ctx context.Context, account string) (Record, error) {
	a, err := s.get(ctx, "/twin", url.Values{"account": {account}})
	if err != nil {
		return Record{}, err
	}
	if a.noRoute() {
		return Record{}, ErrUnsupported
	}
	return s.record(a, hasAccount(account))
}

func (s twinSource) record(a answer, want question) (Record, error) {
	if a.status == http.StatusNotFound && a.definitive() {
		return Record{}, ErrNotFound
	}
	if a.status != http.StatusOK {
		return Record{}, a.unexpected()
	}
	return a.twin(want)
}

// gridproxySource speaks gridproxy's dialect: a list of none or one. A 404 there
// is a wrong base path.
type gridproxySource struct{ *httpSource }

func (s gridproxySource) Twin(ctx context.Context, id uint32) (Record, error) {
	return s.first(ctx, "twin_id", strconv.FormatUint(uint64(id), 10), isTwin(id))
}

func (s gridproxySource) TwinByAccount(ctx context.Context, account string) (Record, error) {
	return s.first(ctx, "account_id", account, hasAccount(account))
}

func (s gridproxySource) first(ctx context.Context, key, value string, want question) (Record, error) {
	a, err := s.get(ctx, "/twins", url.Values{key: {value}})
	if err != nil {
		return Record{}, err
	}
	if a.status != http.StatusOK {
		return Record{}, a.unexpected()
	}
	var list []json.RawMessage
	if err := a.decode(&list); err != nil {
		return Record{}, err
	}
	return a.only(list, want)
}

// A question returns nil for a record that answers it, else what is wrong.
type question func(Record) error

func isTwin(id uint32) question {
	return func(rec Record) error {
		if rec.ID != id {
			return lying("it answered with twin %d when asked for %d", rec.ID, id)
		}
		return nil
	}
}

func hasAccount(account string) question {
	return func(rec Record) error {
		if rec.Account != account {
			return lying("it answered with account %s when asked for %s", rec.Account, account)
		}
		return nil
	}
}

// httpSource is what all dialects share: one bounded request.
type httpSource struct {
	base        *url.URL
	credentials *url.Userinfo // nil without
	client      *http.Client
}

func (s *httpSource) get(ctx context.Context, path string, query url.Values) (answer, error) {
	u := s.base.JoinPath(path)
	u.RawQuery = query.Encode()
	return s.ask(ctx, http.MethodGet, u, nil)
}

// post sends a question as JSON to the base itself.
func (s *httpSource) post(ctx context.Context, question any) (answer, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return answer{}, unavailable(err)
	}
	return s.ask(ctx, http.MethodPost, s.base, body)
}

func (s *httpSource) ask(ctx context.Context, method string, u *url.URL, question []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(question))
	if err != nil {
		return answer{}, unavailable(err)
	}
	req.Header.Set("Accept", "application/json, text/plain")
	if len(question) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.credentials != nil {
		password, _ := s.credentials.Password()
		req.SetBasicAuth(s.credentials.Username(), password)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, unavailable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerSizeMax+1))
	if err != nil {
		return answer{}, unavailable(fmt.Errorf("read the answer of %s: %w", u.String(), err))
	}
	if len(body) > answerSizeMax {
		return answer{}, unavailable(fmt.Errorf("answer of %s is over %d bytes", u.String(), answerSizeMax))
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return answer{url: u.String(), status: resp.StatusCode, media: media, body: body}, nil
}

// An answer is what came back from a resolver, or from something in its place.
type answer struct {
	url    string
	status int
	media  string
	body   []byte
}

// decode reads JSON, under any content type: the archived resolver says text/plain.
func (a answer) decode(into any) error {
	err := json.Unmarshal(a.body, into)
	if errors.Is(err, ErrAccount) || errors.Is(err, ErrAddress) {
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrLying, err)
	}
	if err != nil {
		return unavailable(fmt.Errorf("answer of %s is not a twin: %w", a.url, err))
	}
	return nil
}

// twin reads the one record that is the whole answer.
func (a answer) twin(want question) (Record, error) {
	var rec Record
	if err := a.decode(&rec); err != nil {
		return Record{}, err
	}
	if err := want(rec); err != nil {
		return Record{}, err
	}
	return rec, nil
}

// only reads the one record of a list. That it is empty is how a dialect with
// lists says that there is no such twin.
func (a answer) only(list []json.RawMessage, want question) (Record, error) {
	switch {
	case list == nil: // null, or missing
		return Record{}, lying("no list of twins in it")
	case len(list) == 0:
		return Record{}, ErrNotFound
	case len(list) > 1:
		return Record{}, lying("%d twins when asked for one", len(list))
	}
	a.body = list[0]
	return a.twin(want)
}

// definitive tells a resolver's own 404, empty or a few words, from that of a
// web server in front of it or in its place: a page, or Go's words for a path
// that it does not serve. Twins must not vanish while a site is being moved.
func (a answer) definitive() bool {
	return len(a.body) == 0 ||
		len(a.body) <= refusalSizeMax && a.media != "text/html" && !bytes.ContainsRune(a.body, '<') && !a.noRoute()
}

// noRoute recognises the 404 of a Go server that does not serve the path at all.
func (a answer) noRoute() bool {
	return a.status == http.StatusNotFound && string(bytes.TrimSpace(a.body)) == "404 page not found"
}

func (a answer) unexpected() error {
	return unavailable(fmt.Errorf("%s answered %d %s", a.url, a.status, http.StatusText(a.status)))
}

// complaint is for an error that came in the place of what was asked for. Its
// text is a stranger's: escaped, and cut.
func (a answer) complaint(text string) error {
	return unavailable(fmt.Errorf("%s answered with an error: %.200q", a.url, text))
}
