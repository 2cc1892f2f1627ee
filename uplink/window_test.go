package uplink

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"edged/uplink/wire"
)

var epoch = time.UnixMilli(1_700_000_000_000)

// tick gives the n-th sample of a box with one camera: every counter rises
// by 10 a sample.
func tick(n uint64) Sample {
	c := 10 * n
	return Sample{
		Cameras: []CameraSample{{ID: "dock", State: "live", Frames: c, Bytes: 100 * c, Restarts: c, Keyframes: c, Viewers: int(n % 4)}},
		Forward: ForwardSample{
			Packets: c, Bytes: c, NACKs: c, RTX: c, PLIs: c, Dropped: c, Viewers: int(n % 4),
			Loss: []float64{0, 0.5}, RTT: []time.Duration{3 * time.Millisecond},
			Join:  Histogram{Bounds: []float64{0.1, 1}, Counts: []uint64{n, 0, n}, Sum: float64(n)},
			Delay: Histogram{},
		},
		TURN: TURNSample{Allocations: 2, RelayedIn: c, RelayedOut: c, AuthFailures: c, DeniedPeers: c},
		Link: LinkSample{Connected: n%2 == 0, Connects: n / 2},
		Host: HostSample{
			HasCPU: true, CPU: time.Duration(n) * time.Second, HasBusy: true, Busy: n, Jiffies: 4 * n,
			RSS: 1 << 20, HasTemperature: true, Temperature: 50 + float64(n), HasThrottled: true, Throttled: 0x50000,
		},
	}
}

func TestRecorderClosesAWindow(t *testing.T) {
	r := newRecorder(time.Minute)
	var got wire.Window
	for n := range uint64(13) { // the first is the start; then 12 samples of 5 s
		w, ok := r.add(epoch.Add(time.Duration(n)*5*time.Second), tick(n))
		if ok != (n == 12) {
			t.Fatalf("sample %d: closed %v", n, ok)
		}
		got = w
	}
	want := wire.Window{
		From: epoch.UnixMilli(), To: epoch.Add(time.Minute).UnixMilli(), Seconds: 60,
		Cameras: []wire.Camera{{
			ID: "dock", State: "live", Frames: 120, Bytes: 12000, Bitrate: 1600, Restarts: 120, Keyframes: 120,
			Viewers: wire.Gauge{Min: 0, Mean: 1.5, Max: 3},
		}},
		Forward: &wire.Forward{
			Packets: 120, Bytes: 120, NACKs: 120, RTX: 120, PLIs: 120, Dropped: 120,
			Viewers: wire.Gauge{Min: 0, Mean: 1.5, Max: 3},
			Loss:    &wire.Gauge{Min: 0, Mean: 0.25, Max: 0.5},
			RTT:     &wire.Histogram{N: 12, Sum: 0.036, LE: []float64{0.004}, Counts: []uint64{12}},
			Join:    &wire.Histogram{N: 24, Sum: 12, LE: []float64{0.1}, Counts: []uint64{12}, Over: 12},
		},
		TURN: &wire.TURN{Allocations: wire.Gauge{Min: 2, Mean: 2, Max: 2}, RelayedIn: 120, RelayedOut: 120, AuthFailures: 120, DeniedPeers: 120},
		Link: &wire.Link{Up: 0.5, Connects: 6},
		Host: &wire.Host{
			CPU: new(0.2), Busy: new(0.25), RSS: &wire.Gauge{Min: 1 << 20, Mean: 1 << 20, Max: 1 << 20},
			Temperature: &wire.Gauge{Min: 51, Mean: 56.5, Max: 62}, Throttled: new(uint64(0x50000)),
		},
	}
	if g, w := text(t, got), text(t, want); g != w {
		t.Errorf("window\n%s\nwant\n%s", g, w)
	}

	// The next window begins where this one ended, with nothing of it.
	if _, ok := r.add(epoch.Add(65*time.Second), tick(13)); ok {
		t.Fatal("closed after one sample")
	}
	next, ok := r.cut()
	if !ok || next.From != want.To || next.Cameras[0].Frames != 10 || next.TURN.RelayedIn != 10 || got.TURN.RelayedIn != 120 {
		t.Errorf("next window %s", text(t, next))
	}
	if _, ok := r.cut(); ok {
		t.Error("a window in which nothing was seen")
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRecorderKeepsAnHour(t *testing.T) {
	r := newRecorder(time.Minute)
	for n := range uint64(91) {
		r.add(epoch.Add(time.Duration(n)*time.Minute), tick(n))
	}
	all := r.Windows(time.Time{})
	if len(all) != 60 || all[59].To != epoch.Add(90*time.Minute).UnixMilli() {
		t.Fatalf("%d windows, the last to %d", len(all), all[len(all)-1].To)
	}
	if n := len(r.Windows(epoch.Add(85 * time.Minute))); n != 5 {
		t.Errorf("%d windows since 85 minutes, want 5", n)
	}
}

func TestCountersThatStartAgain(t *testing.T) {
	r := newRecorder(time.Hour)
	r.add(epoch, tick(7))
	s := tick(2) // everything was made anew
	s.Cameras = append(s.Cameras, CameraSample{ID: "gate", Frames: 5})
	r.add(epoch.Add(time.Second), s)
	s = tick(3)
	s.Cameras = nil // and removed
	r.add(epoch.Add(2*time.Second), s)
	w, _ := r.cut()
	if len(w.Cameras) != 2 || w.Cameras[0].Frames != 20 || w.Cameras[1].Frames != 5 {
		t.Errorf("cameras %s", text(t, w.Cameras))
	}
	if w.Forward.Packets != 30 || w.Forward.Join.N != 6 || w.Forward.Join.Sum != 3 {
		t.Errorf("forward %s", text(t, w.Forward))
	}
}

func TestValuesThatAreNoNumbers(t *testing.T) {
	r := newRecorder(time.Hour)
	r.add(epoch, Sample{})
	r.add(epoch.Add(time.Second), Sample{Forward: ForwardSample{
		Loss: []float64{math.NaN(), math.Inf(1)},
		Join: Histogram{Bounds: []float64{1}, Counts: []uint64{1}}, // a count is missing
	}})
	w, ok := r.cut()
	if !ok || w.Forward.Loss != nil || w.Forward.Join != nil {
		t.Errorf("window %s", text(t, w))
	}
	if w.Host.CPU != nil || w.Host.Busy != nil || w.Host.Temperature != nil || w.Host.Throttled != nil {
		t.Errorf("a host that tells nothing: %s", text(t, w.Host))
	}
}

func TestLogHistogram(t *testing.T) {
	tests := []struct{ v, le float64 }{
		{0, 0.001}, {0.001, 0.001}, {0.0011, 0.001414}, {0.0014142135, 0.001414}, {0.0015, 0.002},
		{0.002, 0.002}, {1, 1.024}, {65, 65.536},
	}
	for _, tt := range tests {
		var h logHistogram
		h.add(tt.v)
		if got := h.close(); len(got.LE) != 1 || got.LE[0] != tt.le || got.N != 1 {
			t.Errorf("%v: %+v, want a bound of %v", tt.v, got, tt.le)
		}
	}
	var h logHistogram
	for _, v := range []float64{66, math.Inf(1), -1, math.NaN()} {
		h.add(v)
	}
	if got := h.close(); got.N != 2 || got.Over != 2 || len(got.LE) != 0 {
		t.Errorf("outside the bounds: %+v", got)
	}
}

func TestSampleEvery(t *testing.T) {
	for _, tt := range []struct{ window, every time.Duration }{
		{time.Second, 250 * time.Millisecond}, {12 * time.Second, time.Second},
		{time.Minute, 5 * time.Second}, {time.Hour, 5 * time.Second},
	} {
		if got := sampleEvery(tt.window); got != tt.every {
			t.Errorf("%v: every %v, want %v", tt.window, got, tt.every)
		}
	}
}
