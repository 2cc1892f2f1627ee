package v4l2

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClock(t *testing.T) {
	now, up := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), 100*time.Second
	for _, tt := range []struct {
		name  string
		flags uint32
		stamp time.Duration
		want  time.Duration // before now
	}{
		{"seen a while ago", flagMonotonic, 100*time.Second - 40*time.Millisecond, 40 * time.Millisecond},
		{"seen now", flagMonotonic, 100 * time.Second, 0},
		{"in the future", flagMonotonic, 101 * time.Second, 0},
		{"never", flagMonotonic, 0, 0},
		{"before the machine was on", flagMonotonic, -time.Hour, 0},
		{"by another clock", 0, 100*time.Second - 40*time.Millisecond, 0},
		{"copied", 0x4000, 99 * time.Second, 0},
	} {
		var c clock
		if got := c.captured(tt.flags, unix.NsecToTimeval(int64(tt.stamp)), now, up); now.Sub(got) != tt.want {
			t.Errorf("%s: %v before now, want %v", tt.name, now.Sub(got), tt.want)
		}
	}
	// One stamp for all, or backwards: the times go on all the same.
	var c clock
	last := c.captured(flagMonotonic, unix.NsecToTimeval(int64(up)), now, up)
	for range 3 {
		next := c.captured(flagMonotonic, unix.NsecToTimeval(int64(up-time.Second)), now, up)
		if !next.After(last) {
			t.Errorf("%v after %v", next, last)
		}
		last = next
	}
	if wall, monotonic := c.read(); time.Since(wall) < 0 || monotonic <= 0 {
		t.Errorf("%v, %v", wall, monotonic)
	}
}
