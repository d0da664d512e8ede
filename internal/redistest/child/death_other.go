//go:build !linux

package child

import "syscall"

// Elsewhere a child is ended by its test's cleanup only.
func dieWithParent() *syscall.SysProcAttr { return nil }
