package v4l2

import (
	"time"

	"golang.org/x/sys/unix"
)

// maxAge is how old a picture may be, by its driver's word, when it is read:
// more is no time but a fault of the driver.
const maxAge = 5 * time.Second

// minStep keeps the times of two pictures apart, and in order.
const minStep = time.Millisecond

// clock turns the timestamps of a driver, which count from the machine's
// start, into wall time.
type clock struct {
	last time.Time
}

// captured is when the scene of a buffer was seen: flags and stamp are the
// buffer's, now and monotonic the wall and the kernel's clock at one moment. A
// stamp of another clock, from the future or from long ago is not believed:
// then it was seen now. Each time is after the one before.
func (c *clock) captured(flags uint32, stamp unix.Timeval, now time.Time, monotonic time.Duration) time.Time {
	at := now
	if flags&flagTimestampMask == flagMonotonic {
		age := monotonic - time.Duration(stamp.Nano())
		if age >= 0 && age <= maxAge {
			at = now.Add(-age)
		}
	}
	if !at.After(c.last) {
		at = c.last.Add(minStep)
	}
	c.last = at
	return at
}

// read gives the time on both clocks.
func (c *clock) read() (now time.Time, monotonic time.Duration) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Now(), -1 // no stamp is believed
	}
	return time.Now(), time.Duration(ts.Nano())
}
