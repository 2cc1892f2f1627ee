package forward

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// slowLink runs the test binary in a network of its own whose loopback takes
// 1 Mbit/s.
const slowLink = `ip link set lo up && tc qdisc add dev lo root tbf rate 1mbit burst 4000 latency 100s && exec "$0" -test.v -test.run=^TestFullSocketInside$`

// A link that is slower than what is sent fills the media socket's buffer:
// sends wait a little, then drop, and return.
func TestFullSocket(t *testing.T) {
	if out, err := exec.Command("unshare", "-rn", "sh", "-c", "ip link set lo up && tc qdisc add dev lo root tbf rate 1mbit burst 4000 latency 100s").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces or no tc: %v %s", err, out)
	}
	inside := exec.Command("unshare", "-rn", "sh", "-c", slowLink, os.Args[0])
	inside.Env = append(os.Environ(), "EDGED_SLOW_LINK=1")
	out, err := inside.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFullSocketInside") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestFullSocketInside(t *testing.T) {
	if os.Getenv("EDGED_SLOW_LINK") == "" {
		t.Skip("run by TestFullSocket")
	}
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	const batches = 300 // 36 MB, five minutes of the link
	done := make(chan struct{})
	var sent, dropped int
	var longest time.Duration
	began := time.Now()
	go func() {
		defer close(done)
		for range batches {
			b := packetsOf(make100(1200)...)
			from := time.Now()
			n := sendAll(e, addressOf(to), b)
			longest = max(longest, time.Since(from))
			sent, dropped = sent+n, dropped+100-n
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("sends wait for the link")
	}
	t.Logf("%d packets sent, %d dropped in %v; the longest send took %v", sent, dropped, time.Since(began), longest)
	if sent == 0 || dropped == 0 || e.skip.Load() == 0 {
		t.Errorf("%d packets sent, %d dropped", sent, dropped)
	}
	if !e.gso.Load() {
		t.Error("a full socket is no refusal of segmented sends")
	}
}
