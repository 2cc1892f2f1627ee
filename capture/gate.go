package capture

import (
	"slices"
	"sync/atomic"
	"time"
)

// maxTracks bounds what a source may describe: tracks, and layers of a kind.
const maxTracks = 8

// maxJump is how far a frame's RTP time may stray from the clock on the wall
// between two frames before the camera's clock is taken to have been reset.
const maxJump = 10 * time.Second

// maxDelay is how far two delays on the way in may differ for the times of
// capture to be believed over those of arrival.
const maxDelay = 5 * time.Second

// gate is the sink of one run of a source. It checks what the source hands
// over, counts it, and moves its RTP time onto the camera's timeline.
type gate struct {
	c       *Camera
	fail    func(error) // ends this run
	started time.Time
	closed  atomic.Bool // the run is over: what a source still sends is dropped

	// Owned by the source's goroutine.
	tracks   []*track
	lead     *track // whose picture came last: the other layers share its timeline
	live     bool
	lost     bool // a frame was dropped here
	frame    Frame
	warnedAt time.Time
}

// track is one encoding over all runs of its source. Camera.mu guards it where
// nothing else is said, and Track is changed with Camera.out held, too.
type track struct {
	Track
	frames, bytes uint64
	recent        window

	// Guarded by Camera.out.
	own      time.Time // when its source's last frame came
	standsIn bool      // the last frame was a placeholder's
	asked    time.Time // when the source was asked for the keyframe that ends it

	// timeline, the same
	run     *gate     // that offset belongs to
	offset  uint32    // from the source's RTP time to ours
	rtpTime uint32    // ours, of the last frame
	at      time.Time // when that came
	seen    time.Time // when it was captured
}

// Describe implements [Sink].
func (g *gate) Describe(tracks []Track) {
	if g.closed.Load() {
		return
	}
	if err := checkTracks(tracks); err != nil {
		g.fail(err)
		return
	}
	c := g.c
	if c.describe(g, tracks) {
		c.changed()
	}
}

// describe tells whether the tracks are news, and then tells the sink.
func (c *Camera) describe(g *gate, tracks []Track) bool {
	c.out.Lock()
	defer c.out.Unlock()
	c.mu.Lock()
	before := c.tracks
	g.tracks = make([]*track, len(tracks))
	same := len(before) == len(tracks)
	for i, d := range tracks {
		t := c.trackOf(d)
		same = same && before[i] == t && t.Track == d
		if t.ClockRate != d.ClockRate {
			t.run = nil // its offset counts other ticks
		}
		t.Track = d
		g.tracks[i] = t
	}
	c.tracks = g.tracks
	encoder := encoderOf(c.src)
	news := encoder != c.encoder
	c.encoder = encoder
	c.mu.Unlock()
	if !same {
		c.sink.Describe(tracks)
	}
	return !same || news
}

func checkTracks(tracks []Track) error {
	if len(tracks) == 0 || len(tracks) > maxTracks {
		return Errorf(CodeProtocol, "%d tracks", len(tracks))
	}
	for i, t := range tracks {
		if (t.Kind != Video && t.Kind != Audio) || t.Codec == "" || t.ClockRate == 0 || t.Layer < 0 || t.Layer >= maxTracks {
			return Errorf(CodeProtocol, "track %d: kind %q, layer %d, codec %q, clock rate %d", i, t.Kind, t.Layer, t.Codec, t.ClockRate)
		}
		twice := func(o Track) bool { return o.Kind == t.Kind && o.Layer == t.Layer }
		if slices.ContainsFunc(tracks[:i], twice) {
			return Errorf(CodeProtocol, "track %d: %s layer %d twice", i, t.Kind, t.Layer)
		}
	}
	return nil
}

// encoderOf asks a source that encodes on the box by what; others pass on
// what the camera encoded.
func encoderOf(src Source) string {
	if e, ok := src.(interface{ Encoder() string }); ok {
		return e.Encoder()
	}
	return "camera"
}

// Frame implements [Sink].
func (g *gate) Frame(f *Frame) {
	if g.closed.Load() {
		return
	}
	now := time.Now()
	size, why := g.check(f)
	if why != "" {
		g.drop(now, why)
		return
	}
	t := g.tracks[f.Track]
	alive, healed := g.count(t, size, now)
	g.pass(t, f, now)
	if healed {
		g.c.log.Info("layer live", "kind", t.Kind, "layer", t.Layer)
		g.c.changed()
	}
	if alive && !g.live {
		g.live = true
		g.c.log.Info("camera live", "after", now.Sub(g.started).Round(time.Millisecond))
		g.c.setPhase(Live, "", "")
	}
}

// pass hands a frame to the camera's sink, on the camera's timeline.
func (g *gate) pass(t *track, f *Frame, now time.Time) {
	g.c.out.Lock()
	defer g.c.out.Unlock()
	t.own = now
	if !g.takesOver(t, f.Keyframe, now) {
		return
	}
	g.frame = *f
	if g.frame.Captured.IsZero() {
		g.frame.Captured = now
	}
	if t.run != g && !t.at.IsZero() || g.lost {
		g.frame.Lost = true // the gap between two runs, or what was dropped here
	}
	g.lost = false
	g.frame.RTPTime = g.onTimeline(t, f.RTPTime, now)
	t.seen = g.frame.Captured
	g.c.sink.Frame(&g.frame)
	g.keep(t.Track, &g.frame)
	g.frame.Payloads = nil // the source's memory
}

// check adds up the payload bytes, or says what is wrong with the frame.
func (g *gate) check(f *Frame) (size int, why string) {
	if f.Track < 0 || f.Track >= len(g.tracks) {
		return 0, "no such track"
	}
	if len(f.Payloads) == 0 {
		return 0, "no payloads"
	}
	for _, p := range f.Payloads {
		if len(p) == 0 {
			return 0, "an empty payload"
		}
		if len(p) > MaxPayload {
			return 0, "a payload too large"
		}
		size += len(p)
	}
	return size, ""
}

func (g *gate) drop(now time.Time, why string) {
	g.lost = true
	g.c.mu.Lock()
	g.c.dropped++
	n := g.c.dropped
	g.c.mu.Unlock()
	if now.Sub(g.warnedAt) >= logDroppedGap {
		g.warnedAt = now
		g.c.log.Warn("frame dropped on the way in", "why", why, "dropped", n)
	}
}

// count tells whether the frame is a sign of life, and whether it ends the
// trouble of its layer.
func (g *gate) count(t *track, size int, now time.Time) (alive, healed bool) {
	c := g.c
	c.mu.Lock()
	defer c.mu.Unlock()
	t.frames++
	t.bytes += uint64(size)
	t.recent.add(now, size)
	c.lastFrame = now
	if i := c.faultLocked(t.Layer); i >= 0 && t.Kind == Video {
		c.faults, healed = slices.Delete(c.faults, i, i+1), true
	}
	if t.Kind == Audio && c.sound != (SoundFault{}) {
		c.sound, healed = SoundFault{}, true
	}
	if !c.provesLifeLocked(t) {
		return false, healed
	}
	if !c.progress.IsZero() {
		c.interval = smooth(c.interval, now.Sub(c.progress))
	}
	c.progress, c.seen, c.waiting = now, now, false
	return true, healed
}

// provesLifeLocked: sound that goes on under a frozen picture proves nothing,
// nor does a lower layer where a better one is wanted and not in trouble.
func (c *Camera) provesLifeLocked(t *track) bool {
	for _, o := range c.tracks {
		if o.Kind == Video && (t.Kind != Video || o.Layer < t.Layer && !c.unwanted[o.Layer] && c.faultLocked(o.Layer) < 0) {
			return false
		}
	}
	return true
}

// LayerFailed implements [LayerSink].
func (g *gate) LayerFailed(layer int, err error) {
	if g.closed.Load() || err == nil || layer < 0 || layer >= maxTracks {
		return
	}
	c := g.c
	f := LayerFault{Layer: layer, Code: CodeOf(err), Reason: err.Error()}
	c.mu.Lock()
	i := c.faultLocked(layer)
	repeated := i >= 0 && c.faults[i].Code == f.Code
	if i >= 0 {
		c.faults[i] = f
	} else {
		c.faults = append(c.faults, f)
		slices.SortFunc(c.faults, func(a, b LayerFault) int { return a.Layer - b.Layer })
	}
	c.mu.Unlock()
	if repeated {
		return // said once; State has the newest words
	}
	c.log.Warn("layer failed", "layer", layer, "code", f.Code, "err", err)
	c.changed()
}

// SoundFailed implements [SoundSink].
func (g *gate) SoundFailed(err error) {
	if g.closed.Load() || err == nil {
		return
	}
	c := g.c
	f := SoundFault{Code: CodeOf(err), Reason: err.Error()}
	c.mu.Lock()
	repeated := c.sound.Code == f.Code
	c.sound = f
	c.mu.Unlock()
	if !repeated {
		c.log.Warn("no sound", "code", f.Code, "err", err)
		c.changed()
	}
}

// Waiting implements [WaitingSink].
func (g *gate) Waiting(err error) {
	if g.closed.Load() || err == nil {
		return
	}
	for _, t := range g.tracks {
		t.run = nil // what comes next has times of its own
	}
	g.lead, g.live = nil, false
	c := g.c
	c.mu.Lock()
	c.waiting, c.progress, c.faults = true, time.Time{}, nil
	begins := c.phase != Waiting
	c.mu.Unlock()
	if begins {
		c.log.Info("camera waits", "code", CodeOf(err), "for", err)
	}
	c.setPhase(Waiting, CodeOf(err), err.Error())
}

func (c *Camera) faultLocked(layer int) int {
	return slices.IndexFunc(c.faults, func(f LayerFault) bool { return f.Layer == layer })
}

// smooth is an average in which the newest value weighs an eighth.
func smooth(old, sample time.Duration) time.Duration {
	if old == 0 {
		return sample
	}
	return old + (sample-old)/8
}

// onTimeline moves a source's RTP time onto the camera's: within a run by a
// constant, from one run to the next by the time that passed between.
func (g *gate) onTimeline(t *track, source uint32, now time.Time) uint32 {
	if t.run != g || t.strayed(source+t.offset, now) {
		t.offset = g.offset(t, source, now)
	}
	t.run, t.rtpTime, t.at = g, source+t.offset, now
	if t.Kind == Video {
		g.lead = t
	}
	return t.rtpTime
}

// offset is that of the layer whose picture came last where it fits, so that
// layers stay together; else what makes a track go on where it was.
func (g *gate) offset(t *track, source uint32, now time.Time) uint32 {
	if l := g.lead; t.Kind == Video && l != nil && l != t && l.ClockRate == t.ClockRate {
		rtpTime := source + l.offset
		if !l.strayed(rtpTime, now) && (t.at.IsZero() || int32(rtpTime-t.rtpTime) > 0) {
			return l.offset
		}
	}
	if t.at.IsZero() { // its first frame of all
		return 0
	}
	return t.rtpTime + t.ticksSince(now, g.frame.Captured) - source
}

// ticksSince is the RTP time from the track's last frame to one captured then
// that came now: at least 1.
func (t *track) ticksSince(now, captured time.Time) uint32 {
	passed := now.Sub(t.at)
	if d := captured.Sub(t.seen); (d - passed).Abs() < maxDelay {
		passed = d // so that sound and picture go on as they were captured, however each was delayed
	}
	ticks := uint32(uint64(max(0, passed.Microseconds())) * uint64(t.ClockRate) / 1e6)
	return max(ticks, 1)
}

// strayed tells whether rtpTime cannot follow the track's last frame.
func (t *track) strayed(rtpTime uint32, now time.Time) bool {
	moved := time.Duration(int32(rtpTime-t.rtpTime)) * time.Second / time.Duration(t.ClockRate)
	return (moved - now.Sub(t.at)).Abs() > maxJump
}
