package msgbus_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/msgbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func decode(t testing.TB, text string) *msgbus.Message {
	t.Helper()
	m, err := msgbus.Decode([]byte(text))
	if err != nil {
		t.Fatalf("Decode(%.200s): %v", text, err)
	}
	return m
}

// reasonOf returns the reason of a refusal, "" for nil, and fails the test for
// any other error: every error of this package has a reason.
func reasonOf(t testing.TB, err error) msgbus.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var refusal *msgbus.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("error %v (%T) has no reason", err, err)
	}
	return refusal.Reason
}
