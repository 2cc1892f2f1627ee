package uplink

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlSocket bounds how long sent data may stay unacknowledged (RFC 5482,
// tcp(7)): without it a dead path is noticed after a quarter of an hour.
func controlSocket(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(tcpUserTimeout.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
