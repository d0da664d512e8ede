package msgbus_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// sized returns a request with so many bytes of data.
func sized(bytes int) *msgbus.Message {
	m := remoteRequest()
	m.Data = base64.StdEncoding.EncodeToString(make([]byte, bytes))
	return m
}

func BenchmarkDecode(b *testing.B) {
	for _, bytes := range []int{64, 1 << 10, 16 << 10} {
		text := sized(bytes).AppendWire(nil)
		b.Run(fmt.Sprint(bytes, "B"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := msgbus.Decode(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendWire(b *testing.B) {
	for _, bytes := range []int{64, 1 << 10, 16 << 10} {
		m := sized(bytes)
		b.Run(fmt.Sprint(bytes, "B"), func(b *testing.B) {
			b.ReportAllocs()
			var text []byte
			for b.Loop() {
				text = m.AppendWire(text[:0])
			}
		})
	}
}
