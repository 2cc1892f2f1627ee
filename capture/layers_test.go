package capture_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

var lower = capture.Track{Kind: capture.Video, Layer: 1, Codec: capture.H264, ClockRate: 90000, Width: 160, Height: 90}

// layered is a source of two layers that can be spared.
type layered struct {
	script
	mu     sync.Mutex
	wanted map[int]bool
}

func (l *layered) Demand(layer int, wanted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wanted == nil {
		l.wanted = map[int]bool{}
	}
	l.wanted[layer] = wanted
}

// send sends one picture of a layer at RTP time t.
func send(sink capture.Sink, layer int, t uint32) {
	sink.Frame(&capture.Frame{Track: layer, RTPTime: t, Payloads: [][]byte{make([]byte, 100)}})
}

func TestCameraDemand(t *testing.T) {
	src := &layered{}
	src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{video, lower})
		<-ctx.Done()
		return nil
	}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		if st := c.State(); !slices.Equal(st.Unwanted, []bool{false, false}) {
			t.Errorf("unwanted before anybody said so: %v", st.Unwanted)
		}
		c.Demand(1, false)
		c.Demand(-1, false)
		c.Demand(99, false)
		if st := c.State(); !slices.Equal(st.Unwanted, []bool{false, true}) || len(src.wanted) != 1 || src.wanted[1] {
			t.Errorf("unwanted %v, the source heard %v", st.Unwanted, src.wanted)
		}
		c.Demand(1, true)
		if st := c.State(); slices.Contains(st.Unwanted, true) || !src.wanted[1] {
			t.Errorf("unwanted %v, the source heard %v", st.Unwanted, src.wanted)
		}
	})
}

// A source that cannot spare a layer is not said to.
func TestCameraDemandOfOthers(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{video})
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		c.Demand(0, false)
		if st := c.State(); st.Unwanted[0] {
			t.Error("spared")
		}
	})
}

// A lower layer that goes on under a frozen best one is no sign of life,
// unless nobody wants the best.
func TestCameraLayerAlone(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		src := &layered{}
		src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
			sink.Describe([]capture.Track{video, lower})
			for i := range uint32(30) {
				send(sink, 0, i*9000)
				send(sink, 1, i*9000)
				time.Sleep(100 * time.Millisecond)
			}
			for i := uint32(30); ctx.Err() == nil; i++ {
				send(sink, 1, i*9000)
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}
		supervised(t, src, func(c *capture.Camera, _ *sink) {
			c.Demand(0, wanted)
			time.Sleep(6*time.Second + 500*time.Millisecond)
			synctest.Wait()
			if st := c.State(); (st.Restarts[capture.CodeStalled] > 0) != wanted {
				t.Errorf("wanted %v: %s, restarts %v", wanted, st.Phase, st.Restarts)
			}
		})
	}
}

// The layers' pictures of one moment have one RTP time in every run, whatever
// the source's clock does and whichever layers are away.
func TestCameraLayersShareATimeline(t *testing.T) {
	const runs = 4
	src := &layered{}
	src.run = func(ctx context.Context, sink capture.Sink, n int) error {
		sink.Describe([]capture.Track{video, lower})
		if n > runs {
			<-ctx.Done()
			return nil
		}
		start := uint32(n) * 3_000_000_000
		for i := range uint32(60) {
			if n != 1 && i < 20 { // the best comes later, in the first run the lower one
				send(sink, 1, start+i*3000)
			} else {
				send(sink, 0, start+i*3000)
				time.Sleep(7 * time.Millisecond) // the lower layer takes its time
				if n != 1 || i > 30 {
					send(sink, 1, start+i*3000)
				}
			}
			time.Sleep(26 * time.Millisecond)
			if i == 40 && n == 3 {
				start += 2_000_000_000 // a clock that is set
			}
		}
		return capture.Errorf(capture.CodeUnplugged, "gone")
	}
	supervised(t, src, func(_ *capture.Camera, s *sink) {
		time.Sleep(time.Minute)
		synctest.Wait()
		pairs := 0
		last := map[int]uint32{}
		for i, f := range s.frames {
			if before, ok := last[f.Track]; ok && int32(f.RTPTime-before) <= 0 {
				t.Errorf("frame %d: layer %d goes back from %d to %d", i, f.Track, before, f.RTPTime)
			}
			last[f.Track] = f.RTPTime
			if i > 0 && f.Track == 1 && s.frames[i-1].Track == 0 {
				pairs++
				if f.RTPTime != s.frames[i-1].RTPTime {
					t.Errorf("frame %d: layer 1 at %d, layer 0 at %d", i, f.RTPTime, s.frames[i-1].RTPTime)
				}
			}
		}
		if pairs != 29+3*40 {
			t.Errorf("%d pictures of both layers", pairs)
		}
	})
}

// A layer that comes back after so long that RTP time has run over stays with
// the others.
func TestCameraLayerAwayForHours(t *testing.T) {
	src := &layered{}
	src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{video, lower})
		begin := time.Now()
		ticks := func() uint32 { return uint32(uint64(time.Since(begin).Microseconds()) * 9 / 100) }
		for range 2 {
			at := ticks()
			send(sink, 0, at)
			send(sink, 1, at)
			for until := time.Now().Add(7 * time.Hour); time.Now().Before(until) && ctx.Err() == nil; {
				time.Sleep(time.Second)
				send(sink, 1, ticks())
			}
		}
		<-ctx.Done()
		return nil
	}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		c.Demand(0, false)
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		best := 0
		for i, f := range s.frames {
			if f.Track == 0 {
				best++
				if next := s.frames[i+1]; next.Track != 1 || next.RTPTime != f.RTPTime {
					t.Errorf("layer 0 at %d, layer 1 at %d", f.RTPTime, next.RTPTime)
				}
			}
		}
		if best != 2 {
			t.Errorf("%d pictures of layer 0", best)
		}
	})
}

// A layer in trouble shows in the state until a frame of it comes; the camera
// stays live.
func TestCameraLayerFails(t *testing.T) {
	step := make(chan func(capture.LayerSink))
	src := &layered{}
	src.run = func(ctx context.Context, sink capture.Sink, n int) error {
		sink.Describe([]capture.Track{video})
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := uint32(0); ; i++ {
			send(sink, 0, i*9000)
			select {
			case <-ctx.Done():
				return nil
			case f := <-step:
				if f == nil {
					return capture.Errorf(capture.CodeUnplugged, "gone")
				}
				f(sink.(capture.LayerSink))
			case <-tick.C:
			}
		}
	}
	fail := func(layer int, code capture.Code, text string) func(capture.LayerSink) {
		return func(s capture.LayerSink) { s.LayerFailed(layer, capture.Errorf(code, "%s", text)) }
	}
	synctest.Test(t, func(t *testing.T) {
		step = make(chan func(capture.LayerSink))
		c, err := capture.New(capture.Config{ID: "dock", Source: "test:"}, src, discard{}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var changes atomic.Int32
		c.OnChange = func() { changes.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		expect := func(f func(capture.LayerSink), news int32, want ...capture.LayerFault) {
			t.Helper()
			synctest.Wait()
			before := changes.Load()
			step <- f
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			st := c.State()
			if !slices.Equal(st.Faults, want) || changes.Load()-before != news || f != nil && st.Phase != capture.Live {
				t.Errorf("%s, faults %+v, want %+v; told %d times, want %d", st.Phase, st.Faults, want, changes.Load()-before, news)
			}
		}
		refused := capture.LayerFault{Layer: 1, Code: capture.CodeRefused, Reason: "no"}
		again := capture.LayerFault{Layer: 1, Code: capture.CodeRefused, Reason: "no, really"}
		small := capture.LayerFault{Layer: 2, Code: capture.CodeEncoder, Reason: "too small"}
		expect(fail(1, capture.CodeRefused, "no"), 1, refused)
		expect(fail(1, capture.CodeRefused, "no, really"), 0, again)
		expect(fail(2, capture.CodeEncoder, "too small"), 1, again, small)
		expect(func(s capture.LayerSink) { s.LayerFailed(-1, nil); s.LayerFailed(8, context.Canceled) }, 0, again, small)
		expect(func(s capture.LayerSink) { s.Describe([]capture.Track{video, lower}); send(s, 1, 0) }, 2, small)
		expect(fail(1, capture.CodeRefused, "no"), 1, refused, small)
		expect(nil, 1, refused, small) // the run ends: offline
		time.Sleep(time.Second)
		synctest.Wait()
		if st := c.State(); len(st.Faults) != 0 || st.Phase != capture.Live {
			t.Errorf("a new run: %s, %+v", st.Phase, st.Faults)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// rated is a source whose bitrates can be set.
type rated struct {
	script
	mu  sync.Mutex
	set []int
}

func (r *rated) Bitrate(layer, bits int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = append(r.set, layer, bits)
}

func TestCameraBitrate(t *testing.T) {
	high, low := video, lower
	high.Bitrate, low.Bitrate = 1_000_000, 200_000
	src := &rated{}
	src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{high, low})
		<-ctx.Done()
		return nil
	}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		if st := c.State(); !slices.Equal(st.Target, []int{1_000_000, 200_000}) {
			t.Errorf("as configured: %v", st.Target)
		}
		c.Bitrate(0, 700_000)
		c.Bitrate(1, 900_000)
		c.Bitrate(-1, 1)
		c.Bitrate(99, 1)
		c.Bitrate(0, 0)
		if st := c.State(); !slices.Equal(st.Target, []int{700_000, 200_000}) || !slices.Equal(src.set, []int{0, 700_000, 1, 900_000}) {
			t.Errorf("%v, the source heard %v", st.Target, src.set)
		}
	})
	other := &script{run: src.run}
	supervised(t, other, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		c.Bitrate(0, 700_000) // nothing happens
		if st := c.State(); !slices.Equal(st.Target, []int{1_000_000, 200_000}) {
			t.Errorf("%v of a source that cannot", st.Target)
		}
	})
}
