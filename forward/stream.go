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
	spareAfter     = 10 * time.Second       // a layer that nobody has needed for so long need not be made
)

// Stream is one camera as forwarded. It is the capture.Sink of its camera:
// the source writes into a ring a track; workers bring each frame from there
// to every viewer's lane. The first of them is the stream's goroutine, run,
// which also does what is done once for all viewers.
type Stream struct {
	id  string
	sfu *SFU
	ask func(layer int) // the camera's keyframe request

	follow func(layer, bits int)        // nil: no bitrate can be set
	demand func(layer int, wanted bool) // nil: every layer always comes

	news  news
	first *worker // is the stream's goroutine

	mu      sync.Mutex
	tracks  []capture.Track
	feeds   []*feed // by track
	viewers []*Viewer
	joined  uint64    // counts changes to viewers
	workers []*worker // first and those that it has begun; never changed after it was stored
	work    []WorkerStats
	removed bool
	cancel  context.CancelFunc

	keyframes atomic.Uint64 // asked of the source
}

func newStream(s *SFU, id string, ask func(layer int)) *Stream {
	first := newWorker()
	return &Stream{id: id, sfu: s, ask: ask, first: first, workers: []*worker{first}}
}

// OnDemand has demand called, from any goroutine, when viewers begin to need
// a layer of a camera that has several, and some time after the last one has
// left it. Set it before the first Describe.
func (st *Stream) OnDemand(demand func(layer int, wanted bool)) { st.demand = demand }

// Describe implements capture.Sink. A track that is the same encoding as
// before (kind, layer, codec) goes on in its ring; if its size or parameters
// changed, its viewers freeze and go on at its next keyframe. Viewers of a
// track that is gone or has another codec are ended, so that they negotiate
// anew.
func (st *Stream) Describe(tracks []capture.Track) {
	tracks = slices.Clone(tracks)
	st.mu.Lock()
	feeds := make([]*feed, len(tracks))
	again := slices.Equal(tracks, st.tracks)
	for i, t := range tracks {
		j := slices.IndexFunc(st.tracks, func(o capture.Track) bool {
			return o.Kind == t.Kind && o.Layer == t.Layer && o.Codec == t.Codec && o.ClockRate == t.ClockRate
		})
		if j < 0 {
			feeds[i] = newFeed(t)
			continue
		}
		feeds[i] = st.feeds[j]
		if again || st.tracks[j] != t { // a source that says the same again has begun anew
			feeds[i].fresh = !feeds[i].audio
			feeds[i].forget()
		}
		feeds[i].layer = t.Layer
	}
	st.tracks, st.feeds = tracks, feeds
	var ended []*Viewer
	for _, v := range st.viewers {
		if slices.ContainsFunc(v.lanes, st.cutOffLocked) {
			ended = append(ended, v)
		}
	}
	st.mu.Unlock()
	for _, v := range ended {
		v.Close("the camera's codec changed")
	}
}

// feed is a track of the camera at work: its ring, and what is asked of the
// camera for it. The stream's mu guards all but the ring.
type feed struct {
	*ring
	layer    int
	fresh    bool      // no keyframe since the source began
	wanted   bool      // a keyframe is wanted
	asked    time.Time // when one was asked for last
	answered bool      // one came since
	judged   bool      // whether it came in time has been noted
	needed   time.Time // when a viewer needed the layer last
	spared   bool      // the source was told that nobody needs the layer

	follower follower  // the worker owns it
	takes    []float64 // scratch of it
}

// judge notes, once for each request, whether the camera made a keyframe in
// time; came says that there is one now. The stream's mu is held.
func (f *feed) judge(now time.Time, came bool) {
	late := now.Sub(f.asked) > burstWait
	if f.asked.IsZero() || f.judged || !came && !late {
		return
	}
	f.judged = true
	f.answer(came && !late)
}

func newFeed(t capture.Track) *feed {
	f := &feed{ring: newRing(t.Kind), layer: t.Layer}
	f.clockRate, f.fresh = t.ClockRate, !f.audio
	return f
}

// cutOffLocked tells whether a lane has lost its best layer, or one that had
// pictures.
func (st *Stream) cutOffLocked(l *lane) bool {
	for i, r := range l.rings {
		if st.hasLocked(r) {
			continue
		}
		if _, newest := r.delivers(); i == 0 || !newest.IsZero() {
			return true
		}
	}
	return false
}

func (st *Stream) hasLocked(r *ring) bool {
	return slices.ContainsFunc(st.feeds, func(f *feed) bool { return f.ring == r })
}

// Frame implements capture.Sink.
func (st *Stream) Frame(f *capture.Frame) {
	st.mu.Lock()
	if f.Track < 0 || f.Track >= len(st.feeds) || st.feeds[f.Track].fresh && !f.Keyframe {
		st.mu.Unlock()
		return
	}
	now := time.Now()
	to := st.feeds[f.Track]
	if f.Keyframe {
		to.judge(now, true)
		to.fresh, to.wanted, to.answered = false, false, true
	}
	if to.asked.IsZero() && !to.audio && !f.Keyframe {
		to.wanted = true // before a viewer has to wait: does the camera hear?
	}
	if f.Lost && !f.Keyframe && now.Sub(to.needed) < spareAfter {
		to.wanted = true // what follows refers to what was lost
	}
	workers := st.workers
	st.mu.Unlock()
	if !to.write(f, now) {
		st.sfu.counters.drop(dropTooLarge, 1)
		return
	}
	for _, w := range workers {
		w.signal()
	}
}

// signal wakes all workers.
func (st *Stream) signal() {
	st.mu.Lock()
	workers := st.workers
	st.mu.Unlock()
	for _, w := range workers {
		w.signal()
	}
}

// wantKeyframe asks for a keyframe of a ring's track: at once, or when the
// last request is keyframePause old.
func (st *Stream) wantKeyframe(r *ring) {
	st.mu.Lock()
	fresh := false
	for _, f := range st.feeds {
		if f.ring == r && !f.audio && !f.wanted {
			f.wanted, fresh = true, true
		}
	}
	st.mu.Unlock()
	if fresh { // else the worker knows: a storm of requests wakes it once
		st.first.signal()
	}
}

// run is the stream's goroutine: it ends with ctx or RemoveStream. It is the
// first worker, and does what is done once for all viewers: it asks the camera
// for keyframes and layers, reports, and keeps the crew.
func (st *Stream) run(ctx context.Context) {
	next := time.NewTimer(reportInterval)
	defer next.Stop()
	c := newCrew(ctx, st)
	defer c.end()
	var reported time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-st.first.wake:
		case <-next.C:
		case <-st.first.slow.timer.C:
			st.first.servePaced(time.Now())
			continue
		}
		now := time.Now()
		viewers := c.muster(now)
		st.demandLayers(viewers, now)
		waiting := st.first.serve(now)
		waiting = st.askKeyframes(now) || waiting
		if now.Sub(reported) >= reportInterval {
			reported = now
			st.followViewers(viewers, now)
			for _, v := range viewers {
				v.report(now)
			}
			c.balance(now)
		}
		// Frames, feedback, new viewers and drained queues wake the workers by
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

// roll is the list of viewers as it stands, and the count of its changes; the
// slice is never changed after it was stored.
func (st *Stream) roll() ([]*Viewer, uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.viewers, st.joined
}

// snapshot is the list of viewers alone.
func (st *Stream) snapshot() []*Viewer {
	viewers, _ := st.roll()
	return viewers
}

// employ notes whom a frame wakes.
func (st *Stream) employ(workers []*worker) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.workers = workers
}

// accounted notes what the workers did lately.
func (st *Stream) accounted(work []WorkerStats) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.work = work
}

// askKeyframes asks the camera for what is wanted, where it may be asked
// again. It reports whether something is still wanted.
func (st *Stream) askKeyframes(now time.Time) (waiting bool) {
	st.mu.Lock()
	var layers []int
	for _, f := range st.feeds {
		f.judge(now, false)
		pause := keyframePause
		if !f.answered {
			pause = keyframeRetry
		}
		if f.wanted && now.Sub(f.asked) >= pause {
			f.asked, f.wanted, f.answered, f.judged = now, false, false, false
			layers = append(layers, f.layer)
		}
		waiting = waiting || f.wanted || !f.asked.IsZero() && !f.judged
	}
	st.mu.Unlock()
	for _, l := range layers {
		st.keyframes.Add(1)
		st.ask(l)
	}
	return waiting
}

// demandLayers notes which layers the viewers need and tells the source. A
// layer that nobody needs is spared after spareAfter, once its rate is known.
// It takes the viewers' locks before the stream's, as pump does.
func (st *Stream) demandLayers(viewers []*Viewer, now time.Time) {
	st.mu.Lock()
	feeds := st.feeds // the slice is never changed after it was stored
	st.mu.Unlock()
	pictures := 0
	for _, f := range feeds {
		if !f.audio {
			pictures++
		}
	}
	several := pictures > 1
	for _, f := range feeds {
		if f.audio {
			continue
		}
		needed := !several && len(viewers) > 0 || several && slices.ContainsFunc(viewers, func(v *Viewer) bool { return v.needs(f.ring) })
		rate, _ := f.delivers()
		st.mu.Lock()
		if needed {
			f.needed = now
		}
		spare, layer := now.Sub(f.needed) >= spareAfter && rate > 0, f.layer
		tell := several && st.demand != nil && spare != f.spared
		if tell {
			f.spared = spare
		}
		st.mu.Unlock()
		if tell {
			st.demand(layer, !spare)
		}
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
		if !st.hasLocked(l.rings[0]) {
			return ErrGone // the codec changed while the viewer connected
		}
	}
	st.viewers = append(slices.Clone(st.viewers), v)
	st.joined++
	st.first.signal()
	return nil
}

func (st *Stream) drop(v *Viewer) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if i := slices.Index(st.viewers, v); i >= 0 {
		st.viewers = slices.Delete(slices.Clone(st.viewers), i, i+1)
		st.joined++
		st.first.signal()
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
	rings := make([]*ring, len(st.feeds))
	for i, f := range st.feeds {
		rings[i] = f.ring
	}
	return st.tracks, rings, nil
}

// Stats is the stream's part of the statistics.
func (st *Stream) Stats() StreamStats {
	s := StreamStats{ID: st.id, Keyframe: st.keyframes.Load()}
	st.mu.Lock()
	for _, f := range st.feeds {
		s.Ring += f.held()
	}
	s.Workers = slices.Clone(st.work)
	st.mu.Unlock()
	for _, v := range st.sfu.viewersOf(st) {
		s.Viewers = append(s.Viewers, v.Stats())
	}
	return s
}
