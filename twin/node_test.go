package twin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Questions of the tests, as they are on the wire. In a place of the state are the
// names of module and map, the hash of the key, and the key.
const (
	askTwin1 = `{"jsonrpc":"2.0","id":1,"method":"state_getStorage","params":["0x` +
		`19a2526838feefd7695a3b5715b415b1` + `311378229266fc86f673a3f4cf398e69` + `d82c12285b5d4551f88e8f6e7eb52b81` + `01000000` + `"]}`
	askNumberOfFirst = `{"jsonrpc":"2.0","id":1,"method":"state_getStorage","params":["0x` +
		`19a2526838feefd7695a3b5715b415b1` + `aca6514962aa3f0d58aff3524045f9e0` + `f39a2cad58411cd49f577e5086b8031f` +
		`000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f` + `"]}`
	askHealth = `{"jsonrpc":"2.0","id":1,"method":"system_health","params":[]}`
)

// rpcResult is a result of JSON-RPC, of bytes of the state.
func rpcResult(raw []byte) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","result":"0x%s","id":1}`, hex.EncodeToString(raw))
}

// A layout that is not understood is a network that the relay cannot join.
func TestANodeIsReadInBothLayouts(t *testing.T) {
	for answer, address := range map[string]string{
		"node-until-2023.json":      firstAddress,
		"node-since-2023.json":      "",
		"node-since-2023-bare.json": "",
	} {
		want := record(t, 1, firstAccount, address)
		rec, err := conversation(t, "node+", exchange{askTwin1, 200, answer}).Twin(context.Background(), 1)
		if err != nil || rec != want {
			t.Errorf("%s: %+v, %v", answer, rec, err)
		}
		rec, err = conversation(t, "node+", exchange{askNumberOfFirst, 200, "node-id.json"}, exchange{askTwin1, 200, answer}).
			TwinByAccount(context.Background(), firstAccount)
		if err != nil || rec != want {
			t.Errorf("%s, by account: %+v, %v", answer, rec, err)
		}
	}
}

// A node that was away has the state of an old block, without the twins that came
// later. To believe it ends every message to them, and stops the relay of one.
//
// Broken by: in storage, ErrNotFound in the place of missing.
func TestANodeThatIsBehindItsChainKnowsNotWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		health string
		want   error
	}{
		"in step":      {200, "node-in-step.json", ErrNotFound},
		"behind":       {200, "node-behind.json", ErrUnavailable},
		"will not say": {200, "node-error.json", ErrUnavailable},
		"null":         {200, "node-nothing.json", ErrUnavailable},
		"else":         {200, `{"jsonrpc":"2.0","result":{"peers":0},"id":1}`, ErrUnavailable},
		"went away":    {502, "", ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			health := exchange{askHealth, c.status, c.health}
			rec, err := conversation(t, "node+", exchange{askTwin1, 200, "node-nothing.json"}, health).Twin(context.Background(), 1)
			expectNoRecord(t, rec, err, c.want)
			rec, err = conversation(t, "node+", exchange{askNumberOfFirst, 200, "node-nothing.json"}, health).TwinByAccount(context.Background(), firstAccount)
			expectNoRecord(t, rec, err, c.want)
		})
	}
}

// Whatever is not a node's own word that there is nothing makes a message wait.
// Taken for "not found", a proxy without its node would end them all.
//
// Broken by: in call, without the case of reply.Error, or the one after it.
func TestNothingButANodesNullIsNotFound(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer string
		want   error
	}{
		"error":               {200, "node-error.json", ErrUnavailable},
		"error and null":      {200, `{"jsonrpc":"2.0","result":null,"error":{"code":-32000,"message":"x"},"id":1}`, ErrUnavailable},
		"error in words":      {200, `{"jsonrpc":"2.0","result":null,"error":"x","id":1}`, ErrUnavailable},
		"no result":           {200, `{"jsonrpc":"2.0","id":1}`, ErrLying},
		"not JSON-RPC":        {200, `{"result":null}`, ErrLying},
		"another's answer":    {200, `{"jsonrpc":"2.0","result":null,"id":2}`, ErrLying},
		"nobody's answer":     {200, `{"jsonrpc":"2.0","result":null,"id":null}`, ErrLying},
		"batch":               {200, `[{"jsonrpc":"2.0","result":null,"id":1}]`, ErrUnavailable},
		"null":                {200, "null", ErrUnavailable},
		"empty":               {200, "", ErrUnavailable},
		"page":                {200, "<!doctype html>", ErrUnavailable},
		"over 64 KiB":         {200, `{"jsonrpc":"2.0","result":null,"id":1}` + strings.Repeat(" ", 64<<10), ErrUnavailable},
		"204":                 {204, "", ErrUnavailable},
		"404":                 {404, "", ErrUnavailable},
		"404 with null":       {404, "node-nothing.json", ErrUnavailable},
		"500 with null":       {500, "node-nothing.json", ErrUnavailable},
		"number":              {200, `{"jsonrpc":"2.0","result":1,"id":1}`, ErrUnavailable},
		"no hexadecimal":      {200, `{"jsonrpc":"2.0","result":"0xzz","id":1}`, ErrLying},
		"half a byte":         {200, `{"jsonrpc":"2.0","result":"0x010","id":1}`, ErrLying},
		"hexadecimal, no 0x":  {200, `{"jsonrpc":"2.0","result":"01000000","id":1}`, ErrLying},
		"no bytes":            {200, `{"jsonrpc":"2.0","result":"0x","id":1}`, ErrLying},
		"bytes of all sorts":  {200, `{"jsonrpc":"2.0","result":"0x00112233445566","id":1}`, ErrLying},
		"three bytes":         {200, rpcResult([]byte{1, 0, 0}), ErrLying},
		"another twin":        {200, rpcResult(twinUntil2023(2, "202::5")), ErrLying},
		"another twin, newer": {200, rpcResult(twinSince2023(2)), ErrLying},
		"endless address":     {200, rpcResult(twinUntil2023(1, strings.Repeat("2", addressLenMax+1))), ErrLying},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := conversation(t, "node+", exchange{askTwin1, c.status, c.answer}).Twin(context.Background(), 1)
			expectNoRecord(t, rec, err, c.want)
			rec, err = conversation(t, "node+", exchange{askNumberOfFirst, c.status, c.answer}).TwinByAccount(context.Background(), firstAccount)
			expectNoRecord(t, rec, err, c.want)
		})
	}
}

// A relay must not take a number that is not its key's: it would sign in the name
// of a twin that is registered with another key, and be refused everywhere.
func TestANodesNumberForAnAccountIsChecked(t *testing.T) {
	number := exchange{askNumberOfFirst, 200, "node-id.json"}
	another := twinSince2023(1)
	another[4] ^= 1
	for name, exchanges := range map[string][]exchange{
		"no such twin":    {number, {askTwin1, 200, "node-nothing.json"}, {askHealth, 200, "node-in-step.json"}},
		"another account": {number, {askTwin1, 200, rpcResult(another)}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := conversation(t, "node+", exchanges...).TwinByAccount(context.Background(), firstAccount)
			expectNoRecord(t, rec, err, ErrLying)
		})
	}
	rec, err := conversation(t, "node+", number, exchange{askTwin1, 503, ""}).TwinByAccount(context.Background(), firstAccount)
	expectNoRecord(t, rec, err, ErrUnavailable)
	if errors.Is(err, ErrLying) {
		t.Error(err)
	}
	rec, err = conversation(t, "node+").TwinByAccount(context.Background(), "no account")
	expectNoRecord(t, rec, err, ErrAccount)
}
