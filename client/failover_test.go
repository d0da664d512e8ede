package client

import (
	"slices"
	"testing"

	"github.com/msgbusd/msgbusd/internal/redisconn"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A fail-over takes back the last answers of a list that were read, and others have come
// since: a call whose answer is among those waits in vain.
//
// Broken by: LTRIM without looking at what stands there.
func TestAnswersThatCameAfterAFailOverAreNotRemovedUnread(t *testing.T) {
	server := redistest.Start(t)
	where, err := redisconn.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	l := &redisLink{rdb: where.Connect(), reader: where.Connect(), local: "local", list: "answers", most: maxPulled}
	defer func() { _ = l.stopReading(); _ = l.close() }()
	rdb := server.Client()
	pull := func() []string {
		t.Helper()
		got, err := l.pull()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	rdb.RPush(t.Context(), l.list, "1", "2", "3")
	pull()
	rdb.RPop(t.Context(), l.list)            // 3 was not on the new master,
	rdb.RPush(t.Context(), l.list, "4", "5") // which has been given others since
	if got := pull(); !slices.Contains(got, "4") || !slices.Contains(got, "5") {
		t.Errorf("pulled %q", got)
	}
	rdb.RPush(t.Context(), l.list, "6")
	if got := pull(); !slices.Equal(got, []string{"6"}) {
		t.Errorf("pulled %q, want what is new", got)
	}
}
