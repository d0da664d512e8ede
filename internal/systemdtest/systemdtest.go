// Package systemdtest gives tests a running systemd of their own: the real one, as
// the first process of namespaces that it shares with nobody, on a copy of this
// machine's files that is gone with it.
package systemdtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

//go:embed boot.sh
var bootScript []byte

// patience is how long systemd may take to start.
const patience = 60 * time.Second

// A Machine is a copy of this one on which systemd runs. Its files are changed by
// commands that run on it. It has this machine's network.
type Machine struct {
	t    testing.TB
	init int // pid of its systemd
}

// Boot starts a machine, which ends with the test. The test is skipped where there is
// no systemd, or nobody may make namespaces.
func Boot(t testing.TB) *Machine {
	t.Helper()
	for _, needed := range []string{"/lib/systemd/systemd", "/usr/bin/unshare", "/usr/bin/nsenter", "/usr/bin/setpriv"} {
		if _, err := os.Stat(needed); err != nil {
			t.Skipf("%v: nothing is tested under a running systemd", err)
		}
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces can be made (%s): nothing is tested under a running systemd", strings.TrimSpace(string(out)))
	}
	script := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(script, bootScript, 0o700); err != nil {
		t.Fatal(err)
	}
	console, err := os.Create(script + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close() // the process has its own descriptor
	cmd := exec.Command("unshare", "--mount", script)
	cmd.Stdout, cmd.Stderr = console, console
	shell, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t}
	t.Cleanup(func() { m.end(shell, console.Name()) })
	m.awaitBoot(shell)
	return m
}

func (m *Machine) awaitBoot(shell *child.Process) {
	m.t.Helper()
	var last error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(50 * time.Millisecond) {
		select {
		case <-shell.Done():
			m.t.Fatalf("systemd does not start: %v", shell.Err())
		default:
		}
		if m.init == 0 {
			m.init = firstProcess(shell.Pid())
		}
		if m.init == 0 {
			continue
		}
		// Before systemd answers, the shell is where it will be.
		if _, last = m.Try("systemctl", "is-system-running"); last == nil {
			return
		}
	}
	m.t.Fatalf("systemd is not up after %s: %v", patience, last)
}

// firstProcess returns the pid of the process below a shell that is the first of its
// namespace, or 0 if there is none yet.
func firstProcess(shell int) int {
	pid := shell
	for range 2 { // unshare, then what it starts
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return 0
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
			return 0
		}
	}
	return pid
}

// end kills the machine, of which the shell then removes what is left.
func (m *Machine) end(shell *child.Process, log string) {
	if pid := firstProcess(shell.Pid()); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	select {
	case <-shell.Done():
	case <-time.After(patience):
		shell.Kill()
	}
	if text, err := os.ReadFile(log); err == nil && m.t.Failed() {
		m.t.Logf("systemd said:\n%s", text)
	}
}

// Try runs a command on the machine and returns what it prints.
func (m *Machine) Try(command ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.init), "--mount", "--pid", "--"}, command...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// Run is Try for what must succeed.
func (m *Machine) Run(command ...string) string {
	m.t.Helper()
	out, err := m.Try(command...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// Write makes a file on the machine.
func (m *Machine) Write(path, mode, text string) {
	m.t.Helper()
	m.Run("sh", "-c", `mkdir -p "$(dirname "$1")" && printf %s "$3" >"$1" && chmod "$2" "$1"`, "sh", path, mode, text)
}
