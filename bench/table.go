package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// A measurement is one run of one row.
type measurement struct {
	roundTrips float64 // a second

	// Of ours only: latency in ms; and each for both sides, CPU in µs and Redis
	// commands a round trip, memory in MiB.
	p50, p99            float64
	relays, redis, apps float64
	fleet               float64
	commands            float64
	peak, memory        float64
}

// A row is a setting and what was measured of it.
type row struct {
	setting              setting
	ours, plain, signing []measurement
	before               []measurement // ours, when nothing waited for dead twins
}

type table struct {
	options options
	rows    []row
	idle    *idleness
}

// measure adds a row, unless it was not asked for. Ours and the others take turns, so
// that what else the machine does meets all of them.
func (t *table) measure(ctx context.Context, s setting) error {
	if !t.options.only.MatchString(s.String()) {
		return nil
	}
	p, err := newPair(ctx, t.options.program, s)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.warmUp(ctx, s, t.options.duration/4); err != nil {
		return err
	}
	r := row{setting: s}
	if s.waiting > 0 {
		for range t.options.rounds {
			m, err := p.measure(ctx, s, t.options.duration)
			if err != nil {
				return err
			}
			r.before = append(r.before, m)
		}
		if err := p.askDead(ctx, s.dead, s.waiting); err != nil {
			return err
		}
		if err := pass(ctx, t.options.settle); err != nil {
			return err
		}
	}
	for range t.options.rounds {
		m, err := p.measure(ctx, s, t.options.duration)
		if err != nil {
			return err
		}
		r.ours = append(r.ours, m)
		if !t.options.nats || s.isLoaded() {
			continue
		}
		if err := r.measureOthers(ctx, t.options.duration); err != nil {
			return err
		}
	}
	if err := p.checkVersion(ctx, s); err != nil {
		return err
	}
	t.rows = append(t.rows, r)
	fmt.Println(r)
	return nil
}

// measureOthers measures what people would choose instead.
func (r *row) measureOthers(ctx context.Context, duration time.Duration) error {
	plain, err := measureNATS(ctx, r.setting, false, duration)
	if err != nil {
		return err
	}
	signing, err := measureNATS(ctx, r.setting, true, duration)
	if err != nil {
		return err
	}
	r.plain, r.signing = append(r.plain, plain), append(r.signing, signing)
	return nil
}

// warmUp has every twin asked twice: keys, records and connections are got once.
func (p *pair) warmUp(ctx context.Context, s setting, duration time.Duration) error {
	for answered := int64(0); answered < 2*int64(len(p.asked)); {
		r, _, err := p.ask(ctx, s, duration)
		if err != nil {
			return err
		}
		answered += r.Answered
	}
	return nil
}

func (p *pair) measure(ctx context.Context, s setting, duration time.Duration) (m measurement, err error) {
	services := &m.apps
	if s.fleet > 0 {
		services = &m.fleet
	}
	parts := map[*float64][]*process{&m.relays: p.relays, &m.redis: p.redis, services: {p.services}}
	used := func(sign float64) error {
		for sum, processes := range parts {
			for _, one := range processes {
				cpu, err := one.cpu()
				if err != nil {
					return err
				}
				*sum += sign * float64(cpu.Microseconds())
			}
		}
		commands, err := p.commands(ctx)
		m.commands += sign * commands
		return err
	}
	if err := used(-1); err != nil {
		return m, err
	}
	r, apps, err := p.ask(ctx, s, duration)
	if err != nil {
		return m, err
	}
	if err := used(1); err != nil {
		return m, err
	}
	m.apps += float64(apps.Microseconds())
	for _, each := range []*float64{&m.relays, &m.redis, &m.apps, &m.fleet, &m.commands} {
		*each /= float64(r.Answered)
	}
	for _, relay := range p.relays {
		most, err := relay.memory(peak)
		if err != nil {
			return m, err
		}
		has, err := relay.memory(now)
		if err != nil {
			return m, err
		}
		m.peak, m.memory = max(m.peak, most), max(m.memory, has)
	}
	m.roundTrips, m.p50, m.p99 = r.RoundTrips, r.Latency.P50, r.Latency.P99
	return m, nil
}

// median of one figure of several runs.
func median(all []measurement, figure func(measurement) float64) float64 {
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = figure(m)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func roundTrips(m measurement) float64 { return m.roundTrips }

const (
	headOfAll = "| apps | round trips/s | p50 ms | p99 ms | CPU µs: relays | Redis | apps | Redis commands | peak MiB of a relay |"
	head      = headOfAll + " NATS pair/s | ratio | signing NATS pair/s | ratio |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
	headOfLoaded = headOfAll + " MiB now | CPU µs of the fleet | round trips/s before anything waited | ratio |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)

func (r row) String() string {
	of := func(figure func(measurement) float64) float64 { return median(r.ours, figure) }
	line := fmt.Sprintf("| %s | %.0f | %.2f | %.2f | %.0f | %.0f | %.0f | %.1f | %.0f |", r.setting, of(roundTrips),
		of(func(m measurement) float64 { return m.p50 }), of(func(m measurement) float64 { return m.p99 }),
		of(func(m measurement) float64 { return m.relays }), of(func(m measurement) float64 { return m.redis }),
		of(func(m measurement) float64 { return m.apps }), of(func(m measurement) float64 { return m.commands }),
		of(func(m measurement) float64 { return m.peak }))
	compared := [][]measurement{r.plain, r.signing}
	if r.setting.isLoaded() {
		line += fmt.Sprintf(" %.0f | %.0f |", of(func(m measurement) float64 { return m.memory }), of(func(m measurement) float64 { return m.fleet }))
		compared = [][]measurement{r.before}
	}
	for _, other := range compared {
		if len(other) == 0 {
			line += " | |"
			continue
		}
		theirs := median(other, roundTrips)
		line += fmt.Sprintf(" %.0f | %.2f |", theirs, of(roundTrips)/theirs)
	}
	return line
}

// print writes what was measured, each kind of row under its own head.
func (t *table) print(w io.Writer) {
	for _, loaded := range []bool{false, true} {
		text := head
		if loaded {
			text = headOfLoaded
		}
		for _, r := range t.rows {
			if r.setting.isLoaded() != loaded {
				continue
			}
			if text != "" {
				fmt.Fprintln(w, text)
				text = ""
			}
			fmt.Fprintln(w, r)
		}
		if text == "" {
			fmt.Fprintln(w)
		}
	}
	printGrowths(w, t.rows)
	if t.idle != nil {
		fmt.Fprintln(w, t.idle)
	}
}
