// Package child runs processes for tests. A child never outlives the test
// binary that started it, not even when that binary is killed: on Linux the
// kernel then kills the child.
package child

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a started process. Its methods may be called from any goroutine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Start starts cmd and waits for it in the background. It takes over
// cmd.SysProcAttr.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = dieWithParent()

	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the *thread* that forked
		// ends, and the Go runtime may end an idle thread at any time. So one
		// goroutine holds the thread from the fork until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()

		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Pid is the process id, also after the process has ended.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is what [exec.Cmd.Wait] returned. It waits for the process to end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends sig. For a process that has ended it returns [os.ErrProcessDone],
// never reaching another process that has inherited the pid.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the process with SIGKILL, which a stopped process obeys too, and
// waits until it is gone. It may be called again.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}
