package protect

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resident is how much memory the process has, C's part included.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Keys in C's memory go with their protectors.
func TestKeysAreGivenBack(t *testing.T) {
	if raceDetector {
		t.Skip("memory is not measured under the race detector")
	}
	each(t, func(t *testing.T, i *Implementation, profile Profile) {
		const rounds, viewers, allowed = 40, 2000, 24 << 20 // kept, they would take twice as much and more
		round := func() {
			for range viewers {
				protector(t, i, profile)
			}
			runtime.GC()
		}
		round()
		before := resident(t)
		for range rounds {
			round()
		}
		deadline := time.Now().Add(20 * time.Second)
		for resident(t)-before > allowed {
			if time.Now().After(deadline) {
				t.Fatalf("%d KiB more after %d protectors", (resident(t)-before)>>10, rounds*viewers)
			}
			runtime.GC() // what is freed by it runs on another goroutine
		}
	})
}
