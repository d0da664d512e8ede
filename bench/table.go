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
	commands            float64
	peak                float64
}

// A row is a setting and what was measured of it.
type row struct {
	setting              setting
	ours, plain, signing []measurement
}

type table struct {
	options options
	rows    []row
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
	if s.dead > 0 {
		if err := p.askDead(ctx, s.dead); err != nil {
			return err
		}
	}
	if _, err := p.measure(ctx, s, t.options.duration/4); err != nil { // keys, records and connections are got once
		return err
	}
	r := row{setting: s}
	for range t.options.rounds {
		m, err := p.measure(ctx, s, t.options.duration)
		if err != nil {
			return err
		}
		r.ours = append(r.ours, m)
		for _, yardstick := range []struct {
			into  *[]measurement
			signs bool
		}{{&r.plain, false}, {&r.signing, true}} {
			if !t.options.nats {
				continue
			}
			m, err := measureNATS(ctx, s, yardstick.signs, t.options.duration)
			if err != nil {
				return err
			}
			*yardstick.into = append(*yardstick.into, m)
		}
	}
	if err := p.checkVersion(ctx, s); err != nil {
		return err
	}
	t.rows = append(t.rows, r)
	fmt.Println(r)
	return nil
}

func (p *pair) measure(ctx context.Context, s setting, duration time.Duration) (m measurement, err error) {
	parts := map[*float64][]*process{&m.relays: p.relays[:], &m.redis: p.redis[:], &m.apps: {p.services}}
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
	for _, each := range []*float64{&m.relays, &m.redis, &m.apps, &m.commands} {
		*each /= float64(r.Answered)
	}
	for _, relay := range p.relays {
		peak, err := relay.peak()
		if err != nil {
			return m, err
		}
		m.peak = max(m.peak, peak)
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

const head = "| apps | round trips/s | p50 ms | p99 ms | CPU µs: relays | Redis | apps | Redis commands | peak MiB of a relay | NATS pair/s | ratio | signing NATS pair/s | ratio |\n" +
	"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"

func (r row) String() string {
	of := func(figure func(measurement) float64) float64 { return median(r.ours, figure) }
	line := fmt.Sprintf("| %s | %.0f | %.2f | %.2f | %.0f | %.0f | %.0f | %.1f | %.0f |", r.setting, of(roundTrips),
		of(func(m measurement) float64 { return m.p50 }), of(func(m measurement) float64 { return m.p99 }),
		of(func(m measurement) float64 { return m.relays }), of(func(m measurement) float64 { return m.redis }),
		of(func(m measurement) float64 { return m.apps }), of(func(m measurement) float64 { return m.commands }),
		of(func(m measurement) float64 { return m.peak }))
	for _, other := range [][]measurement{r.plain, r.signing} {
		if len(other) == 0 {
			line += " | |"
			continue
		}
		theirs := median(other, roundTrips)
		line += fmt.Sprintf(" %.0f | %.2f |", theirs, of(roundTrips)/theirs)
	}
	return line
}

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, head)
	for _, r := range t.rows {
		fmt.Fprintln(w, r)
	}
}
