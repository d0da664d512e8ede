//go:build !race

package fleettest

const raceDetector = false
