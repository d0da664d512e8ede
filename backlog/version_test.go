package backlog_test

import (
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A relay starts on a Redis of years ago and fails at the first message, with an error of a
// script that nobody understands.
func TestARedisBelowTheOldestIsTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"2.8.24": true, "5.0.14": true, "6.0.16": true, "6.1.241": true,
		"6.2.0": false, "6.2.14": false, "7.0.15": false, "8.1.1": false, "10.0.1": false,
		"": false, "unstable": false, // who does not tell is not refused
	} {
		if got := (backlog.Server{Version: version}).TooOld(); got != want {
			t.Errorf("%q is too old: %v, want %v", version, got, want)
		}
	}
}

// A provider of Redis that refuses INFO, or answers it in its own way, cannot be used, or an
// old one is not noticed.
func TestTheVersionIsReadAsFarAsRedisTells(t *testing.T) {
	for info, want := range map[string]string{
		"# Server\r\nredis_version:6.0\r\n":                              "6.0",
		"# Server\r\nx:\r\n":                                             "",
		"-NOPERM this user has no permissions to run the 'info' command": "",
		"-ERR unknown command":                                           "",
	} {
		if got := versionOf(t, redistest.Told(t, info)); got != want {
			t.Errorf("INFO is answered %q: the version is %q, want %q", info, got, want)
		}
	}
	real := redistest.Start(t)
	if got := versionOf(t, real.Addr()); !strings.Contains(got, ".") {
		t.Errorf("the version of a real Redis is %q", got)
	}
}

func versionOf(t *testing.T, address string) string {
	t.Helper()
	opts, err := backlog.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	store, err := backlog.Open(backlog.Options{Redis: opts})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	server, err := store.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server.Version
}
