//go:build !linux

package uplink

import "syscall"

// controlSocket does nothing: TCP_USER_TIMEOUT is Linux's.
func controlSocket(_, _ string, _ syscall.RawConn) error { return nil }
