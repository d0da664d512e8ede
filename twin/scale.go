package twin

import (
	"encoding/binary"
	"strings"
)

// A chainTwin is what a relay needs of a twin's record in the state of the chain.
type chainTwin struct {
	id  uint32
	key PublicKey
	ip  []byte // empty since January 2023
}

// readChainTwin reads the record of a twin in the layout that it has. Nothing in
// the bytes says which that is, so they must be all of a record, and of the right
// twin: then they are in one layout only. But for twin 1 of version 1, whose owner
// can find a key that fits both; he would spoil his own record.
func readChainTwin(value []byte, id uint32) (chainTwin, bool) {
	for _, read := range []func(*scaleReader) chainTwin{readTwinUntil2023, readTwinSince2023} {
		r := scaleReader{rest: value}
		if twin := read(&r); r.done() && twin.id == id {
			return twin, true
		}
	}
	return chainTwin{}, false
}

func readTwinUntil2023(r *scaleReader) chainTwin {
	r.u32() // version
	twin := chainTwin{id: r.u32(), key: r.key(), ip: r.bytes()}
	r.entities()
	return twin
}

func readTwinSince2023(r *scaleReader) chainTwin {
	twin := chainTwin{id: r.u32(), key: r.key()}
	r.optionalBytes() // relay, of another kind than this one
	r.entities()
	r.optionalBytes() // key of its encryption
	return twin
}

// record checks what the owner of a twin wrote, who may be anybody.
func (t chainTwin) record() (Record, error) {
	// JSON has Unicode only, and a record must survive being stored.
	return NewRecord(t.id, t.key.Account(), strings.ToValidUTF8(string(t.ip), "\uFFFD"))
}

// A scaleReader takes values of SCALE, the chain's encoding, off the front of
// some bytes. It takes nothing more after a value that is cut or misspelt.
type scaleReader struct {
	rest   []byte
	failed bool
}

// done reports whether all was read, and nothing was wrong.
func (r *scaleReader) done() bool { return !r.failed && len(r.rest) == 0 }

// take returns the next n bytes, or nil when there are not as many.
func (r *scaleReader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *scaleReader) u32() uint32 {
	if raw := r.take(4); raw != nil {
		return binary.LittleEndian.Uint32(raw)
	}
	return 0
}

func (r *scaleReader) key() (key PublicKey) {
	copy(key[:], r.take(publicKeyLength))
	return key
}

// length reads a compact number. The two low bits of its first byte tell the size,
// and each number is written in the smallest that holds it. The largest size
// begins at 2^30, far over all that an answer can hold.
func (r *scaleReader) length() int {
	if r.failed || len(r.rest) == 0 {
		r.failed = true
		return 0
	}
	mode := r.rest[0] & 3
	if mode == 3 {
		r.failed = true
		return 0
	}
	var raw [4]byte
	copy(raw[:], r.take(1<<mode))
	n := int(binary.LittleEndian.Uint32(raw[:]) >> 2)
	if least := [...]int{0, 1 << 6, 1 << 14}[mode]; n < least {
		r.failed = true
		return 0
	}
	return n
}

func (r *scaleReader) bytes() []byte { return r.take(r.length()) }

func (r *scaleReader) optionalBytes() {
	switch tag := r.take(1); {
	case tag == nil || tag[0] == 0:
	case tag[0] == 1:
		r.bytes()
	default:
		r.failed = true
	}
}

// entities skips what a twin signed for: pairs of a number and a signature.
func (r *scaleReader) entities() {
	for n := r.length(); n > 0 && !r.failed; n-- {
		r.u32()
		r.bytes()
	}
}
