package twin

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Twins of the tests. The development accounts are known to every substrate tool,
// so that a record in a failure message can be looked up.
const (
	aliceAccount = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY" // sr25519 //Alice
	bobAccount   = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty" // sr25519 //Bob
)

func record(t testing.TB, id uint32, account, address string) Record {
	t.Helper()
	rec, err := NewRecord(id, account, address)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func identity(t testing.TB, secret string, kt KeyType) *Identity {
	t.Helper()
	id, err := NewIdentity(secret, kt)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
