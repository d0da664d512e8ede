package main

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// A request for /shop/cart goes to the bundle of /, or to one of /sho.
func TestTheLongestPathIsConsultedFirst(t *testing.T) {
	routes := []Route{
		{"", "/", Queue{1001, "root"}},
		{"", "/shop", Queue{1002, "shop"}},
		{"", "/shop", Queue{1001, "shop"}},
		{"b.example", "/shop", Queue{1001, "shop-of-b"}},
		{"", "/shop/cart", Queue{1001, "cart"}},
	}
	sortRoutes(routes)
	want := []string{"/shop/cart 1001/cart", "b.example/shop 1001/shop-of-b", "/shop 1001/shop", "/shop 1002/shop", "/ 1001/root"}
	if got := shown(routes); !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
	for _, c := range []struct {
		host, path string
		want       []string
	}{
		{"a.example", "/shop/cart/7", []string{"/shop/cart 1001/cart"}},
		{"a.example:8080", "/shop", []string{"/shop 1001/shop", "/shop 1002/shop"}},
		{"B.example:8080", "/shop/", []string{"b.example/shop 1001/shop-of-b"}},
		{"a.example", "/shopping", []string{"/ 1001/root"}},
		{"a.example", "/", []string{"/ 1001/root"}},
	} {
		if got := shown(matching(routes, c.host, c.path)); !slices.Equal(got, c.want) {
			t.Errorf("%s%s is served by %q, want %q", c.host, c.path, got, c.want)
		}
	}
	if got := matching(routes[:1], "a.example", "/other"); got != nil {
		t.Errorf("what nobody serves is served by %v", got)
	}
}

// Messages for one process reach another, on another machine.
func TestNamesOfQueuesReadAsTheyAreWritten(t *testing.T) {
	want := Queue{1002, "RU-7"}
	raw, err := json.Marshal(want)
	var got Queue
	if err != nil || string(raw) != `"1002/RU-7"` || json.Unmarshal(raw, &got) != nil || got != want {
		t.Errorf("%s is read as %v, %v", raw, got, err)
	}
	for _, bad := range []string{"", "RU-7", "/RU-7", "1002/", "x/RU-7", "-1/RU-7", "4294967296/RU-7"} {
		if err := new(Queue).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is read as a queue", bad)
		}
	}
}

// An operator knows the document's times and finds others.
func TestTheTimesAreTheDocumentsUnlessSaidOtherwise(t *testing.T) {
	got := Times{CleanUpAfter: time.Minute}.orDefaults()
	want := Times{HeartbeatEvery: 10 * time.Second, CleanUpAfter: time.Minute, StaleAfter: 450 * time.Second, AnswerWithin: 15 * time.Minute}
	if got != want {
		t.Errorf("the times are %+v, want %+v", got, want)
	}
	if got := (Times{}).orDefaults().CleanUpAfter; got != 3*time.Minute {
		t.Errorf("clean-up is after %s", got)
	}
}
