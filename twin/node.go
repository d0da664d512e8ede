package twin

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// Where the chain's state holds the maps of twins: twox128 of the module's name
// and of the map's.
const (
	twinsPrefix         = "19a2526838feefd7695a3b5715b415b1" + "311378229266fc86f673a3f4cf398e69" // TfgridModule Twins
	twinByAccountPrefix = "19a2526838feefd7695a3b5715b415b1" + "aca6514962aa3f0d58aff3524045f9e0" // TfgridModule TwinIdByAccountID
)

// storageKey returns where a map of the chain's state holds the value of a key,
// which stands behind its own blake2b hash of 128 bits.
func storageKey(prefix string, key []byte) string {
	h, _ := blake2b.New(16, nil) // fails for longer hashes, and for secrets
	h.Write(key)
	return "0x" + prefix + hex.EncodeToString(h.Sum(nil)) + hex.EncodeToString(key)
}

// nodeSource reads twins from the state of a chain node.
type nodeSource struct{ *httpSource }

func (s nodeSource) Twin(ctx context.Context, id uint32) (Record, error) {
	value, err := s.storage(ctx, storageKey(twinsPrefix, binary.LittleEndian.AppendUint32(nil, id)))
	if err != nil {
		return Record{}, err
	}
	twin, ok := readChainTwin(value, id)
	if !ok {
		return Record{}, lying("the record of twin %d is in neither layout of the chain", id)
	}
	rec, err := twin.record()
	if err != nil {
		return Record{}, lying("%w", err)
	}
	return rec, nil
}

func (s nodeSource) TwinByAccount(ctx context.Context, account string) (Record, error) {
	key, err := ParseAccount(account)
	if err != nil {
		return Record{}, unavailable(err)
	}
	value, err := s.storage(ctx, storageKey(twinByAccountPrefix, key[:]))
	if err != nil {
		return Record{}, err
	}
	r := scaleReader{rest: value}
	id := r.u32()
	if !r.done() {
		return Record{}, lying("the number of an account's twin is %d bytes long", len(value))
	}
	rec, err := s.Twin(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return Record{}, lying("account %s has twin %d, and there is none", account, id)
	}
	if err != nil {
		return Record{}, err
	}
	if err := hasAccount(account)(rec); err != nil {
		return Record{}, err
	}
	return rec, nil
}

// storage returns what the state of the latest block holds in a place.
func (s nodeSource) storage(ctx context.Context, key string) ([]byte, error) {
	var value *string
	if err := s.call(ctx, "state_getStorage", []string{key}, &value); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, s.missing(ctx)
	}
	digits, prefixed := strings.CutPrefix(*value, "0x")
	raw, err := hex.DecodeString(digits)
	if err != nil || !prefixed {
		return nil, lying("a value of the state is not hexadecimal")
	}
	return raw, nil
}

// missing tells what it means that the state holds nothing in a place. The state
// of a node that is new, or was away for long, is that of an old block, which
// does not have the twins that came later.
func (s nodeSource) missing(ctx context.Context) error {
	var health struct {
		IsSyncing *bool `json:"isSyncing"`
	}
	if err := s.call(ctx, "system_health", []string{}, &health); err != nil {
		return err
	}
	if health.IsSyncing == nil || *health.IsSyncing {
		return unavailable(fmt.Errorf("%s has not caught up with its chain", s.base))
	}
	return ErrNotFound
}

type rpcQuestion struct {
	JSONRPC string   `json:"jsonrpc"`
	ID      int      `json:"id"`
	Method  string   `json:"method"`
	Params  []string `json:"params"`
}

// A rpcAnswer tells a result of null, which says that there is nothing, from none.
type rpcAnswer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// rpcID is the same for all calls: each has an exchange of HTTP for itself.
const rpcID = 1

// call has the node run a method, and reads its result.
func (s nodeSource) call(ctx context.Context, method string, params []string, result any) error {
	a, err := s.post(ctx, rpcQuestion{JSONRPC: "2.0", ID: rpcID, Method: method, Params: params})
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return a.unexpected()
	}
	var reply rpcAnswer
	if err := a.decode(&reply); err != nil {
		return err
	}
	switch {
	case reply.Error != nil:
		return a.complaint(fmt.Sprintf("%s: %d %s", method, reply.Error.Code, reply.Error.Message))
	case reply.JSONRPC != "2.0" || string(reply.ID) != fmt.Sprint(rpcID) || reply.Result == nil:
		return lying("%s is not answered in JSON-RPC", method)
	}
	a.body = reply.Result
	return a.decode(result)
}
