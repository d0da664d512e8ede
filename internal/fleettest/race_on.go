//go:build race

package fleettest

const raceDetector = true
