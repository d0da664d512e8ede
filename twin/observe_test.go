package twin

import (
	"context"
	"fmt"
	"testing"
	"time"
)

type heard []string

func (h *heard) ResolverAsked(result string) { *h = append(*h, result) }

// The resolver has been down since last night, and the metrics show that all questions
// were answered; or what the cache answers hides how often it is asked.
func TestEachQuestionToTheResolverIsTold(t *testing.T) {
	var h heard
	w := newWorld(t, Options{Observer: &h})
	ctx := context.Background()
	rec := record(t, 5, aliceAccount, "202::5")
	for range 3 { // the second and third are answered from memory
		w.expect("found", rec, nil, 1)
	}
	for i, err := range []error{errDown, lying("it answered with twin 7"), ErrNotFound} {
		w.says(Record{}, err)
		if _, err := w.dir.Twin(ctx, uint32(100+i)); err == nil {
			t.Errorf("twin %d is found", 100+i)
		}
	}
	w.says(Record{}, ErrUnsupported)
	if _, err := w.dir.ByAccount(ctx, aliceAccount); err == nil {
		t.Error("an account is found")
	}
	w.says(rec, nil)
	w.passes(time.Minute)
	w.expect("found again", rec, nil, 6)
	if got := fmt.Sprint(h); got != "[found unavailable wrong_answer not_found unsupported found]" {
		t.Errorf("told: %s", got)
	}
	if n := w.dir.Remembered(); n != 4 {
		t.Errorf("%d twins are remembered, want 5 and the three that could not be told", n)
	}
}
