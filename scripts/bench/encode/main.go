// Encode measures cameras that are encoded on the box: test patterns of
// 1280 × 720 at 30 frames a second and 2.5 Mbit/s, with no viewers. It prints
// the CPU that they take, the time from the capture of a picture to its
// packets, and what is allocated.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"edged/capture"
	"edged/capture/pattern"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "encode:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("encode", flag.ContinueOnError)
	n := flags.Int("cameras", 2, "patterns at once")
	layers := flags.Int("layers", 1, "layers of each")
	encoder := flags.String("encoder", capture.EncoderAuto, "auto, openh264 or v4l2m2m")
	length := flags.Duration("time", 10*time.Second, "to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := measure(*n, *length, capture.VideoConfig{
		Width: 1280, Height: 720, FPS: 30, Bitrate: 2_500_000, Layers: *layers, Encoder: *encoder,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, f)
	return err
}

// figures are of all cameras together, in one span of time.
type figures struct {
	cameras     int
	encoder     string
	elapsed     time.Duration
	cpu         time.Duration
	delays      []time.Duration // from capture to packets, sorted
	bytes       uint64
	allocations uint64
}

func (f figures) String() string {
	frames := len(f.delays)
	if frames == 0 {
		return "no frames\n"
	}
	at := func(p int) time.Duration { return f.delays[frames*p/100].Round(10 * time.Microsecond) }
	return fmt.Sprintf("%d × 1280x720 at %.1f frames/s, %.2f Mbit/s each, by %s: %.0f %% of a CPU, %v a frame; capture to packets p50 %v, p95 %v; %.2f allocations a frame\n",
		f.cameras, float64(frames)/f.elapsed.Seconds()/float64(f.cameras), float64(f.bytes)*8/f.elapsed.Seconds()/1e6/float64(f.cameras), f.encoder,
		100*f.cpu.Seconds()/f.elapsed.Seconds(), (f.cpu / time.Duration(frames)).Round(10*time.Microsecond), at(50), at(95), float64(f.allocations)/float64(frames))
}

// warmUp is how many frames of each camera come before those that count.
const warmUp = 60

// measure runs cameras until warm, and then for length.
func measure(n int, length time.Duration, video capture.VideoConfig) (figures, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var cameras sync.WaitGroup
	sinks := make([]*sink, n)
	sources := make([]*pattern.Source, n)
	failed := make(chan error, n)
	for i := range n {
		s, err := pattern.New(capture.Config{ID: "bench", Source: "pattern:", Video: video}, slog.New(slog.DiscardHandler))
		if err != nil {
			return figures{}, err
		}
		sources[i], sinks[i] = s, &sink{warm: make(chan struct{})}
		cameras.Go(func() {
			if err := s.Run(ctx, sinks[i]); err != nil {
				failed <- err
			}
		})
	}
	wait := func(warm <-chan struct{}) error {
		select {
		case <-warm:
			return nil
		case err := <-failed:
			return err
		}
	}
	for _, s := range sinks {
		if err := wait(s.warm); err != nil {
			cancel()
			cameras.Wait()
			return figures{}, err
		}
	}
	for _, s := range sinks {
		s.begin(int(length.Seconds()+10) * video.FPS * max(1, video.Layers))
	}
	before, beforeAll, start := cpu(), allocations(), time.Now()
	time.Sleep(length)
	f := figures{cameras: n, encoder: sources[0].Encoder(), elapsed: time.Since(start), cpu: cpu() - before, allocations: allocations() - beforeAll}
	for _, s := range sinks {
		delays, bytes := s.end()
		f.delays, f.bytes = append(f.delays, delays...), f.bytes+bytes
	}
	cancel()
	cameras.Wait()
	slices.Sort(f.delays)
	select {
	case err := <-failed:
		return f, err
	default:
	}
	if len(f.delays) == 0 {
		return f, errors.New("no frames came")
	}
	return f, nil
}

// sink measures what a camera delivers.
type sink struct {
	warm chan struct{}

	mu     sync.Mutex
	frames int
	delays []time.Duration // with room for all; nil: not measured now
	bytes  uint64
}

func (s *sink) Describe([]capture.Track) {}

func (s *sink) Frame(f *capture.Frame) {
	delay := time.Since(f.Captured)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frames++; s.frames == warmUp {
		close(s.warm)
	}
	if s.delays == nil {
		return
	}
	for _, p := range f.Payloads {
		s.bytes += uint64(len(p))
	}
	if f.Track == 0 { // the best layer is what people wait for
		s.delays = append(s.delays, delay)
	}
}

func (s *sink) begin(room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays = make([]time.Duration, 0, room)
}

func (s *sink) end() ([]time.Duration, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delays := s.delays
	s.delays = nil
	return delays, s.bytes
}

// cpu is what this process has used, in user and system mode.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
