package rtsp

import (
	"context"
	"errors"
	"sync"
	"time"

	"edged/capture"
)

// steadyAfter is how long the lower layer must have had frames for its
// failures to be forgotten.
const steadyAfter = time.Minute

// runBoth plays the main URL, and its sound where that is wanted; once that has
// pictures, the second beside it, and asks for keyframes.
func (s *Source) runBoth(ctx context.Context, sink capture.Sink) error {
	mux := capture.NewMux(sink)
	var voice capture.SoundSink
	if s.sound {
		voice = mux.Sound()
	}
	sc := &scene{sink: mux.Pictures(), low: &s.low, started: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.ask(ctx, sc.started) })
	var second *lowSink
	if s.sub == nil {
		second = &lowSink{scene: sc, frames: func() {}}
	} else {
		beside.Go(func() { s.runLow(ctx, sc) })
	}
	err := s.session.run(ctx, mainSink{sc}, second, voice)
	cancel()
	beside.Wait()
	return err
}

// runLow plays the second URL whenever it is wanted, again and again, until
// ctx is done. What goes wrong is the layer's own: the main one goes on.
func (s *Source) runLow(ctx context.Context, sc *scene) {
	select {
	case <-ctx.Done():
		return
	case <-sc.started:
	}
	for failures := 0; ; {
		s.demand.await(ctx)
		lived, err := s.playLow(ctx, sc)
		if ctx.Err() != nil {
			return
		}
		if lived >= steadyAfter || err == nil {
			failures = 0
		}
		if err == nil { // not wanted any more
			continue
		}
		err = s.sub.fault(err)
		sc.lowFailed(err)
		wait := capture.BackOff(err, lived, failures)
		failures++
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

var errUnwanted = errors.New("nobody wants the layer")

// playLow is one session of the second URL: from its first frame to its last
// it lived for so long. The error is nil where nobody wants the layer any
// more, or ctx is done.
func (s *Source) playLow(parent context.Context, sc *scene) (lived time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	var watch sync.WaitGroup
	watch.Go(func() {
		s.demand.awaitEnd(ctx, s.sub.limits.linger)
		cancel(errUnwanted)
	})
	silence := s.sub.limits.silence
	stalled := time.AfterFunc(silence, func() {
		cancel(capture.Errorf(capture.CodeStalled, "no frame for %v", silence))
	})
	low := &lowSink{scene: sc, frames: func() { stalled.Reset(silence) }}
	err = s.sub.run(ctx, low, nil, nil)
	cancel(nil)
	watch.Wait()
	stalled.Stop()
	if parent.Err() != nil || errors.Is(err, errUnwanted) {
		err = nil
	}
	return low.lived(), err
}

// lowLayer is what is known of the lower layer, over runs.
type lowLayer struct {
	track capture.Track // as last described; no codec: not yet
	none  bool          // there is none, or its codec is none that can be forwarded
}

// holdFor is how long a camera whose main codec not every viewer decodes is
// held back for its lower layer to say what that has: who comes before is
// refused for good.
const holdFor = 3 * time.Second

// scene makes one source of the pictures of a camera, which come from two
// sessions, or as two media of one. The two sinks are called from goroutines
// of the sessions.
type scene struct {
	started chan struct{} // closed by the first frame of the main layer

	// mu is over each call of the sink, which takes one at a time and does
	// not block. It guards what follows.
	mu      sync.Mutex
	sink    capture.Sink
	low     *lowLayer
	main    capture.Track
	rtpTime uint32    // of the main layer's last frame
	at      time.Time // when that came; zero before the first
	first   time.Time // when the first came
	held    bool      // nothing is described before the lower layer is known
}

// describeLocked describes both layers from the start, so that viewers need
// not negotiate anew when the lower one answers. Until then it has the main
// one's parameters and no size.
func (sc *scene) describeLocked() {
	tracks := []capture.Track{sc.main, sc.low.track}
	switch {
	case sc.low.none:
		tracks = tracks[:1]
	case sc.low.track.Codec == "":
		tracks[1] = sc.main
		tracks[1].Layer, tracks[1].Width, tracks[1].Height = 1, 0, 0
	}
	sc.sink.Describe(tracks)
}

// lowFailed reports the lower layer's trouble. A layer that cannot be
// forwarded is described no longer.
func (sc *scene) lowFailed(err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	unfit := capture.CodeOf(err) == capture.CodeCodec && !sc.low.none
	if unfit {
		*sc.low = lowLayer{none: true}
	}
	if unfit || sc.held {
		sc.held = false
		sc.describeLocked()
	}
	if sink, ok := sc.sink.(capture.LayerSink); ok {
		sink.LayerFailed(1, err)
	}
}

// mainSink takes layer 0.
type mainSink struct{ *scene }

// Describe implements [capture.Sink].
func (m mainSink) Describe(tracks []capture.Track) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.main = tracks[0]
	m.held = m.at.IsZero() && m.main.Codec != capture.H264 && !m.low.none && m.low.track.Codec == ""
	if !m.held {
		m.describeLocked()
	}
}

// Frame implements [capture.Sink].
func (m mainSink) Frame(f *capture.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.at.IsZero() {
		m.first = now
		close(m.started)
	}
	m.rtpTime, m.at = f.RTPTime, now
	if m.held && now.Sub(m.first) < holdFor {
		return
	}
	if m.held {
		m.held = false
		m.describeLocked()
	}
	m.sink.Frame(f)
}

// lowSink takes layer 1, from its first keyframe on. Its RTP
// time is moved onto the main layer's by what arrives at the same moment:
// both sessions show the same scene, but each counts from a start of its own.
type lowSink struct {
	*scene
	frames func() // called for each

	// Guarded by the scene's mu.
	track       capture.Track
	begun       bool
	offset      uint32
	first, last time.Time
	frame       capture.Frame
}

// Describe implements [capture.Sink].
func (l *lowSink) Describe(tracks []capture.Track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.track = tracks[0]
	l.track.Layer = 1
	if l.begun || l.held {
		l.announceLocked()
	}
}

// expect says that the camera has the layer, though it is not described yet.
func (l *lowSink) expect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.low.none = false
}

// unfit says that the camera has it and does not give it.
func (l *lowSink) unfit(err error) {
	l.mu.Lock()
	l.low.none = true
	l.mu.Unlock()
	l.lowFailed(err)
}

func (l *lowSink) announceLocked() {
	known := lowLayer{track: l.track}
	if *l.low != known {
		*l.low, l.held = known, false
		l.describeLocked()
	}
}

// Frame implements [capture.Sink].
func (l *lowSink) Frame(f *capture.Frame) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun && !f.Keyframe {
		return
	}
	l.frames()
	if !l.begun {
		l.begun, l.first = true, now
		l.offset = l.rtpTime + uint32(now.Sub(l.at).Microseconds()*9/100) - f.RTPTime
		l.announceLocked()
	}
	l.last = now
	l.frame = *f
	l.frame.Track = 1
	l.frame.RTPTime += l.offset
	l.sink.Frame(&l.frame)
	l.frame.Payloads = nil // the session's memory
}

func (l *lowSink) lived() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Sub(l.first)
}
