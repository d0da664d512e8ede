package relay

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Rules are who may do what with a relay. The zero value lets everybody do
// everything.
type Rules struct {
	Expose []string // patterns of commands that may be called from remote; default all
	Policy Policy   // with whom the relay deals, and who may call what; default all
}

// SetRules changes the rules for all that comes from now on. What was accepted
// before goes on, but a reply of a twin that is locked out is refused like any
// other message of it.
func (r *Relay) SetRules(rules Rules) {
	if len(rules.Expose) == 0 {
		rules.Expose = []string{"*"}
	}
	r.rules.Store(&rules)
}

// AdmitsTwin reports whether the rules of now let the relay deal with another
// twin, for those who ask before they look anything up.
func (r *Relay) AdmitsTwin(twin uint32) bool { return r.rules.Load().Policy.AdmitsTwin(twin) }

// A Policy is with whom a relay deals, and who may call what. The zero value
// holds nobody back. The relay's own twin is never held back: it is not asked
// for.
type Policy struct {
	Allow    Twins // with nobody else, if it names any
	Deny     Twins // not with these, whatever Allow says
	Commands []CommandRule
}

// A CommandRule keeps commands for some twins.
type CommandRule struct {
	Pattern string // as for [msgbus.MatchCommand]
	Twins   Twins
}

// AdmitsTwin reports whether the relay deals with a twin at all: takes its
// requests and replies, and sends it any.
func (p *Policy) AdmitsTwin(twin uint32) bool {
	if p.Deny.Has(twin) {
		return false
	}
	return p.Allow.none() || p.Allow.Has(twin)
}

// AdmitsCommand reports whether a twin may call a command: one that no rule is
// about, or that at least one rule keeps for it.
func (p *Policy) AdmitsCommand(twin uint32, cmd string) bool {
	ruled := false
	for _, rule := range p.Commands {
		if !msgbus.MatchCommand([]string{rule.Pattern}, cmd) {
			continue
		}
		if rule.Twins.Has(twin) {
			return true
		}
		ruled = true
	}
	return !ruled
}

// Twins is a set of twins. The zero value is empty.
type Twins struct {
	ranges []twinRange // in order, without overlap
}

type twinRange struct{ first, last uint32 }

// Has reports whether a twin is in the set.
func (t Twins) Has(twin uint32) bool {
	_, found := slices.BinarySearchFunc(t.ranges, twin, func(r twinRange, twin uint32) int {
		switch {
		case r.last < twin:
			return -1
		case r.first > twin:
			return 1
		default:
			return 0
		}
	})
	return found
}

func (t Twins) none() bool { return len(t.ranges) == 0 }

// ParseTwins reads twins and ranges of them, such as 1001 or 1000-1999.
func ParseTwins(texts []string) (Twins, error) {
	var all []twinRange
	for _, text := range texts {
		r, err := parseRange(text)
		if err != nil {
			return Twins{}, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b twinRange) int { return cmp.Compare(a.first, b.first) })
	var t Twins
	for _, r := range all {
		if n := len(t.ranges); n > 0 && r.first <= t.ranges[n-1].last {
			t.ranges[n-1].last = max(t.ranges[n-1].last, r.last)
			continue
		}
		t.ranges = append(t.ranges, r)
	}
	return t, nil
}

func parseRange(text string) (twinRange, error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := parseTwin(from)
	last, err2 := parseTwin(to)
	switch {
	case err != nil || err2 != nil:
		return twinRange{}, fmt.Errorf("%q is neither a twin nor a range of twins", text)
	case last < first:
		return twinRange{}, fmt.Errorf("the range %s ends before it begins", text)
	}
	return twinRange{first, last}, nil
}

func parseTwin(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || text[0] < '1' || text[0] > '9' {
		return 0, errors.New("no twin")
	}
	return uint32(n), nil
}

// ParseCommandRules reads rules such as zos.*=10,11. They may be cut at the
// commas, as lists of settings are: twins without a pattern belong to the one
// before them.
func ParseCommandRules(texts []string) ([]CommandRule, error) {
	type rule struct {
		pattern string
		twins   []string
	}
	var found []*rule
	for _, text := range texts {
		pattern, twins, begins := cutLast(text, "=")
		switch {
		case begins && pattern == "":
			return nil, fmt.Errorf("%q names no command", text)
		case begins:
			found = append(found, &rule{pattern: pattern})
		case len(found) == 0:
			return nil, fmt.Errorf("%q names no twins", text)
		}
		if twins == "" {
			return nil, fmt.Errorf("%q names no twins", text)
		}
		last := found[len(found)-1]
		last.twins = append(last.twins, strings.Split(twins, ",")...)
	}
	var rules []CommandRule
	for _, r := range found {
		if _, err := path.Match(r.pattern, ""); err != nil {
			return nil, fmt.Errorf("%q is no pattern", r.pattern)
		}
		twins, err := ParseTwins(r.twins)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.pattern, err)
		}
		rules = append(rules, CommandRule{r.pattern, twins})
	}
	return rules, nil
}

// cutLast is strings.Cut at the last sep, of which a pattern may hold others;
// without one all is after it.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}
