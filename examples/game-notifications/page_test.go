package main

import (
	"os"
	"strings"
	"testing"
)

// A browser does nothing about a message that the back end sends.
func TestThePageHasEveryActionOfTheDocument(t *testing.T) {
	page, err := os.ReadFile("page.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documented {
		if !strings.Contains(string(page), "\n  "+d.action+": (m) => ") {
			t.Errorf("the page does not know %s", d.action)
		}
	}
}
