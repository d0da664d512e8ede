package twin

import (
	"cmp"
	"slices"
	"time"
)

// A Known is what a directory remembers about a twin, for those who look.
type Known struct {
	Record  Record
	Learned time.Time // when the source said so
	Cause   error     // why the source could not tell since; nil if it could
}

// Available tells whether the source told what it was asked last; nobody may have
// asked yet.
func (d *Directory) Available() bool { return !d.down.Load() }

// Known returns what is remembered about twins that exist, by their numbers: of no
// more than `most`, which ones is not said.
func (d *Directory) Known(most int) []Known {
	var all []Known
	for _, e := range d.known.All() {
		if len(all) == most {
			break
		}
		all = append(all, Known{Record: e.record, Learned: e.learned, Cause: e.cause})
	}
	slices.SortFunc(all, func(a, b Known) int { return cmp.Compare(a.Record.ID, b.Record.ID) })
	return all
}
