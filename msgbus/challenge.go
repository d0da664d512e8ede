package msgbus

import (
	"crypto/md5"
	"strconv"
)

// Challenge returns the 16 bytes that a version 1 signature covers: the md5 of
// ver, uid, cmd, dat, src, each dst, ret, now and pxy as text, without a
// separator (WIRE: exp, try, shm and err are not covered). md5 is the wire's
// choice, and not ours to change in version 1.
func (m *Message) Challenge() [md5.Size]byte {
	return md5.Sum(m.appendChallenge(make([]byte, 0, 256+len(m.Data))))
}

func (m *Message) appendChallenge(b []byte) []byte {
	b = strconv.AppendInt(b, int64(m.Version), 10)
	b = append(b, m.UID...)
	b = append(b, m.Command...)
	b = append(b, m.Data...)
	b = strconv.AppendUint(b, uint64(m.Source), 10)
	for _, d := range m.Destinations {
		b = strconv.AppendUint(b, uint64(d), 10)
	}
	b = append(b, m.ReturnQueue...)
	b = strconv.AppendInt(b, m.Now, 10)
	return strconv.AppendBool(b, m.Proxied)
}
