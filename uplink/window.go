package uplink

import (
	"math"
	"slices"
	"sync"
	"time"

	"edged/uplink/wire"
)

// history is how long closed windows are kept for [Recorder.Windows].
const history = time.Hour

// Recorder turns samples into windows. Its methods may be called from any
// goroutine.
type Recorder struct {
	length time.Duration
	due    time.Duration // age at which a window is closed: the sample nearest to its length

	mu   sync.Mutex
	acc  accumulator
	done []wire.Window // closed, oldest first, an hour at most
}

func newRecorder(length time.Duration) *Recorder {
	return &Recorder{length: length, due: length - sampleEvery(length)/2}
}

// sampleEvery is the time between samples for windows of a length.
func sampleEvery(length time.Duration) time.Duration {
	return min(max(length/12, 250*time.Millisecond), 5*time.Second)
}

// add takes a sample. Where it completes a window, add returns it and true.
func (r *Recorder) add(now time.Time, s Sample) (wire.Window, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acc.add(now, s)
	if now.Sub(r.acc.from) < r.due {
		return wire.Window{}, false
	}
	return r.close()
}

// cut closes the window that is open, short as it may be; false if nothing
// was seen in it.
func (r *Recorder) cut() (wire.Window, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close()
}

func (r *Recorder) close() (wire.Window, bool) {
	w, ok := r.acc.close()
	if !ok {
		return w, false
	}
	if keep := windowsIn(history, r.length); len(r.done) >= keep {
		r.done = slices.Delete(r.done, 0, len(r.done)-keep+1)
	}
	r.done = append(r.done, w)
	return w, true
}

// Windows returns the closed windows of the last hour that end after since,
// oldest first. The caller must not change what they point to.
func (r *Recorder) Windows(since time.Time) []wire.Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	ms := int64(math.MinInt64)
	if !since.IsZero() {
		ms = since.UnixMilli()
	}
	out := make([]wire.Window, 0, len(r.done))
	for _, w := range r.done {
		if w.To > ms {
			out = append(out, w)
		}
	}
	return out
}

func windowsIn(span, length time.Duration) int {
	return max(1, int((span+length-1)/length))
}

// accumulator is the open window.
type accumulator struct {
	from, at time.Time // when the window began, and its last sample
	prev     Sample
	n        int // samples since from, without the one that began it

	cameras            map[string]*cameraSum
	forward            wire.Forward
	viewers, loss      gauge
	rtt                logHistogram
	join, delay        histogramSum
	turn               wire.TURN
	allocations        gauge
	connected          int
	connects           uint64
	cpu, busy, jiffies uint64
	rss, avail, temp   gauge
}

type cameraSum struct {
	wire.Camera
	viewers gauge
}

// add takes a sample into the window; the very first only gives the
// counters' start.
func (a *accumulator) add(now time.Time, s Sample) {
	if a.from.IsZero() {
		a.from, a.at, a.prev = now, now, s
		return
	}
	a.at = now
	a.n++
	a.addCameras(s.Cameras)
	a.addForward(&s.Forward)
	a.turn.RelayedIn += delta(a.prev.TURN.RelayedIn, s.TURN.RelayedIn)
	a.turn.RelayedOut += delta(a.prev.TURN.RelayedOut, s.TURN.RelayedOut)
	a.turn.AuthFailures += delta(a.prev.TURN.AuthFailures, s.TURN.AuthFailures)
	a.turn.DeniedPeers += delta(a.prev.TURN.DeniedPeers, s.TURN.DeniedPeers)
	a.allocations.add(float64(s.TURN.Allocations))
	if s.Link.Connected {
		a.connected++
	}
	a.connects += delta(a.prev.Link.Connects, s.Link.Connects)
	a.addHost(&s.Host)
	a.prev = s
}

func (a *accumulator) addCameras(cameras []CameraSample) {
	if a.cameras == nil {
		a.cameras = make(map[string]*cameraSum, len(cameras))
	}
	before := make(map[string]CameraSample, len(a.prev.Cameras))
	for _, c := range a.prev.Cameras {
		before[c.ID] = c
	}
	for _, c := range cameras {
		sum := a.cameras[c.ID]
		if sum == nil {
			sum = &cameraSum{Camera: wire.Camera{ID: c.ID}}
			a.cameras[c.ID] = sum
		}
		p := before[c.ID]
		sum.State, sum.Code = c.State, c.Code
		sum.Frames += delta(p.Frames, c.Frames)
		sum.Bytes += delta(p.Bytes, c.Bytes)
		sum.Restarts += delta(p.Restarts, c.Restarts)
		sum.Keyframes += delta(p.Keyframes, c.Keyframes)
		sum.viewers.add(float64(c.Viewers))
	}
}

func (a *accumulator) addForward(f *ForwardSample) {
	p := &a.prev.Forward
	a.forward.Packets += delta(p.Packets, f.Packets)
	a.forward.Bytes += delta(p.Bytes, f.Bytes)
	a.forward.NACKs += delta(p.NACKs, f.NACKs)
	a.forward.RTX += delta(p.RTX, f.RTX)
	a.forward.PLIs += delta(p.PLIs, f.PLIs)
	a.forward.Dropped += delta(p.Dropped, f.Dropped)
	a.viewers.add(float64(f.Viewers))
	for _, l := range f.Loss {
		a.loss.add(l)
	}
	for _, d := range f.RTT {
		a.rtt.add(d.Seconds())
	}
	a.join.add(p.Join, f.Join)
	a.delay.add(p.Delay, f.Delay)
}

func (a *accumulator) addHost(h *HostSample) {
	p := &a.prev.Host
	if h.HasCPU && p.HasCPU {
		a.cpu += delta(uint64(p.CPU), uint64(h.CPU))
	}
	if h.HasBusy && p.HasBusy {
		a.busy += delta(p.Busy, h.Busy)
		a.jiffies += delta(p.Jiffies, h.Jiffies)
	}
	if h.RSS > 0 {
		a.rss.add(float64(h.RSS))
	}
	if h.Available > 0 {
		a.avail.add(float64(h.Available))
	}
	if h.HasTemperature {
		a.temp.add(h.Temperature)
	}
}

// close gives the window and begins the next where this one ends.
func (a *accumulator) close() (wire.Window, bool) {
	if a.n == 0 {
		return wire.Window{}, false
	}
	seconds := a.at.Sub(a.from).Seconds()
	turn := a.turn
	turn.Allocations = *a.allocations.close()
	w := wire.Window{
		From: a.from.UnixMilli(), To: a.at.UnixMilli(), Seconds: round(seconds, 3),
		Cameras: a.closeCameras(seconds), Forward: a.closeForward(), TURN: &turn,
		Link: &wire.Link{Up: round(float64(a.connected)/float64(a.n), 3), Connects: a.connects},
		Host: a.closeHost(seconds),
	}
	*a = accumulator{from: a.at, at: a.at, prev: a.prev}
	return w, true
}

func (a *accumulator) closeCameras(seconds float64) []wire.Camera {
	out := make([]wire.Camera, 0, len(a.cameras))
	for _, c := range a.cameras {
		c.Viewers = *c.viewers.close()
		if seconds > 0 {
			c.Bitrate = math.Round(float64(c.Bytes) * 8 / seconds)
		}
		out = append(out, c.Camera)
	}
	slices.SortFunc(out, func(x, y wire.Camera) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	return out
}

func (a *accumulator) closeForward() *wire.Forward {
	f := a.forward
	f.Viewers = *a.viewers.close()
	f.Loss = a.loss.orNil()
	f.RTT = a.rtt.close()
	f.Join = a.join.close()
	f.Delay = a.delay.close()
	return &f
}

func (a *accumulator) closeHost(seconds float64) *wire.Host {
	h := &wire.Host{RSS: a.rss.orNil(), Available: a.avail.orNil(), Temperature: a.temp.orNil()}
	if a.prev.Host.HasCPU && seconds > 0 {
		h.CPU = new(round(time.Duration(a.cpu).Seconds()/seconds, 4))
	}
	if a.jiffies > 0 {
		h.Busy = new(round(float64(a.busy)/float64(a.jiffies), 4))
	}
	if a.prev.Host.HasThrottled {
		h.Throttled = new(a.prev.Host.Throttled)
	}
	return h
}

// delta is the rise of a counter that starts again from nothing when the
// thing it counts is made anew.
func delta(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

func round(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
