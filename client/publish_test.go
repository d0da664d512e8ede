package client_test

import (
	"testing"
)

// The last one who listens at a twin has just left, and the publisher is told of a failure
// although there was nobody to be told.
func TestThatNobodyListensAnyMoreIsNoErrorOfAPublisher(t *testing.T) {
	r := newRig(t)
	type counted struct {
		n   int
		err error
	}
	publish := func() <-chan counted {
		ended := make(chan counted, 1)
		go func() {
			n, err := r.c.PublishCounted(r.Context(), "news", "x")
			ended <- counted{n, err}
		}()
		return ended
	}

	ended, m := publish(), r.asked()
	r.give(with(replyFrom(m, 1001, `{"listeners":2}`), "of", 2))
	r.give(with(busError(m, 1002, "not_subscribed", "nobody here wants events"), "of", 2))
	if got := await(t, ended, "the count"); got.n != 2 || got.err != nil {
		t.Errorf("%d have heard it, %v; want 2", got.n, got.err)
	}

	ended, m = publish(), r.asked()
	r.give(with(replyFrom(m, 1001, `{"listeners":2}`), "of", 2))
	r.give(with(busError(m, 1002, "expired", "request timeout"), "of", 2))
	if got := await(t, ended, "the count"); got.n != 2 || got.err == nil {
		t.Errorf("%d have heard it, %v; want 2 and an error about 1002", got.n, got.err)
	}
}
