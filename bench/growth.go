package main

import (
	"fmt"
	"io"
	"math"
)

// growths groups the rows that differ only in how much there is of something, by what
// they have in common.
func growths(rows []row) (names []string, groups map[string][]row) {
	groups = make(map[string][]row)
	for _, r := range rows {
		name, amount := r.setting.grows()
		if amount == 0 {
			continue
		}
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], r)
	}
	return names, groups
}

// printGrowths tells by which power of the amount the cost of a round trip grows.
func printGrowths(w io.Writer, rows []row) {
	names, groups := growths(rows)
	for _, name := range names {
		group := groups[name]
		if len(group) < 2 {
			continue
		}
		amounts := make([]float64, len(group))
		for i, r := range group {
			_, amount := r.setting.grows()
			amounts[i] = float64(amount)
		}
		of := func(figure func(measurement) float64) float64 {
			costs := make([]float64, len(group))
			for i, r := range group {
				costs[i] = median(r.ours, figure)
			}
			return power(amounts, costs)
		}
		fmt.Fprintf(w, "%s, %.0f to %.0f: CPU of a round trip grows with the power %.2f (relay %.2f, Redis %.2f)\n",
			name, amounts[0], amounts[len(amounts)-1],
			of(func(m measurement) float64 { return m.relays + m.redis }),
			of(func(m measurement) float64 { return m.relays }), of(func(m measurement) float64 { return m.redis }))
	}
}

// power fits y = a × x^power by least squares on logarithms.
func power(xs, ys []float64) float64 {
	var sumX, sumY, sumXX, sumXY float64
	for i := range xs {
		x, y := math.Log(xs[i]), math.Log(ys[i])
		sumX, sumY, sumXX, sumXY = sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	n := float64(len(xs))
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}
