package docs_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Somebody starts the twins a second time, or has something else at their ports: half of
// them come up, the rest says why in some log, and `pids` no longer names those of before.
func TestTheTwinsAreNotStartedWhereAPortIsInUse(t *testing.T) {
	text, err := os.ReadFile("two-twins.sh")
	if err != nil {
		t.Fatal(err)
	}
	there, back := ports(t, string(text))
	for _, busy := range []string{"7000", "7002", "7202"} {
		listener, err := net.Listen("tcp", "127.0.0.1:"+there(busy))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
		home := t.TempDir()
		if err := os.WriteFile(filepath.Join(home, "pids"), []byte("17\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", there(string(text)))
		cmd.Dir = home
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		said, err := cmd.CombinedOutput()
		_ = listener.Close()
		if err == nil || !strings.Contains(back(string(said)), "nothing is started: port "+busy+"\n") {
			t.Errorf("with port %s in use it ends with %v and says %s", busy, err, back(string(said)))
		}
		left, err := os.ReadDir(home)
		pids, _ := os.ReadFile(filepath.Join(home, "pids"))
		if err != nil || len(left) != 1 || string(pids) != "17\n" {
			t.Errorf("it leaves %v, and %q in pids", left, pids)
		}
	}
}
