//go:build !linux

package chaos

import "errors"

func unshare() (path string, err error) { return "", errors.New("only Linux has network namespaces") }
