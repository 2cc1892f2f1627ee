package uplink

import (
	"os"

	"golang.org/x/sys/unix"
)

// clockState says how far the wall clock can be trusted: "synced" when the
// kernel holds it to be disciplined (adjtimex(2)), "rtc" when it came from a
// battery clock, else "none".
func clockState() string {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unix.STA_UNSYNC == 0 {
		return "synced"
	}
	if _, err := os.Stat("/sys/class/rtc/rtc0"); err == nil {
		return "rtc"
	}
	return "none"
}
