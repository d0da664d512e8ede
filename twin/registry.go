package twin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// A Registry is a small resolver: an http.Handler that serves records as the
// archived substrate resolver does.
//
//	GET /twin/<id>              200 {"Version":1,"ID":1,"Account":"5…","IP":"…","Entities":null}
//	GET /twin?account=<SS58>    the same, by account
//	                            404, empty: no such twin; 400, text: bad id or account
//	GET /healthz                200
//
// It is read-only: its records change when its file does, or by Replace.
type Registry struct {
	mux *http.ServeMux
	log zerolog.Logger
	now func() time.Time

	path string // empty: records are in memory only

	mu       sync.Mutex // guards what follows
	records  book
	file     os.FileInfo // the file that records are from; nil after a failed read
	checked  time.Time   // when the file was last looked at
	complain string      // the trouble with the file that is in the log; empty if none
}

// checkEvery bounds how often a busy registry looks whether its file changed.
const checkEvery = time.Second

// NewRegistry returns a registry of the records in a JSON file,
//
//	[{"id": 1001, "account": "5…", "ip": "127.0.0.1:8151"}]
//
// which is read again when it has changed, at the next request. Unknown keys, bad
// and duplicate ids, bad and duplicate accounts and bad addresses are errors that
// name the entry; an ip may be left out. While a changed file has errors, the
// registry keeps the records it has and logs why.
func NewRegistry(path string, log zerolog.Logger) (*Registry, error) {
	r := newRegistry()
	r.path, r.log = path, log
	r.checked = r.now()
	if err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// NewRegistryFromRecords returns a registry of the given records, which are
// checked as those of a file are.
func NewRegistryFromRecords(records []Record) (*Registry, error) {
	r := newRegistry()
	if err := r.Replace(records); err != nil {
		return nil, err
	}
	return r, nil
}

func newRegistry() *Registry {
	r := &Registry{mux: http.NewServeMux(), log: zerolog.Nop(), now: time.Now}
	r.mux.HandleFunc("GET /twin/{id}", r.serveTwin)
	r.mux.HandleFunc("GET /twin", r.serveAccount)
	r.mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	return r
}

// Replace puts other records in the place of all there are. Those of a file come
// back when the file changes.
func (r *Registry) Replace(records []Record) error {
	entries := make([]fileEntry, len(records))
	for i, rec := range records {
		entries[i] = fileEntry{ID: rec.ID, Account: rec.Account, IP: rec.Address}
	}
	b, err := newBook(entries)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = b
	return nil
}

// ServeHTTP answers one lookup.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

func (r *Registry) serveTwin(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.ParseUint(req.PathValue("id"), 10, 32)
	if err != nil || id == 0 {
		http.Error(w, "a twin id is a number from 1 to 4294967295", http.StatusBadRequest)
		return
	}
	rec, found := r.current().byID[uint32(id)]
	r.answer(w, rec, found)
}

func (r *Registry) serveAccount(w http.ResponseWriter, req *http.Request) {
	account := req.URL.Query().Get("account")
	if _, err := ParseAccount(account); err != nil {
		http.Error(w, "account: "+err.Error(), http.StatusBadRequest)
		return
	}
	rec, found := r.current().byAccount[account]
	r.answer(w, rec, found)
}

func (r *Registry) answer(w http.ResponseWriter, rec Record, found bool) {
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(struct {
		Version  int
		ID       uint32
		Account  string
		IP       string
		Entities []string // always null, as the chain's twins have none
	}{1, rec.ID, rec.Account, rec.Address, nil})
	if err != nil {
		r.log.Debug().Err(err).Uint32("twin", rec.ID).Msg("write registry answer")
	}
}

// current returns the records, after a look at the file if the last is over a
// second ago.
func (r *Registry) current() book {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.path != "" && now.Sub(r.checked) >= checkEvery {
		r.checked = now
		r.refresh()
	}
	return r.records
}

// refresh reads a changed file. A file with errors is tried at each look, because
// a change of its permissions does not show in what is compared; its trouble is
// logged when it begins, changes and ends.
func (r *Registry) refresh() {
	if !r.changed() {
		return
	}
	err := r.load()
	switch {
	case err != nil && err.Error() != r.complain:
		r.complain = err.Error()
		r.log.Error().Err(err).Int("records", len(r.records.byID)).Msg("registry file not usable, keeping the records from before")
	case err == nil:
		r.complain = ""
		r.log.Info().Str("file", r.path).Int("records", len(r.records.byID)).Msg("registry file read again")
	}
}

// changed compares what an editor, a copy or a rename over the file would change.
func (r *Registry) changed() bool {
	info, err := os.Stat(r.path)
	return err != nil || r.file == nil || !os.SameFile(info, r.file) ||
		info.Size() != r.file.Size() || !info.ModTime().Equal(r.file.ModTime())
}

// load reads the file into records, or leaves them as they are.
func (r *Registry) load() error {
	r.file = nil
	// Before reading: what is written after this look shows in the next one.
	info, err := os.Stat(r.path)
	if err != nil {
		return fmt.Errorf("registry file: %w", err)
	}
	data, err := os.ReadFile(r.path)
	if err != nil {
		return fmt.Errorf("registry file: %w", err)
	}
	records, err := parseBook(data)
	if err != nil {
		return fmt.Errorf("registry file %s: %w", r.path, err)
	}
	r.records, r.file = records, info
	return nil
}

// A book is a checked set of records. It never changes.
type book struct {
	byID      map[uint32]Record
	byAccount map[string]Record
}

// fileEntry is one entry of a registry file.
type fileEntry struct {
	ID      uint32 `json:"id"`
	Account string `json:"account"`
	IP      string `json:"ip"`
}

func parseBook(data []byte) (book, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return book{}, fmt.Errorf("not a JSON list of twins: %w", describe(err, data))
	}
	if raw == nil {
		return book{}, errors.New("not a JSON list of twins: it is null")
	}
	entries := make([]fileEntry, len(raw))
	for i, entry := range raw {
		if err := decodeStrict(entry, &entries[i]); err != nil {
			return book{}, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return newBook(entries)
}

func newBook(entries []fileEntry) (book, error) {
	b := book{byID: make(map[uint32]Record, len(entries)), byAccount: make(map[string]Record, len(entries))}
	for i, e := range entries {
		rec, err := NewRecord(e.ID, e.Account, e.IP)
		if err == nil && e.IP != "" {
			// Any port will do: only the form is checked.
			_, err = Endpoints(e.IP, 1)
		}
		if other, taken := b.byID[e.ID]; err == nil && taken {
			err = fmt.Errorf("id %d is already that of account %s", e.ID, other.Account)
		}
		if other, taken := b.byAccount[e.Account]; err == nil && taken {
			err = fmt.Errorf("account %s is already that of twin %d", e.Account, other.ID)
		}
		if err != nil {
			return book{}, fmt.Errorf("entry %d (id %d): %w", i+1, e.ID, err)
		}
		b.byID[rec.ID], b.byAccount[rec.Account] = rec, rec
	}
	return b, nil
}

// decodeStrict decodes one entry and refuses keys that it does not know: a
// misspelt ip would otherwise be a twin that nobody reaches.
func decodeStrict(data []byte, into *fileEntry) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// describe adds the line to a syntax error, of which encoding/json tells the byte.
func describe(err error, data []byte) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
	return fmt.Errorf("line %d: %w", line, err)
}
