package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// The supervisor's times.
const (
	firstFrameIn  = 10 * time.Second        // from the start of a source, and while the frame rate is unknown
	stallAtLeast  = 3 * time.Second         // without a frame
	stallFrames   = 10                      // frame intervals without a frame
	stopIn        = 3 * time.Second         // a cancelled source is given to return
	backOffFirst  = 500 * time.Millisecond  // doubled after each failure …
	backOffMost   = 30 * time.Second        // … up to this
	backOffSoon   = 1500 * time.Millisecond // … or this, where a camera showed pictures, or is not there to be bothered
	backOffLeast  = 100 * time.Millisecond  // whatever the jitter says
	worthSoon     = time.Second             // of pictures make it worth that
	steadyAfter   = time.Minute             // live for so long, a camera starts again at backOffFirst
	logDroppedGap = time.Second
)

// Camera keeps one source alive for as long as its configuration lasts: it
// runs the source, restarts it with back-off when it fails or its frames stop
// advancing, and makes one continuous stream out of the pieces.
type Camera struct {
	// OnChange, where set, is called after State's Phase, Code or Tracks have
	// changed, from any goroutine and outside locks. It must not block. Set
	// it before Run.
	OnChange func()

	// Microphone, where set, is heard beside a source that has no sound. Set
	// it before Run.
	Microphone Microphone

	// NewPlaceholder, where set, makes what viewers see of the camera when it
	// has had no picture for a while, for pictures of that size in pixels (0
	// where unknown). Set it before Run.
	NewPlaceholder func(width, height int) (Placeholder, error)

	cfg  Config
	kind string
	src  Source
	sink Sink
	log  *slog.Logger

	standIn standIn
	stills  stills
	tap     *Tap // or nil

	// out is held while sink is called, which takes one call at a time: the
	// source and the placeholder both have something for it. It is taken
	// before mu.
	out sync.Mutex

	mu        sync.Mutex // guards all below; held for no call out
	phase     Phase
	since     time.Time
	code      Code
	reason    string
	encoder   string
	tracks    []*track // as last described
	known     []*track // every (kind, layer) ever described
	lastFrame time.Time
	seen      time.Time     // when a frame that counts as a sign of life came
	progress  time.Time     // the same, of this run
	interval  time.Duration // between those, smoothed; 0 while unknown
	waiting   bool          // see [WaitingSink]: until the next of those
	restarts  map[Code]uint64
	keyframes uint64
	dropped   uint64
	unwanted  [maxTracks]bool // by video layer
	bitrates  [maxTracks]int  // set for video layers; 0: as configured
	faults    []LayerFault    // of this run, by layer
	sound     SoundFault      // of this run
}

// New checks the configuration and makes a camera that runs src and delivers
// to sink. It starts nothing.
func New(cfg Config, src Source, sink Sink, log *slog.Logger) (*Camera, error) {
	if cfg.ID == "" {
		return nil, errors.New("camera without an id")
	}
	if src == nil || sink == nil || log == nil {
		return nil, fmt.Errorf("camera %q: source, sink and log are needed", cfg.ID)
	}
	kind, _, _ := strings.Cut(cfg.Source, ":")
	return &Camera{
		cfg: cfg, kind: kind, src: src, sink: sink, log: log.With("camera", cfg.ID),
		phase: Starting, since: time.Now(), restarts: map[Code]uint64{},
		standIn: standIn{wake: make(chan struct{}, 1)},
	}, nil
}

// Run keeps the source alive until ctx is done; then it returns nil once the
// source has ended, or after 3 s if the source does not. Call it once.
func (c *Camera) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	if c.NewPlaceholder != nil {
		beside.Go(func() { c.runStandIn(ctx) })
	}
	if c.tap != nil {
		beside.Go(func() { c.tap.run(ctx) })
	}
	for failures := 0; ; {
		started := time.Now()
		err := c.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		live := c.liveFor(started)
		if live >= steadyAfter {
			failures = 0
		}
		wait := BackOff(err, live, failures)
		failures++
		c.failed(CodeOf(err), err, wait)
		if c.pause(ctx, wait); ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits for so long, or until the source hears that its camera may be
// back; but no less than backOffLeast.
func (c *Camera) pause(ctx context.Context, wait time.Duration) {
	whole, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	a, ok := c.src.(Awaiter)
	if !ok {
		<-whole.Done()
		return
	}
	least := time.NewTimer(backOffLeast)
	defer least.Stop()
	a.Await(whole)
	select {
	case <-ctx.Done():
	case <-least.C:
	}
}

// attempt runs the source once and says why it ended.
func (c *Camera) attempt(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	g := &gate{c: c, fail: cancel, started: time.Now()}
	c.stills.raw.Store(false)
	c.mu.Lock()
	c.progress, c.faults, c.sound, c.waiting = time.Time{}, nil, SoundFault{}, false
	c.mu.Unlock()

	ended := make(chan error, 1)
	go func() { ended <- c.runSource(ctx, g) }()

	// Looked at no later than the shortest patience, a stall is seen in time.
	watch := time.NewTimer(stallAtLeast)
	defer watch.Stop()
	for {
		select {
		case err := <-ended:
			g.closed.Store(true)
			return whyEnded(ctx, err)
		case <-ctx.Done():
			g.closed.Store(true)
			c.awaitStopped(parent, context.Cause(ctx), ended)
			return context.Cause(ctx)
		case <-watch.C:
			left, why := c.untilStall(g.started, time.Now())
			if left > 0 {
				watch.Reset(min(left, stallAtLeast))
				continue
			}
			g.closed.Store(true)
			c.setPhase(Stalled, CodeStalled, why)
			cancel(Errorf(CodeStalled, "%s", why))
		}
	}
}

// runSource turns a panic into an error with its place.
func (c *Camera) runSource(ctx context.Context, g *gate) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Errorf(CodePanic, "panic at %s: %v", panicPlace(), v)
		}
	}()
	return runWith(ctx, c.src, c.Microphone, g)
}

// whyEnded prefers the supervisor's reason for cancelling over what the
// source made of it.
func whyEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return Errorf(CodeUnplugged, "the source ended")
	}
	return err
}

// awaitStopped waits for a cancelled source. One that does not return is
// never doubled: the camera waits for it, however long, and says so. Only the
// end of the camera itself leaves it behind, after stopIn.
func (c *Camera) awaitStopped(parent context.Context, cause error, ended <-chan error) {
	late := time.NewTimer(stopIn)
	defer late.Stop()
	select {
	case <-ended:
		return
	case <-late.C:
	}
	c.log.Error("source does not stop", "after", stopIn, "cause", cause)
	if parent.Err() != nil {
		return
	}
	c.setPhase(Stalled, CodeOf(cause), cause.Error()+"; the source does not stop")
	select {
	case <-ended:
	case <-parent.Done():
	}
}

func panicPlace() string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	panicking := false
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "runtime.") {
			panicking = true
		} else if panicking {
			return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

// untilStall is how long the source may still go without a frame.
func (c *Camera) untilStall(started, now time.Time) (time.Duration, string) {
	c.mu.Lock()
	last, interval, waiting := c.progress, c.interval, c.waiting
	c.mu.Unlock()
	if waiting {
		return stallAtLeast, ""
	}
	if last.IsZero() {
		return started.Add(firstFrameIn).Sub(now), fmt.Sprintf("no frame within %v", firstFrameIn)
	}
	patience := firstFrameIn
	if interval > 0 {
		patience = max(stallAtLeast, stallFrames*interval)
	}
	return last.Add(patience).Sub(now), fmt.Sprintf("no frame for %v", patience.Round(time.Millisecond))
}

// BackOff is how long to wait after a failure that ended so long a life, and so
// many failures before: full jitter over a ceiling that doubles up to 30 s. What
// this box cannot do waits at the slow end, in its upper half. A camera that
// showed pictures, or that is not there at all, is looked for again within
// 1.5 s: it may just be starting anew, and whoever watches waits for it.
func BackOff(err error, lived time.Duration, failures int) time.Duration {
	if isUnmet(CodeOf(err)) {
		return backOffMost/2 + rand.N(backOffMost/2)
	}
	ceiling := backOffMost
	if failures < 6 {
		ceiling = min(backOffMost, backOffFirst<<failures)
	}
	var e *Error
	if lived >= worthSoon || errors.As(err, &e) && e.Soon {
		ceiling = min(ceiling, backOffSoon)
	}
	return max(backOffLeast, rand.N(ceiling))
}

// isUnmet tells what will not go away by itself.
func isUnmet(code Code) bool { return code == CodeEncoder || code == CodeDenied }

func (c *Camera) failed(code Code, err error, wait time.Duration) {
	phase := Offline
	switch {
	case code == CodeStalled:
		phase = Stalled
	case isUnmet(code):
		phase = Unmet
	}
	c.mu.Lock()
	c.restarts[code]++
	repeated := c.phase == phase && c.code == code && phase != Stalled
	c.mu.Unlock()
	level := slog.LevelWarn // once; then State counts
	if repeated {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, "camera failed", "code", code, "err", err, "retry", wait.Round(time.Millisecond))
	c.setPhase(phase, code, err.Error())
}

// liveFor is how long the attempt that began at started was live.
func (c *Camera) liveFor(started time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.progress.IsZero() {
		return 0
	}
	return c.progress.Sub(started)
}

// setPhase records a change and tells of it.
func (c *Camera) setPhase(p Phase, code Code, reason string) {
	c.mu.Lock()
	changed := c.phase != p || c.code != code
	if c.phase != p {
		c.since = time.Now()
	}
	c.phase, c.code, c.reason = p, code, reason
	c.mu.Unlock()
	if changed {
		c.standIn.poke()
		c.changed()
	}
}

func (c *Camera) changed() {
	if c.OnChange != nil {
		c.OnChange()
	}
}

// Keyframe asks the source for a keyframe of a layer and returns at once. Any
// goroutine may call it; the caller limits how often.
func (c *Camera) Keyframe(layer int) {
	c.mu.Lock()
	c.keyframes++
	c.mu.Unlock()
	if c.standIn.shown.Load() {
		c.standIn.keyframe.Store(true)
		c.standIn.poke()
	}
	c.src.Keyframe(layer)
}

// Demand says whether anybody wants a video layer, and returns at once: see
// [LayerDemand]. Until then all layers are wanted. It does nothing where the
// source cannot spare one. Any goroutine may call it.
func (c *Camera) Demand(layer int, wanted bool) {
	d, ok := c.src.(LayerDemand)
	if !ok || layer < 0 || layer >= maxTracks {
		return
	}
	c.mu.Lock()
	c.unwanted[layer] = !wanted
	c.mu.Unlock()
	d.Demand(layer, wanted)
}

// Bitrate sets the bitrate of a video layer's encoder and returns at once: see
// [RateControl]. It does nothing where the source has none. Any goroutine may
// call it.
func (c *Camera) Bitrate(layer, bits int) {
	r, ok := c.src.(RateControl)
	if !ok || layer < 0 || layer >= maxTracks || bits <= 0 {
		return
	}
	c.mu.Lock()
	c.bitrates[layer] = bits
	c.mu.Unlock()
	r.Bitrate(layer, bits)
}

// Config is what the camera was made with.
func (c *Camera) Config() Config { return c.cfg }

// State is the camera at this moment. Any goroutine may call it; the value
// belongs to the caller.
func (c *Camera) State() State {
	now := time.Now()
	var in Input
	if i, ok := c.src.(Inputter); ok {
		in = i.Input()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{
		ID: c.cfg.ID, Kind: c.kind, Input: in,
		Phase: c.phase, Since: c.since, Code: c.code, Reason: c.reason,
		Encoder: c.encoder, LastFrame: c.lastFrame,
		Restarts: maps.Clone(c.restarts), Keyframes: c.keyframes, Dropped: c.dropped,
		Faults: slices.Clone(c.faults), Sound: c.sound, Placeholder: c.standIn.shown.Load(),
	}
	for _, t := range c.tracks {
		s.Tracks = append(s.Tracks, t.Track)
		s.Frames = append(s.Frames, t.frames)
		s.Bytes = append(s.Bytes, t.bytes)
		fps, bitrate := t.recent.rates(now)
		s.FPS = append(s.FPS, fps)
		s.Bitrate = append(s.Bitrate, bitrate)
		s.Target = append(s.Target, c.targetLocked(t))
		s.Unwanted = append(s.Unwanted, t.Kind == Video && c.unwanted[t.Layer])
	}
	return s
}

// targetLocked is the bitrate that a track's encoder is set to.
func (c *Camera) targetLocked(t *track) int {
	if bits := c.bitrates[t.Layer]; t.Kind == Video && bits > 0 {
		return min(bits, t.Track.Bitrate)
	}
	return t.Track.Bitrate
}

// trackOf finds what is known of a kind and layer, so that counters and time
// go on when a source starts anew. The caller holds mu.
func (c *Camera) trackOf(d Track) *track {
	i := slices.IndexFunc(c.known, func(t *track) bool { return t.Kind == d.Kind && t.Layer == d.Layer })
	if i < 0 {
		c.known = append(c.known, &track{Track: d})
		return c.known[len(c.known)-1]
	}
	return c.known[i]
}
