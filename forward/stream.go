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
	waitPoll       = 50 * time.Millisecond  // while a lane waits for a keyframe
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
	reason   string
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
	if f.Keyframe {
		st.fresh[f.Track], st.wanted[f.Track], st.answered[f.Track] = false, false, true
	}
	if f.Lost && !f.Keyframe {
		st.wanted[f.Track] = true // what follows refers to what was lost
	}
	r := st.rings[f.Track]
	st.mu.Unlock()
	if !r.write(f, time.Now()) {
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
	if track < len(st.wanted) {
		st.wanted[track] = true
	}
	st.mu.Unlock()
	st.signal()
}

// work is the stream's goroutine: it ends with ctx or RemoveStream.
func (st *Stream) work(ctx context.Context) {
	defer close(st.done)
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	var b batch
	var reported time.Time
	for {
		var due <-chan time.Time
		if st.busy() {
			due = tick.C
		}
		select {
		case <-ctx.Done():
			return
		case <-st.wake:
		case <-due:
		}
		now := time.Now()
		st.askKeyframes(now)
		viewers := st.snapshot()
		for _, v := range viewers {
			v.pump(&b, now)
		}
		if now.Sub(reported) >= reportInterval {
			reported = now
			for _, v := range viewers {
				v.report(now)
			}
		}
	}
}

// busy tells whether the worker must look again without a frame arriving.
func (st *Stream) busy() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.viewers) > 0 || slices.Contains(st.wanted, true)
}

// snapshot is the list of viewers as it stands; the slice is never changed
// after it was stored.
func (st *Stream) snapshot() []*Viewer {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.viewers
}

func (st *Stream) askKeyframes(now time.Time) {
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
	}
	st.mu.Unlock()
	for _, l := range layers {
		st.keyframes.Add(1)
		st.ask(l)
	}
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
