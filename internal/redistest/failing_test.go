package redistest_test

import (
	"fmt"
	"runtime"
	"testing"
)

// failing runs f with a TB whose Fatal does not fail t, and returns the message.
func failing(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // Fatal ends its goroutine
		defer close(done)
		f(rec)
	}()
	<-done
	if rec.message == "" {
		t.Fatal("the test did not fail")
	}
	return rec.message
}

type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Fatal(args ...any) {
	r.message = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Fatal(fmt.Sprintf(format, args...))
}
