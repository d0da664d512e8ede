package httpapi

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// lookEvery bounds how often files are looked at, whoever connects.
	lookEvery = time.Second
	// fileSizeMax bounds one file in bytes: a system's whole bundle of
	// authorities has a quarter of a MiB.
	fileSizeMax = 4 << 20
)

// A reloaded value is read from files, and again when they have changed. While
// it cannot be read, the value of before stays.
type reloaded[T any] struct {
	what  string // for the log
	files []string
	read  func() (T, error)
	log   zerolog.Logger

	value atomic.Pointer[T]

	looking  sync.Mutex    // guards what follows; held by the one who looks
	looked   time.Time     // when the files were last looked at
	seen     []os.FileInfo // the files that value is from; nil after a failed read
	complain string        // the trouble that is in the log; empty if none
}

// reload reads a value for the first time.
func reload[T any](what string, log zerolog.Logger, read func() (T, error), files ...string) (*reloaded[T], error) {
	r := &reloaded[T]{what: what, files: files, read: read, log: log, looked: time.Now()}
	return r, r.load()
}

// get returns the value, after a look at the files if the last is over a second
// ago. Nobody waits for a look of somebody else.
func (r *reloaded[T]) get() T {
	if r.looking.TryLock() {
		if now := time.Now(); now.Sub(r.looked) >= lookEvery {
			r.looked = now
			r.refresh()
		}
		r.looking.Unlock()
	}
	return *r.value.Load()
}

// refresh reads changed files. Files with errors are tried at each look: two that
// belong together are seldom replaced at one instant, and a change of permissions
// does not show in what is compared. Trouble is logged when it begins, changes and
// ends.
func (r *reloaded[T]) refresh() {
	if !r.changed() {
		return
	}
	err := r.load()
	switch {
	case err == nil:
		r.complain = ""
		r.log.Info().Strs("files", r.files).Msg(r.what + " read again")
	case err.Error() != r.complain:
		r.complain = err.Error()
		r.log.Error().Err(err).Msg(r.what + " not usable, keeping the one from before")
	}
}

// changed compares what an editor, a copy, a rename over a file or a link to
// another one would change.
func (r *reloaded[T]) changed() bool {
	now, err := r.look()
	return err != nil || !slices.EqualFunc(now, r.seen, func(a, b os.FileInfo) bool {
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	})
}

func (r *reloaded[T]) look() (infos []os.FileInfo, err error) {
	for _, name := range r.files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// load reads the files into value, or leaves it as it is.
func (r *reloaded[T]) load() error {
	r.seen = nil
	// Before reading: what is written after this look shows in the next one.
	seen, err := r.look()
	if err != nil {
		return err
	}
	v, err := r.read()
	if err != nil {
		return err
	}
	r.value.Store(&v)
	r.seen = seen
	return nil
}

// readFile reads a file within its bound, after check has seen it; check may be
// nil.
func readFile(name string, check func(*os.File) error) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if check != nil {
		if err := check(file); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, fileSizeMax+1))
	if err == nil && len(data) > fileSizeMax {
		err = fmt.Errorf("%s has more than %d bytes", name, fileSizeMax)
	}
	return data, err
}
