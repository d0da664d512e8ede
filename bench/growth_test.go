package main

import (
	"math"
	"testing"
)

// A wrong exponent hides that the work grows with its square.
func TestPowerIsThatOfTheCurve(t *testing.T) {
	xs := []float64{1, 10, 100, 1000}
	for _, want := range []float64{0, 0.5, 1, 2} {
		ys := make([]float64, len(xs))
		for i, x := range xs {
			ys[i] = 7 * math.Pow(x, want)
		}
		if got := power(xs, ys); math.Abs(got-want) > 1e-9 {
			t.Errorf("the power of x^%g is told as %g", want, got)
		}
	}
}
