package main

import (
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// parallel is how many tests run at once. They wait more than they compute.
const parallel = "6"

func TestMain(m *testing.M) { fleettest.Main(m, parallel) }
