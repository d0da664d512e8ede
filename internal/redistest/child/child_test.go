package child_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// asParent makes this test binary the parent in TestChildDiesWithItsKilledParent.
const asParent = "CHILD_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		parent()
	}
	goleak.VerifyTestMain(m)
}

// parent starts a child that shares its stdout, says so, and never ends.
func parent() {
	cmd := exec.Command("sleep", "600")
	cmd.Stdout = os.Stdout
	p, err := child.Start(cmd)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("pid", p.Pid())
	<-p.Done()
	os.Exit(1)
}

// A test run that CI or an impatient developer kills must not leave servers
// behind: cleanups do not run then.
func TestChildDiesWithItsKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no parent-death signal on this system")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asParent+"=1")
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	_ = w.Close()

	var pid int
	if _, err := fmt.Fscanf(r, "pid %d\n", &pid); err != nil {
		t.Fatalf("read the child's pid: %v", err)
	}
	p.Kill()

	// The pipe ends when the last process that holds it has ended.
	if err := r.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatalf("child %d outlives its parent: %v", pid, err)
	}
}

// The parent-death signal belongs to a thread. Without a thread of its own a
// server would die, seemingly at random, in the middle of a test.
func TestChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	in, toChild := pipe(t)
	fromChild, out := pipe(t)
	cmd := exec.Command("cat")
	cmd.Stdin, cmd.Stdout = in, out

	var p *child.Process
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		p, err = child.Start(cmd)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	_, _ = in.Close(), out.Close()

	for range 100 { // time for the thread to end
		if _, err := io.WriteString(toChild, "hello\n"); err != nil {
			t.Fatalf("the child is gone: %v", err)
		}
		if line, err := bufio.NewReader(fromChild).ReadString('\n'); err != nil || line != "hello\n" {
			t.Fatalf("the child is gone: read %q, %v", line, err)
		}
		runtime.Gosched()
	}
}

func TestEndedChildTellsHowItEnded(t *testing.T) {
	p, err := child.Start(exec.Command("false"))
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 1 {
		t.Errorf("Err() = %v, want exit status 1", p.Err())
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal to an ended child: %v, want %v", err, os.ErrProcessDone)
	}
	p.Kill()
}

func TestMissingProgramIsAnError(t *testing.T) {
	_, err := child.Start(exec.Command("/no/such/program"))
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("Start: %v, want an error that names the program", err)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}
