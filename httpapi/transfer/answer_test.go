package transfer_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A message whose outcome is lost is sent again, one whose outcome is made up is
// never handled: both sides mean the same by each line.
func TestOutcomesArriveAsTheyWereTold(t *testing.T) {
	told := []transfer.Outcome{
		{Word: transfer.Accepted},
		{Word: transfer.Refused, Reason: msgbus.NotExposed},
		{Word: transfer.Later, Reason: msgbus.QueueFull, After: 1},
		{Word: transfer.Later, Reason: msgbus.StorageFull},
		{Word: transfer.Later, Reason: "a_reason_of_2031", After: transfer.MostAfter},
	}
	var body []byte
	for _, o := range told {
		body = transfer.AppendOutcome(body, o)
	}
	if got, ok := transfer.ReadOutcomes(body, len(told)); !ok || !slices.Equal(got, told) {
		t.Errorf("%v, %v\n%s", got, ok, body)
	}
	for _, n := range []int{0, len(told) - 1, len(told) + 1} {
		if _, ok := transfer.ReadOutcomes(body, n); ok {
			t.Errorf("%d outcomes are taken for those of %d messages", len(told), n)
		}
	}
	if _, ok := transfer.ReadOutcomes(nil, 0); !ok {
		t.Error("a greeting has no outcomes, and its answer is refused")
	}
}

// A relay that asks for a day must not have its whole answer thrown away.
func TestALongWaitIsCut(t *testing.T) {
	body := transfer.AppendOutcome(nil, transfer.Outcome{Word: transfer.Later, Reason: msgbus.QueueFull, After: 86_400})
	got, ok := transfer.ReadOutcomes(body, 1)
	if !ok || got[0].After != transfer.MostAfter {
		t.Errorf("%s is read as %v, %v", body, got, ok)
	}
}

// Later versions may say more. What they say besides changes nothing, and what is
// no outcome makes the whole answer none.
func TestWhatAnOutcomeMaySay(t *testing.T) {
	for text, want := range map[string]transfer.Outcome{
		`{"outcome":"accepted"}`:                                           {Word: transfer.Accepted},
		`{"outcome":"accepted","since":17}`:                                {Word: transfer.Accepted},
		` { "outcome" : "accepted" } `:                                     {Word: transfer.Accepted},
		`{"reason":"x","outcome":"refused","detail":{"a":[1]}}`:            {Word: transfer.Refused, Reason: "x"},
		`{"outcome":"later","reason":"queue_full","after":0,"AFTER":9999}`: {Word: transfer.Later, Reason: msgbus.QueueFull},
	} {
		if got, ok := transfer.ReadOutcomes([]byte(text+"\n"), 1); !ok || got[0] != want {
			t.Errorf("%s is read as %v, %v", text, got, ok)
		}
	}
	for _, bad := range []string{
		``, `{}`, `null`, `"accepted"`, `[]`, `{"outcome":""}`, `{"outcome":"Accepted"}`, `{"Outcome":"accepted"}`, `{"outcome":"maybe","reason":"x"}`,
		`{"outcome":"accepted","reason":"queue_full"}`, `{"outcome":"accepted","after":1}`, `{"outcome":"accepted","outcome":"refused","reason":"x"}`,
		`{"outcome":"refused"}`, `{"outcome":"refused","reason":""}`, `{"outcome":"refused","reason":"No"}`, `{"outcome":"refused","reason":"a\nb"}`,
		`{"outcome":"refused","reason":"a b"}`, `{"outcome":"refused","reason":"` + strings.Repeat("a", 65) + `"}`, `{"outcome":"refused","reason":1}`,
		`{"outcome":"later","reason":"x","after":-1}`, `{"outcome":"later","reason":"x","after":3601}`, `{"outcome":"later","reason":"x","after":"1"}`,
		`{"outcome":"later","reason":"x","after":1.5}`, `{"outcome":"later","reason":"x","after":1e99}`, `{"outcome":"accepted"}{"outcome":"accepted"}`,
		`{"outcome":"accepted"} x`, `{"outcome":"accepted","x":` + strings.Repeat("[", 20_000), "{\"outcome\":\"accepted\",\"x\":\"\xff\"}",
	} {
		if got, ok := transfer.ReadOutcomes([]byte(bad+"\n"), 1); ok {
			t.Errorf("%.80q is read as %v", bad, got)
		}
	}
	for _, bad := range []string{`{"outcome":"accepted"}`, "\n" + `{"outcome":"accepted"}`, "\n"} {
		if _, ok := transfer.ReadOutcomes([]byte(bad), 1); ok {
			t.Errorf("%q is an answer for one message", bad)
		}
	}
}
