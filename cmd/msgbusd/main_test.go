package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The test binary is msgbusd too: under that name it is the first in PATH, for
// the scripts and for every test that starts a process.
func TestMain(m *testing.M) {
	// Under the race detector every process would sleep for a second at its end.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	testscript.Main(leakChecked{m}, map[string]func(){
		"msgbusd": func() { os.Exit(process()) },
	})
}

type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines were left behind: %v\n", err)
		return 1
	}
	return 0
}
