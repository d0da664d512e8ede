package redistest

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// Told starts what answers PING, and INFO with this text or, if it begins with a minus, with
// this error, and knows nothing else: a Redis of a version that is not to be had.
func Told(t testing.TB, info string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(info, "-") {
		info = fmt.Sprintf("$%d\r\n%s", len(info), info)
	}
	var mu sync.Mutex
	var conns []net.Conn // guarded by mu
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			group.Go(func() { tell(c, info) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return l.Addr().String()
}

func tell(c net.Conn, info string) {
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch strings.ToLower(lines.Text()) {
		case "hello":
			fmt.Fprint(c, "-ERR unknown command\r\n")
		case "ping":
			fmt.Fprint(c, "+PONG\r\n")
		case "info":
			fmt.Fprint(c, info, "\r\n")
		}
	}
}
