package forward_test

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"edged/forward"
)

// joins is how many viewers come and go; EDGED_JOINS makes it a long run.
func joins(normal int) int {
	if n, err := strconv.Atoi(os.Getenv("EDGED_JOINS")); err == nil {
		return n
	}
	if testing.Short() {
		return normal / 10
	}
	return normal
}

// footprint is what a process may leak.
type footprint struct {
	goroutines, files int
	heap              uint64
}

func measure(t testing.TB) footprint {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second empties sync.Pools
	runtime.ReadMemStats(&m)
	return footprint{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

func TestJoinsLeaveNothing(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.TCP = ""; c.MaxViewers = 64 })
	st, _ := pulse(t, s, "dock", 2)
	cert := certificate(t)
	visit := func(n int) {
		var group sync.WaitGroup
		var next sync.Mutex
		for range 12 {
			group.Go(func() {
				for {
					next.Lock()
					n--
					left := n
					next.Unlock()
					if left < 0 {
						return
					}
					p := newPeer(detached{t}, cert)
					p.log = slog.New(slog.DiscardHandler)
					p.join(s, st)
					if err := p.connect(); err != nil {
						t.Errorf("%v; viewer: %q", err, p.viewer.Reason())
					} else {
						p.live(1)
					}
					p.close()
					<-p.viewer.Done()
				}
			})
		}
		group.Wait()
	}
	n := joins(1000)
	visit(n / 10) // pools, maps and buffers have their size
	time.Sleep(farewell)
	measure := func() footprint {
		f := measure(t)
		f.heap -= uint64(st.Stats().Ring) // fills meanwhile
		return f
	}
	before := measure()
	began := time.Now()
	visit(n)
	t.Logf("%d joins in %v", n, time.Since(began))
	eventually(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= before.goroutines })
	limit := before.heap + 256<<10
	if !raceDetector { // a timer may hold a viewer for a second
		eventually(t, "heap as before", func() bool { return measure().heap <= limit })
	}
	after := measure()
	t.Logf("before %+v, after %+v", before, after)
	if after.files > before.files {
		t.Errorf("%d file descriptors, %d before", after.files, before.files)
	}
	if v := len(st.Stats().Viewers); v != 0 {
		t.Errorf("%d viewers left", v)
	}
}

// farewell is longer than a viewer's last timer.
const farewell = 1100 * time.Millisecond

// detached keeps peers from piling up in the test's clean-up.
type detached struct{ testing.TB }

func (detached) Cleanup(func()) {}
