package chaos

import (
	"fmt"
	"os"
	"syscall"
)

// unshare takes the calling thread into a new network namespace, and names a
// file that stands for it for as long as the thread lives.
func unshare() (path string, err error) {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return "", fmt.Errorf("unshare the network: %w", err)
	}
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), syscall.Gettid()), nil
}
