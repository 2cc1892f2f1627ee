package rtsp_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/capture"
	rtsplab "edged/internal/lab/rtsp"
)

// inside says that this process is the one that runs in a namespace of its own.
const inside = "EDGED_TEST_NAMESPACE"

// ownNetwork runs the calling test again, in a network namespace that has a
// loopback alone, where netfilter does as told; ok in there.
func ownNetwork(t *testing.T, rules string) (ok bool) {
	t.Helper()
	if os.Getenv(inside) != "" {
		for _, command := range [][]string{{"ip", "link", "set", "lo", "up"}, {"nft", rules}} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s (scripts/setup installs it)", command, err, out)
			}
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// watch keeps what the picture looks like behind a bad network.
type watch struct {
	mu      sync.Mutex
	frames  int
	lost    int // frames before which something was lost
	delays  []time.Duration
	faults  []string
	rtpTime uint32
	moved   chan struct{}
}

func (*watch) Describe([]capture.Track) {}

func (w *watch) Frame(f *capture.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := int32(f.RTPTime - w.rtpTime)
	if w.frames > 0 && step <= 0 {
		w.faults = append(w.faults, fmt.Sprintf("RTP time advances by %d", step))
	}
	if w.frames > 0 && step > 90000/25*3/2 && !f.Lost {
		w.faults = append(w.faults, fmt.Sprintf("%d ticks without a frame, and no word of loss", step))
	}
	if f.Lost {
		w.lost++
	}
	w.rtpTime = f.RTPTime
	w.frames++
	w.delays = append(w.delays, time.Since(f.Captured))
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// await waits for so many frames.
func (w *watch) await(t *testing.T, frames int) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		w.mu.Lock()
		n := w.frames
		w.mu.Unlock()
		if n >= frames {
			return
		}
		select {
		case <-w.moved:
		case <-limit:
			t.Fatalf("%d of %d frames", n, frames)
		}
	}
}

// One packet in twenty is lost on its way to the box: the picture goes on, says
// where something is missing, and is no later for it.
func TestLossOverUDP(t *testing.T) {
	if !ownNetwork(t, `add table ip loss; add chain ip loss in { type filter hook input priority 0; }; add rule ip loss in meta l4proto udp numgen random mod 100 < 5 drop`) {
		return
	}
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	w := &watch{moved: make(chan struct{}, 1)}
	stop, _ := play(t, capture.Config{Source: server.URL("test#transport=udp")}, w)
	const frames = 250
	w.await(t, frames)
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, f := range w.faults {
		t.Error(f)
	}
	slices.Sort(w.delays)
	t.Logf("%d frames, %d of them after a loss; since capture p50 %v, p95 %v, most %v", w.frames, w.lost,
		w.delays[len(w.delays)/2], w.delays[len(w.delays)*95/100], w.delays[len(w.delays)-1])
	if w.lost == 0 {
		t.Error("nothing was lost: " + strings.TrimSpace(rulesInForce(t)))
	}
}

func rulesInForce(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
