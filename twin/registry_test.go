package twin

import (
	"bytes"
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

	"github.com/rs/zerolog"
)

func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// Published daemons read this registry too: its answers are the archived
// resolver's, byte for byte but for the content type.
func TestTheRegistryAnswersAsTheArchivedResolverDoes(t *testing.T) {
	reg, err := NewRegistryFromRecords([]Record{record(t, 1001, aliceAccount, "127.0.0.1:8151"), record(t, 1002, bobAccount, "")})
	if err != nil {
		t.Fatal(err)
	}
	alice := `{"Version":1,"ID":1001,"Account":"` + aliceAccount + `","IP":"127.0.0.1:8151","Entities":null}` + "\n"
	for target, want := range map[string]struct {
		status int
		body   string
	}{
		"/twin/1001":                    {200, alice},
		"/twin?account=" + aliceAccount: {200, alice},
		"/twin/1002":                    {200, `{"Version":1,"ID":1002,"Account":"` + bobAccount + `","IP":"","Entities":null}` + "\n"},
		"/twin/7":                       {404, ""},
		"/twin?account=5FA9nQDVg267DEd8m1ZypXLBnvN7SFxYwV7ndqSYGiN9TTpu": {404, ""},
		"/twin/x":              {400, "a twin id is"},
		"/twin/0":              {400, "a twin id is"},
		"/twin/-1":             {400, "a twin id is"},
		"/twin/4294967296":     {400, "a twin id is"},
		"/twin":                {400, "account: "},
		"/twin?account=5short": {400, "account: "},
		"/healthz":             {200, ""},
		"/elsewhere":           {404, "404 page not found\n"},
	} {
		w := get(reg, target)
		body := w.Body.String()
		if w.Code != want.status || (body != want.body && (want.status != 400 || !strings.HasPrefix(body, want.body))) {
			t.Errorf("%s: %d %q, want %d %q", target, w.Code, body, want.status, want.body)
		}
	}
	if got := get(reg, "/twin/1001").Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	w := httptest.NewRecorder()
	reg.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/twin/1001", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

// The two ends that we write ourselves must understand each other.
func TestASourceReadsARegistry(t *testing.T) {
	want := record(t, 1001, aliceAccount, "[::1]:8151")
	reg, err := NewRegistryFromRecords([]Record{want})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	src, err := NewSource(srv.URL+"/", srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if rec, err := src.Twin(ctx, 1001); rec != want || err != nil {
		t.Errorf("%+v, %v", rec, err)
	}
	if rec, err := src.TwinByAccount(ctx, aliceAccount); rec != want || err != nil {
		t.Errorf("%+v, %v", rec, err)
	}
	if _, err := src.Twin(ctx, 7); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := src.TwinByAccount(ctx, bobAccount); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := reg.Replace([]Record{record(t, 1001, bobAccount, "")}); err != nil {
		t.Fatal(err)
	}
	if rec, err := src.Twin(ctx, 1001); rec.Account != bobAccount || err != nil {
		t.Errorf("after Replace: %+v, %v", rec, err)
	}
	if err := reg.Replace([]Record{{ID: 1}}); err == nil {
		t.Error("Replace took a record without account")
	}
}

func entryOf(id int, account, ip string) string {
	return fmt.Sprintf(`{"id":%d,"account":%q,"ip":%q}`, id, account, ip)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A typing error in the file must be found at the start, by its entry, and not
// by a message that does not arrive.
func TestABadRegistryFileIsNamedByItsEntry(t *testing.T) {
	good := entryOf(1001, aliceAccount, "127.0.0.1:8151")
	path := filepath.Join(t.TempDir(), "twins.json")
	for text, parts := range map[string][]string{
		"":                   {"not a JSON list"},
		"null":               {"not a JSON list"},
		good:                 {"not a JSON list"},
		"[\n" + good + ",\n": {"line 3"},
		"[" + good + "] x":   {"line 1"},
		"[7]":                {"entry 1"},
		"[" + good + "," + entryOf(1001, bobAccount, "") + "]":                  {"entry 2", "1001", "already", aliceAccount},
		"[" + good + "," + entryOf(1002, aliceAccount, "") + "]":                {"entry 2", aliceAccount, "already", "1001"},
		"[" + good + "," + entryOf(1002, "5short", "") + "]":                    {"entry 2", "1002", "account"},
		"[" + good + "," + entryOf(1002, bobAccount, "http://relay") + "]":      {"entry 2", "1002", "http://relay"},
		"[" + entryOf(0, bobAccount, "") + "]":                                  {"entry 1", "begin at 1"},
		"[" + entryOf(-1, bobAccount, "") + "]":                                 {"entry 1"},
		"[" + `{"id":1,"account":"` + bobAccount + `","address":"relay"}` + "]": {"entry 1", `"address"`},
		"[{}]":   {"entry 1"},
		"[null]": {"entry 1"},
	} {
		write(t, path, text)
		_, err := NewRegistry(path, zerolog.Nop())
		if err == nil {
			t.Errorf("%s: accepted", text)
			continue
		}
		for _, part := range append(parts, path) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", text, err, part)
			}
		}
	}
	if _, err := NewRegistry(filepath.Join(t.TempDir(), "none.json"), zerolog.Nop()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Twins are added while the site runs, and a slip of the editor must not take
// those away that were there.
func TestAChangedRegistryFileIsReadAndABadOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "twins.json")
	write(t, path, "["+entryOf(1001, aliceAccount, "127.0.0.1:8151")+"]")
	var log bytes.Buffer
	reg, err := NewRegistry(path, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	now := reg.now()
	reg.now = func() time.Time { return now }
	status := func(id int) int { return get(reg, fmt.Sprintf("/twin/%d", id)).Code }
	lines := func(text string) int { return strings.Count(log.String(), text) }

	write(t, path, "["+entryOf(1001, aliceAccount, "")+","+entryOf(1002, bobAccount, "")+"]")
	if status(1002) != 404 {
		t.Error("looked at the file within a second")
	}
	now = now.Add(time.Second)
	if status(1002) != 200 || lines("read again") != 1 {
		t.Errorf("the new twin is not served:\n%s", log.String())
	}
	now = now.Add(time.Second)
	if status(1002) != 200 || lines("read again") != 1 {
		t.Errorf("an unchanged file was read again:\n%s", log.String())
	}

	write(t, path, "["+entryOf(1001, "5short", "")+"]")
	for range 3 {
		now = now.Add(time.Second)
		if status(1001) != 200 || status(1002) != 200 {
			t.Error("a bad file took twins away")
		}
	}
	if lines("keeping the records") != 1 || lines("entry 1") != 1 {
		t.Errorf("want the reason once:\n%s", log.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if status(1001) != 200 || lines("keeping the records") != 2 {
		t.Errorf("file removed:\n%s", log.String())
	}

	// As editors and configuration tools do: a new file in the place of the old.
	next := path + ".new"
	write(t, next, "["+entryOf(1003, bobAccount, "relay")+"]")
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if status(1003) != 200 || status(1001) != 404 || lines("read again") != 2 {
		t.Errorf("file replaced:\n%s", log.String())
	}

	// The same size and time, but another file.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, next, "["+entryOf(1004, bobAccount, "relay")+"]")
	if err := errors.Join(os.Chtimes(next, info.ModTime(), info.ModTime()), os.Rename(next, path)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if status(1004) != 200 {
		t.Error("a file of the same size and time was not noticed")
	}
}

// Requests and reloads meet in the same maps.
func TestARegistryIsServedWhileItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "twins.json")
	write(t, path, "["+entryOf(1001, aliceAccount, "")+"]")
	reg, err := NewRegistry(path, zerolog.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	reg.now = func() time.Time { return time.Time{} } // set before any goroutine
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			if err := reg.Replace([]Record{record(t, 1001, aliceAccount, "relay")}); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 100 {
		if code := get(reg, "/twin/1001").Code; code != 200 {
			t.Errorf("status %d", code)
		}
	}
	<-done
}
