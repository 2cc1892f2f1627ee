package forward

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged/capture"
)

const (
	keyframePause  = 500 * time.Millisecond // at most one keyframe request a layer in this time
	keyframeRetry  = time.Second            // a request that brought no keyframe is repeated
	reportInterval = time.Second            // of sender reports
	waitPoll       = 50 * time.Millisecond  // while a keyframe is waited for
)

// Stream is one camera as forwarded. It is the capture.Sink of its camera:
// the source writes into a ring a track; one goroutine, work, brings each
// frame from there to every viewer's lane.
type Stream struct {
	id  string
	sfu *SFU
	ask func(layer int) // the camera's keyframe request

	wake chan struct{} // a frame, a lane or a request is there; capacity 1
	done chan struct{} // closed when work has ended

	mu       sync.Mutex
	tracks   []capture.Track
	rings    []*ring
	fresh    []bool // by track: no keyframe since Describe
	viewers  []*Viewer
	wanted   []bool      // by track: a keyframe is wanted
	asked    []time.Time // by track: when one was asked for last
	answered []bool      // by track: a keyframe came since
	removed  bool
	cancel   context.CancelFunc

	keyframes atomic.Uint64 // asked of the source
}

func newStream(s *SFU, id string, ask func(layer int)) *Stream {
	return &Stream{id: id, sfu: s, ask: ask, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Describe implements capture.Sink. Viewers stay while their track keeps its
// codec; they freeze and go on at the next keyframe. Viewers of a track that
// is gone or has another codec are ended, so that they negotiate anew.
func (st *Stream) Describe(tracks []capture.Track) {
	tracks = slices.Clone(tracks)
	st.mu.Lock()
	same := len(tracks) == len(st.tracks)
	for i := range tracks {
		same = same && tracks[i].Kind == st.tracks[i].Kind && tracks[i].Codec == st.tracks[i].Codec && tracks[i].ClockRate == st.tracks[i].ClockRate
	}
	var ended []*Viewer
	if !same {
		st.rings = make([]*ring, len(tracks))
		for i, t := range tracks {
			st.rings[i] = newRing(t.Kind)
			st.rings[i].clockRate = t.ClockRate
		}
		st.wanted, st.asked, st.answered = make([]bool, len(tracks)), make([]time.Time, len(tracks)), make([]bool, len(tracks))
		ended = slices.Clone(st.viewers)
	}
	st.tracks, st.fresh = tracks, make([]bool, len(tracks))
	for i, r := range st.rings {
		st.fresh[i] = !r.audio
		r.forget()
	}
	st.mu.Unlock()
	for _, v := range ended {
		v.Close("the camera's codec changed")
	}
}

// Frame implements capture.Sink.
func (st *Stream) Frame(f *capture.Frame) {
	st.mu.Lock()
	if f.Track < 0 || f.Track >= len(st.rings) || st.fresh[f.Track] && !f.Keyframe {
		st.mu.Unlock()
		return
	}
	now := time.Now()
	if f.Keyframe {
		if !st.answered[f.Track] && !st.asked[f.Track].IsZero() {
			st.rings[f.Track].answer(now.Sub(st.asked[f.Track]) <= burstWait)
		}
		st.fresh[f.Track], st.wanted[f.Track], st.answered[f.Track] = false, false, true
	}
	if f.Lost && !f.Keyframe {
		st.wanted[f.Track] = true // what follows refers to what was lost
	}
	r := st.rings[f.Track]
	st.mu.Unlock()
	if !r.write(f, now) {
		st.sfu.counters.drop(dropTooLarge, 1)
		return
	}
	st.signal()
}

func (st *Stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// wantKeyframe asks for a keyframe of a track: at once, or when the last
// request is keyframePause old.
func (st *Stream) wantKeyframe(track int) {
	st.mu.Lock()
	fresh := track < len(st.wanted) && !st.rings[track].audio && !st.wanted[track]
	if fresh {
		st.wanted[track] = true
	}
	st.mu.Unlock()
	if fresh { // else the worker knows: a storm of requests wakes it once
		st.signal()
	}
}

// work is the stream's goroutine: it ends with ctx or RemoveStream.
func (st *Stream) work(ctx context.Context) {
	defer close(st.done)
	next := time.NewTimer(reportInterval)
	defer next.Stop()
	var b batch
	var reported time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-st.wake:
		case <-next.C:
		}
		now := time.Now()
		viewers := st.snapshot()
		waiting := false
		for _, v := range viewers {
			waiting = v.pump(&b, now) || waiting
		}
		b.trim()
		waiting = st.askKeyframes(now) || waiting
		if now.Sub(reported) >= reportInterval {
			reported = now
			for _, v := range viewers {
				v.report(now)
			}
		}
		// Frames, feedback, new viewers and drained queues wake the worker by
		// themselves; the timer is for what comes of nothing happening.
		switch {
		case waiting:
			next.Reset(waitPoll)
		case len(viewers) > 0:
			next.Reset(reportInterval)
		default:
			next.Stop()
		}
	}
}

// snapshot is the list of viewers as it stands; the slice is never changed
// after it was stored.
func (st *Stream) snapshot() []*Viewer {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.viewers
}

// askKeyframes asks the camera for what is wanted, where it may be asked
// again. It reports whether something is still wanted.
func (st *Stream) askKeyframes(now time.Time) (waiting bool) {
	st.mu.Lock()
	var layers []int
	for i, want := range st.wanted {
		pause := keyframePause
		if !st.answered[i] {
			pause = keyframeRetry
		}
		if want && now.Sub(st.asked[i]) >= pause {
			st.asked[i], st.wanted[i], st.answered[i] = now, false, false
			layers = append(layers, st.tracks[i].Layer)
		}
		waiting = waiting || st.wanted[i]
	}
	st.mu.Unlock()
	for _, l := range layers {
		st.keyframes.Add(1)
		st.ask(l)
	}
	return waiting
}

// add admits a viewer whose keys are known to the fan-out.
func (st *Stream) add(v *Viewer) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.removed {
		return ErrGone
	}
	for _, l := range v.lanes {
		if !slices.Contains(st.rings, l.ring) {
			return ErrGone // the codec changed while the viewer connected
		}
	}
	st.viewers = append(slices.Clone(st.viewers), v)
	st.signal()
	return nil
}

func (st *Stream) drop(v *Viewer) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if i := slices.Index(st.viewers, v); i >= 0 {
		st.viewers = slices.Delete(slices.Clone(st.viewers), i, i+1)
	}
}

// described copies the tracks and their rings; ErrOffline before the first
// Describe.
func (st *Stream) described() ([]capture.Track, []*ring, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.removed {
		return nil, nil, ErrGone
	}
	if len(st.tracks) == 0 {
		return nil, nil, ErrOffline
	}
	return st.tracks, st.rings, nil
}

// Stats is the stream's part of the statistics.
func (st *Stream) Stats() StreamStats {
	st.mu.Lock()
	rings := st.rings
	st.mu.Unlock()
	s := StreamStats{ID: st.id, Keyframe: st.keyframes.Load()}
	for _, r := range rings {
		s.Ring += r.held()
	}
	for _, v := range st.sfu.viewersOf(st) {
		s.Viewers = append(s.Viewers, v.Stats())
	}
	return s
}
