package rtsp_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/rtsp"
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

// The cable is pulled: nobody says goodbye, and what is asked gets no answer.
// The box notices by the missing frames, and has the picture again soon after the
// cable is back, though the camera's sessions are still open at its end.
func TestCablePulled(t *testing.T) {
	if !ownNetwork(t, `add table ip cable; add chain ip cable in { type filter hook input priority 0; }`) {
		return
	}
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for _, transport := range []string{"udp", "tcp"} {
		log := slog.New(slog.DiscardHandler)
		cfg := capture.Config{ID: "dock", Source: server.URL("test#transport=" + transport)}
		src, err := rtsp.New(cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		w := &watch{moved: make(chan struct{}, 1)}
		camera, err := capture.New(cfg, src, w, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- camera.Run(ctx) }()
		w.await(t, 10)
		var took []time.Duration
		for range 2 {
			nft(t, "add rule ip cable in drop")
			await(t, camera, func(s capture.State) bool { return s.Phase == capture.Offline && s.Code == capture.CodeUnreachable })
			nft(t, "flush chain ip cable in")
			back := time.Now()
			await(t, camera, func(s capture.State) bool { return s.Phase == capture.Live })
			took = append(took, time.Since(back))
			w.mu.Lock()
			frames := w.frames
			w.mu.Unlock()
			w.await(t, frames+10)
		}
		t.Logf("%s: a picture %v after the cable was back", transport, took)
		cancel()
		if err := wait(t, ended); err != nil {
			t.Error(err)
		}
	}
}

// await waits for a state of the camera.
func await(t *testing.T, camera *capture.Camera, done func(capture.State) bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done(camera.State()) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%+v", camera.State())
		}
	}
}

func nft(t *testing.T, rule string) {
	t.Helper()
	if out, err := exec.Command("nft", rule).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v: %s", rule, err, out)
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
