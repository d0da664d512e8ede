package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/gateway"
)

// A page that does not keep up is not told, or not of as many as it has missed; or one of
// them makes the memory of the relay grow.
func TestWhatAQueueDropsIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const mostEvents, mostBytes = 4, 20
		q := gateway.NewQueue(mostEvents, mostBytes)
		put, told := 0, 0 // told: heard or known to be lost
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				text := fmt.Sprint(put)
				q.Put(text + strings.Repeat(" ", rapid.IntRange(0, 30).Draw(t, "size")))
				put++
				if n := q.Waits(); n > mostEvents {
					t.Fatalf("%d wait", n)
				}
			},
			"lose": func(*rapid.T) {
				q.Lose(1)
				put++
			},
			"next": func(t *rapid.T) {
				text, lost, ok := q.Next()
				if !ok {
					return
				}
				told += lost
				if got := strings.TrimSpace(text); got != fmt.Sprint(told) {
					t.Fatalf("after %d comes %s", told, got)
				}
				told++
			},
		})
		for {
			text, lost, ok := q.Next()
			if !ok {
				break
			}
			if told += lost; strings.TrimSpace(text) != fmt.Sprint(told) {
				t.Fatalf("after %d comes %s", told, text)
			}
			told++
		}
	})
}

// A page is told of three events that it has missed, when nobody knows how many they were.
func TestALossThatNobodyCanCountStaysOne(t *testing.T) {
	q := gateway.NewQueue(2, 100)
	q.Lose(-1)
	for i := range 5 {
		q.Put(fmt.Sprint(i))
	}
	if text, lost, _ := q.Next(); text != "3" || lost != -1 {
		t.Errorf("%s, with %d lost before it", text, lost)
	}
	if text, lost, _ := q.Next(); text != "4" || lost != 0 {
		t.Errorf("%s, with %d lost before it", text, lost)
	}
}

// A page hears of a newer event before the latest of those before it.
func TestAQueueThatIsHeldHandsNothingOut(t *testing.T) {
	q := gateway.NewQueue(2, 100)
	q.Hold()
	q.Put("a")
	if text, _, ok := q.Next(); ok {
		t.Errorf("it hands out %s", text)
	}
	q.Release()
	if _, _, ok := q.Next(); !ok {
		t.Error("it keeps what it has")
	}
}
