package twin

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// Each resolver spells the keys its own way; one that is not understood is a
// network that the relay cannot join.
func TestRecordsAreReadFromEveryPublishedShape(t *testing.T) {
	for name, text := range map[string]string{
		"archived resolver":  `{"Version":1,"ID":1,"Account":"` + aliceAccount + `","IP":"202:6df5::ee0f","Entities":null}`,
		"lower case":         `{"version":1,"id":1,"account":"` + aliceAccount + `","ip":"202:6df5::ee0f","entities":[]}`,
		"gridproxy":          `{"twinId":1,"accountId":"` + aliceAccount + `","ip":"202:6df5::ee0f"}`,
		"both spellings":     `{"id":1,"twinId":1,"account":"` + aliceAccount + `","accountId":"` + aliceAccount + `","ip":"202:6df5::ee0f"}`,
		"GraphQL's spelling": `{"twinID":1,"accountID":"` + aliceAccount + `","ip":"202:6df5::ee0f"}`,
	} {
		var got Record
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := record(t, 1, aliceAccount, "202:6df5::ee0f"); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Since 2023 the chain has no addresses.
	for _, text := range []string{
		`{"twinId":1,"accountId":"` + aliceAccount + `","relay":"relay.example.org","publicKey":"0x02"}`,
		`{"twinId":1,"accountId":"` + aliceAccount + `","relay":null,"publicKey":null,"ip":null}`,
	} {
		var got Record
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != record(t, 1, aliceAccount, "") {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// A record that is wrong must not become a twin with a key of zeros, which
// anybody can sign for.
func TestRecordsThatAreIncompleteOrContradictoryAreRefused(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `7`, `"x"`, ``, `{"id":1}`,
		`{"account":"` + aliceAccount + `"}`,
		`{"id":0,"account":"` + aliceAccount + `"}`,
		`{"id":-1,"account":"` + aliceAccount + `"}`,
		`{"id":4294967296,"account":"` + aliceAccount + `"}`,
		`{"id":1.5,"account":"` + aliceAccount + `"}`,
		`{"id":"1","account":"` + aliceAccount + `"}`,
		`{"id":1,"account":""}`,
		`{"id":1,"account":"` + aliceAccount[:46] + `"}`,
		`{"id":1,"twinId":2,"account":"` + aliceAccount + `"}`,
		`{"id":1,"account":"` + aliceAccount + `","accountId":"` + bobAccount + `"}`,
		`{"id":1,"account":"` + aliceAccount + `","ip":7}`,
		`{"id":1,"account":"` + aliceAccount + `","ip":"` + strings.Repeat("a", addressLenMax+1) + `"}`,
	} {
		rec := record(t, 7, bobAccount, "kept")
		if err := json.Unmarshal([]byte(text), &rec); err == nil {
			t.Errorf("%s: accepted as %+v", text, rec)
		}
		if rec != record(t, 7, bobAccount, "kept") {
			t.Errorf("%s: refused, and yet written: %+v", text, rec)
		}
	}
}

// What is stored must be the same twin when it is read after a power cut.
func TestARecordIsReadBackAsItWasWritten(t *testing.T) {
	want := record(t, 4294967295, bobAccount, "[2a02::1]:8051")
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := json.Unmarshal(data, &got); err != nil || got != want {
		t.Errorf("%s: %+v, %v", data, got, err)
	}
}

// Property: no panic, and what is accepted survives being stored.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":1,"Account":"` + aliceAccount + `","IP":"202:6df5::ee0f","Entities":null}`))
	f.Add([]byte(`{"twinId":1,"accountId":"` + aliceAccount + `","relay":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var rec Record
		if json.Unmarshal(data, &rec) != nil {
			return
		}
		if rec.ID == 0 || rec.PublicKey.Account() != rec.Account {
			t.Errorf("accepted %+v", rec)
		}
		stored, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		var again Record
		if err := json.Unmarshal(stored, &again); err != nil || again != rec {
			t.Errorf("%+v became %+v, %v", rec, again, err)
		}
	})
}

// An error about a stranger's account must be told apart from one of ours.
func TestNewRecordTellsWhatIsWrong(t *testing.T) {
	if _, err := NewRecord(1, "x", ""); !errors.Is(err, ErrAccount) {
		t.Error(err)
	}
	if _, err := NewRecord(1, aliceAccount, strings.Repeat("a", addressLenMax+1)); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
}
