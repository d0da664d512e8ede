package msgbus

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
)

// PinReply makes the signed bytes of a reply readable as a message to its
// destination only, and reports whether they are. Version 1 runs dat, src and
// dst together: what twin 1001 signs for twin 10011002 with dat "QUJD" is, byte
// for byte, a reply to twin 1002 with dat "QUJD1001", and whoever owns twin
// 10011002 could deliver it there. (A request is pinned by its uid, which begins
// with its destination.)
//
// Nothing can be added to or taken from data that ends in padding. So where a
// second reading exists, data that is JSON or empty gets a space at its end,
// which means nothing to JSON. Data of another kind stays as it is.
func (m *Message) PinReply() bool {
	if !m.hasSecondReading() {
		return true
	}
	raw, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil || len(raw) > 0 && !json.Valid(raw) {
		return false
	}
	// Unpadded data is a multiple of three bytes long, so one more is padded.
	m.Data = base64.StdEncoding.EncodeToString(append(raw, ' '))
	return true
}

// hasSecondReading reports whether the digits around src and dst can be split
// so that the message comes from the same twin and is for another one.
func (m *Message) hasSecondReading() bool {
	if strings.HasSuffix(m.Data, "=") || len(m.Destinations) != 1 {
		return false
	}
	src := strconv.FormatUint(uint64(m.Source), 10)
	signed := src + strconv.FormatUint(uint64(m.Destinations[0]), 10)
	own := 0 // where src begins in signed
	before := m.Command + m.Data
	for n := len(before); n > 0 && len(signed) < len(src)+maxTwinDigits && isDigit(before[n-1]); n-- {
		signed = before[n-1:n] + signed
		own++
	}
	for at := range signed {
		dst, found := strings.CutPrefix(signed[at:], src)
		if !found || at == own || !plainDecimal(dst) {
			continue
		}
		if _, err := strconv.ParseUint(dst, 10, 32); err == nil {
			return true
		}
	}
	return false
}

// maxTwinDigits is the length of the largest twin id.
const maxTwinDigits = 10

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
