package twin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// resolver starts an HTTP server and returns a source for it with the scheme's
// prefix ("" or "gridproxy+") and a path.
func resolver(t *testing.T, prefix, path string, handler http.HandlerFunc) Source {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	src, err := NewSource(prefix+srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func respond(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// An exchange is a POST that a test expects, and what it is answered with: a file
// of testdata/answers, or the text itself.
type exchange struct {
	question string
	status   int
	answer   string
}

// conversation returns a source whose server expects these exchanges and no others.
func conversation(t *testing.T, prefix string, exchanges ...exchange) Source {
	t.Helper()
	t.Cleanup(func() {
		for _, e := range exchanges {
			t.Errorf("not asked: %s", e.question)
		}
	})
	return resolver(t, prefix, "/path", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(exchanges) == 0 {
			t.Errorf("unexpected %s, %v", body, err)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		next := exchanges[0]
		exchanges = exchanges[1:]
		if how := r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type"); how != "POST /path application/json" {
			t.Errorf("asked with %s", how)
		}
		if string(body) != next.question {
			t.Errorf("asked\n%s, want\n%s", body, next.question)
		}
		respond(next.status, "application/json", recorded(t, next.answer))(w, r)
	})
}

// recorded returns the text of an answer.
func recorded(t *testing.T, answer string) string {
	t.Helper()
	if !strings.HasSuffix(answer, ".json") {
		return answer
	}
	text, err := os.ReadFile(filepath.Join("testdata", "answers", answer))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

const aliceAnswer = `{"Version":1,"ID":5,"Account":"` + aliceAccount + `","IP":"202::5","Entities":null}`

// The requests are those that the published resolvers serve, below whatever path
// the operator wrote and however it ends.
func TestSourcesAskWhatTheirResolverServes(t *testing.T) {
	ctx := context.Background()
	want := record(t, 5, aliceAccount, "202::5")
	for _, c := range []struct {
		prefix, path, byID, byAccount, answer string
	}{
		{"", "", "/twin/5", "/twin?account=" + aliceAccount, aliceAnswer},
		{"", "/", "/twin/5", "/twin?account=" + aliceAccount, aliceAnswer},
		{"", "/api/v1//", "/api/v1/twin/5", "/api/v1/twin?account=" + aliceAccount, aliceAnswer},
		{"gridproxy+", "/", "/twins?twin_id=5", "/twins?account_id=" + aliceAccount,
			`[{"twinId":5,"accountId":"` + aliceAccount + `","ip":"202::5"}]` + "\n"},
	} {
		var asked string
		src := resolver(t, c.prefix, c.path, func(w http.ResponseWriter, r *http.Request) {
			asked = r.Method + " " + r.URL.String()
			respond(200, "text/plain; charset=utf-8", c.answer)(w, r)
		})
		rec, err := src.Twin(ctx, 5)
		if err != nil || rec != want || asked != "GET "+c.byID {
			t.Errorf("%s%s: asked %q, got %+v, %v", c.prefix, c.path, asked, rec, err)
		}
		rec, err = src.TwinByAccount(ctx, aliceAccount)
		if err != nil || rec != want || asked != "GET "+c.byAccount {
			t.Errorf("%s%s: asked %q, got %+v, %v", c.prefix, c.path, asked, rec, err)
		}
	}
}

// "Not found" fails a message at once, "unavailable" makes it wait. Taking the
// error page of a proxy for the first loses every message while a site is moved.
func TestAnswersAreDefinitiveOnlyWhenAResolverGaveThem(t *testing.T) {
	other := strings.Replace(aliceAnswer, `"ID":5`, `"ID":7`, 1)
	item := `{"twinId":5,"accountId":"` + aliceAccount + `"}`
	for name, c := range map[string]struct {
		prefix  string
		handler http.HandlerFunc
		want    error
	}{
		"404, empty":              {"", respond(404, "", ""), ErrNotFound},
		"404, empty, called HTML": {"", respond(404, "text/html", ""), ErrNotFound},
		"404, text":               {"", respond(404, "text/plain", "twin not found\n"), ErrNotFound},
		"404, JSON":               {"", respond(404, "application/json", `{"error":"twin not found"}`), ErrNotFound},
		"404, page":               {"", respond(404, "text/html; charset=utf-8", "not here"), ErrUnavailable},
		"404, page called text":   {"", respond(404, "text/plain", "<html><body>not found"), ErrUnavailable},
		"404, long text":          {"", respond(404, "text/plain", strings.Repeat("no ", 1000)), ErrUnavailable},
		"404 of Go's own":         {"", http.NotFound, ErrUnavailable},
		"400":                     {"", respond(400, "text/plain", "bad id"), ErrUnavailable},
		"401":                     {"", respond(401, "", ""), ErrUnavailable},
		"410":                     {"", respond(410, "", ""), ErrUnavailable},
		"429":                     {"", respond(429, "", ""), ErrUnavailable},
		"500":                     {"", respond(500, "text/plain", "db"), ErrUnavailable},
		"502":                     {"", respond(502, "text/html", "<html>"), ErrUnavailable},
		"204":                     {"", respond(204, "", ""), ErrUnavailable},
		"200, empty":              {"", respond(200, "application/json", ""), ErrUnavailable},
		"200, page":               {"", respond(200, "text/html", "<!doctype html><title>Log in</title>"), ErrUnavailable},
		"200, cut JSON":           {"", respond(200, "application/json", aliceAnswer[:60]), ErrUnavailable},
		"200, more after it":      {"", respond(200, "application/json", aliceAnswer+aliceAnswer), ErrUnavailable},
		"200, null":               {"", respond(200, "application/json", "null"), ErrUnavailable},
		"200, list":               {"", respond(200, "application/json", "["+aliceAnswer+"]"), ErrUnavailable},
		"200, over 64 KiB":        {"", respond(200, "application/json", aliceAnswer+strings.Repeat(" ", 64<<10)), ErrUnavailable},
		"200, another twin":       {"", respond(200, "application/json", other), ErrLying},
		"200, bad account":        {"", respond(200, "application/json", strings.Replace(aliceAnswer, "5Grw", "5Grx", 1)), ErrLying},
		"200, endless address":    {"", respond(200, "application/json", strings.Replace(aliceAnswer, "202", strings.Repeat("2", 1999), 1)), ErrLying},
		"redirect":                {"", http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP, ErrUnavailable},
		"cut connection":          {"", cutShort, ErrUnavailable},
		"proxy: empty list":       {"gridproxy+", respond(200, "application/json", "[]"), ErrNotFound},
		"proxy: 404":              {"gridproxy+", respond(404, "", ""), ErrUnavailable},
		"proxy: null":             {"gridproxy+", respond(200, "application/json", "null"), ErrUnavailable},
		"proxy: object":           {"gridproxy+", respond(200, "application/json", item), ErrUnavailable},
		"proxy: [null]":           {"gridproxy+", respond(200, "application/json", "[null]"), ErrUnavailable},
		"proxy: filter ignored":   {"gridproxy+", respond(200, "application/json", "["+item+","+item+"]"), ErrLying},
		"proxy: another twin":     {"gridproxy+", respond(200, "application/json", "["+strings.Replace(item, "5", "6", 1)+"]"), ErrLying},
		"proxy: 500":              {"gridproxy+", respond(500, "", ""), ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := resolver(t, c.prefix, "", c.handler).Twin(context.Background(), 5)
			expectNoRecord(t, rec, err, c.want)
		})
	}
}

func expectNoRecord(t *testing.T, rec Record, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || rec != (Record{}) {
		t.Errorf("got %+v, %v, want %v", rec, err, want)
	}
	if errors.Is(err, ErrNotFound) == errors.Is(err, ErrUnavailable) {
		t.Errorf("%v: must be one of not found and unavailable", err)
	}
}

// cutShort ends the connection within the body.
func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, aliceAnswer)
}

// A redirect is not followed even by a client that would.
func TestARedirectIsNotFollowed(t *testing.T) {
	var paths []string
	src := resolver(t, "", "", func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	})
	if _, err := src.Twin(context.Background(), 5); !errors.Is(err, ErrUnavailable) || len(paths) != 1 {
		t.Errorf("%v, asked for %q", err, paths)
	}
}

// A resolver that accepts and never answers must not hold a lookup for ever; one
// that is gone must say so.
func TestAResolverThatHangsOrIsGoneIsUnavailable(t *testing.T) {
	for _, prefix := range []string{"", "gridproxy+", "graphql+", "node+"} {
		hangAndGo(t, prefix)
	}
	if c := resolverClient(nil); c.Timeout != 5*time.Second {
		t.Errorf("a call may take %s, want 5 s", c.Timeout)
	}
}

func hangAndGo(t *testing.T, prefix string) {
	t.Helper()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	src, err := NewSource(prefix+srv.URL, &http.Client{Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Twin(context.Background(), 5); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%shanging: %v", prefix, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := src.Twin(ctx, 5); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%scancelled: %v", prefix, err)
	}
	close(release)
	srv.Close()
	if _, err := src.Twin(context.Background(), 5); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%sgone: %v", prefix, err)
	}
}

// The archived resolver has no lookup by account, and its server says so in Go's
// words: that is no reason to tell an operator that the account has no twin.
func TestLookupByAccountTellsUnsupportedFromNotFound(t *testing.T) {
	for name, c := range map[string]struct {
		prefix  string
		handler http.HandlerFunc
		want    error
	}{
		"no route":        {"", http.NotFound, ErrUnsupported},
		"no twin":         {"", respond(404, "", ""), ErrNotFound},
		"no twin, proxy":  {"gridproxy+", respond(200, "", "[]"), ErrNotFound},
		"another account": {"", respond(200, "", aliceAnswer), ErrLying},
		"down":            {"", respond(503, "", ""), ErrUnavailable},
	} {
		if rec, err := resolver(t, c.prefix, "", c.handler).TwinByAccount(context.Background(), bobAccount); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", name, rec, err, c.want)
		}
	}
}

// An operator who mistypes the resolver's address is told what would do, and a
// password in it stays out of the log.
func TestAddressesOfResolversAreChecked(t *testing.T) {
	for rawurl, part := range map[string]string{
		"":                              "known are http",
		"registry.json":                 "known are http",
		"ftp://resolver":                "gridproxy+https",
		"wss://tfchain.grid.tf":         "known are http",
		"gridproxy://resolver":          "gridproxy+https",
		"gridproxy+ws://resolver":       "gridproxy+https",
		"graphql://resolver":            "graphql+https",
		"node+wss://resolver":           "node+https",
		"chain+https://resolver":        "node+https",
		"node+https://":                 "want scheme://host/path",
		"http://":                       "want scheme://host/path",
		"http:resolver":                 "want scheme://host/path",
		"https://resolver/?key=1":       "neither ?",
		"http://resolver:port":          "not a URL",
		"ftp://user:secret@resolver":    `"ftp://resolver"`,
		"ftp://secret@resolver":         `"ftp://resolver"`,
		"https://resolver/?key=secret":  "neither ?",
		"http://secret@":                "want scheme://host/path",
		"http://user:secret@resolver:x": "not a URL",
	} {
		_, err := NewSource(rawurl, nil)
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want it to say %q", rawurl, err, part)
		}
	}
}

// A resolver that wants a user and a password, or a token, gets them; and whatever
// goes wrong then, they stay out of the log.
//
// Broken by: in NewSource, without u.User = nil; in get, without SetBasicAuth.
func TestCredentialsOfAResolverAreSentAndNeverTold(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user+":"+password != "secret1:secret2" && user+":"+password != "secret1:" {
			t.Errorf("user %q, password %q", user, password)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"id":5}`)
	}))
	defer server.Close()
	for _, credentials := range []string{"secret1:secret2", "secret1"} {
		source, err := NewSource("http://"+credentials+"@"+strings.TrimPrefix(server.URL, "http://"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, status = range []int{http.StatusOK, http.StatusInternalServerError, http.StatusFound} {
			if _, err := source.Twin(t.Context(), 5); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("status %d: %v", status, err)
			}
		}
		away, err := NewSource("http://"+credentials+"@127.0.0.1:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := away.Twin(t.Context(), 5); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("away: %v", err)
		}
	}
}

// Whoever is on the path of plain http can give every twin a key of his own.
func TestPlainHTTPToAnotherMachineIsWarnedOf(t *testing.T) {
	for rawurl, want := range map[string]bool{
		"http://resolver": true, "http://10.0.0.1:80/x": true, "gridproxy+http://resolver": true, "http://[2a02::1]": true,
		"http://localhost:8080": false, "http://127.0.0.1": false, "http://[::1]:80": false, "http://[::ffff:127.0.0.1]": false,
		"graphql+http://resolver/graphql": true, "node+http://10.0.0.1:9933": true, "node+http://localhost:9933": false,
		"graphql+https://resolver": false, "node+https://resolver": false,
		"https://resolver": false, "gridproxy+https://resolver": false, "": false, "%": false,
	} {
		if got := PlainHTTPWarning(rawurl); got != want {
			t.Errorf("%s: %t", rawurl, got)
		}
	}
}

// fixed is a source with one answer for everything.
type fixed struct {
	rec Record
	err error
}

func (f fixed) Twin(context.Context, uint32) (Record, error)          { return f.rec, f.err }
func (f fixed) TwinByAccount(context.Context, string) (Record, error) { return f.rec, f.err }

// A second resolver is there for when the first is down, not to contradict it.
func TestSourcesInTurnStopAtTheFirstDefinitiveAnswer(t *testing.T) {
	ctx := context.Background()
	rec := record(t, 5, aliceAccount, "")
	down1, down2 := fixed{err: unavailable(errors.New("first is down"))}, fixed{err: errors.New("second has a bug")}
	notFound, cannot, good := fixed{err: ErrNotFound}, fixed{err: ErrUnsupported}, fixed{rec: rec}
	for name, c := range map[string]struct {
		sources []Source
		want    error
	}{
		"first":                {[]Source{good, notFound}, nil},
		"second":               {[]Source{down1, good, notFound}, nil},
		"not found":            {[]Source{down1, notFound, good}, ErrNotFound},
		"unsupported, good":    {[]Source{cannot, good}, nil},
		"all unsupported":      {[]Source{cannot, cannot}, ErrUnsupported},
		"one down, one cannot": {[]Source{down1, cannot}, ErrUnavailable},
		"all down":             {[]Source{down1, down2}, ErrUnavailable},
		"one":                  {[]Source{down1}, ErrUnavailable},
		"none":                 {nil, ErrUnavailable},
	} {
		src := InTurn(c.sources...)
		for _, ask := range []func() (Record, error){
			func() (Record, error) { return src.Twin(ctx, 5) },
			func() (Record, error) { return src.TwinByAccount(ctx, aliceAccount) },
		} {
			got, err := ask()
			if !errors.Is(err, c.want) || (c.want == nil && got != rec) {
				t.Errorf("%s: %+v, %v, want %v", name, got, err, c.want)
			}
			if c.want == ErrUnavailable && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnsupported)) {
				t.Errorf("%s: %v is of two minds", name, err)
			}
		}
	}
	_, err := InTurn(down1, down2).Twin(ctx, 5)
	for _, part := range []string{"first is down", "second has a bug"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := InTurn(down1, good).Twin(ended, 5); !errors.Is(err, ErrUnavailable) {
		t.Errorf("went on after the caller had gone: %v", err)
	}
}
