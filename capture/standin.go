package capture

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// PlaceholderAfter is how long a camera is without pictures, where its
// configuration does not say, before viewers are shown a placeholder.
const PlaceholderAfter = 10 * time.Second

// placeholderGap is the time between two pictures of a placeholder.
const placeholderGap = time.Second

// keyframeAgain is how often a camera is asked for the keyframe that ends a
// placeholder.
const keyframeAgain = time.Second

// Placeholder makes the picture that viewers see in the place of a camera
// that has none. One goroutine uses it.
type Placeholder interface {
	// Picture encodes what is to be told as H.264: Keyframe and Payloads of
	// the frame, which is valid until the next call. The first is a keyframe.
	Picture(n Notice, keyframe bool) (*Frame, error)
	// Close frees the encoder.
	Close() error
}

// Notice is what a placeholder tells.
type Notice struct {
	Camera string    // id
	Since  time.Time // when its pictures ended
	Code   Code      // why
}

// standIn shows a placeholder while the camera is away. While pictures come
// it is a goroutine that waits, and costs nothing.
type standIn struct {
	wake     chan struct{} // the phase changed, or a keyframe is wanted; capacity 1
	shown    atomic.Bool
	keyframe atomic.Bool // wanted

	// Owned by run.
	placeholder Placeholder
	failed      bool // there is none; not tried again before the camera was live
}

func (s *standIn) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// runStandIn blocks until ctx is done.
func (c *Camera) runStandIn(ctx context.Context) {
	s := &c.standIn
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer c.endPlaceholder()
	for {
		wait, away := c.away(time.Now())
		switch {
		case !away:
			c.endPlaceholder()
			s.failed = false
			timer.Stop()
		case wait > 0:
			timer.Reset(wait)
		case !s.failed:
			if err := c.showPlaceholder(); err != nil {
				c.log.Warn("no placeholder", "err", err)
				c.endPlaceholder()
				s.failed = true
			}
			timer.Reset(placeholderGap)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// away tells whether the camera is not live but was, and how long it is still
// waited for before viewers are told.
func (c *Camera) away(now time.Time) (wait time.Duration, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == Live || c.seen.IsZero() {
		return 0, false
	}
	return c.seen.Add(c.placeholderAfter()).Sub(now), true
}

func (c *Camera) placeholderAfter() time.Duration {
	if c.cfg.Placeholder.After > 0 {
		return c.cfg.Placeholder.After
	}
	return PlaceholderAfter
}

// showPlaceholder makes one picture and hands it to the sink in the place of
// each layer that has none.
func (c *Camera) showPlaceholder() error {
	s := &c.standIn
	n, best := c.notice()
	if best.Codec == "" {
		s.failed = true // what its viewers decode is not made here: the state tells them
		return nil
	}
	if s.placeholder == nil {
		p, err := c.NewPlaceholder(best.Width, best.Height)
		if err != nil {
			return err
		}
		s.placeholder = p
	}
	f, err := s.placeholder.Picture(n, s.keyframe.Swap(false) || c.begins())
	if err != nil || len(f.Payloads) == 0 {
		return err
	}
	if c.deliverPlaceholder(f) && s.shown.CompareAndSwap(false, true) {
		c.log.Info("placeholder shown", "since", n.Since)
		c.changed()
	}
	return nil
}

// notice is what is to be told, and the first track that can tell it; the
// zero value where none can.
func (c *Camera) notice() (n Notice, best Track) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = Notice{Camera: c.cfg.ID, Since: c.seen, Code: c.code}
	if i := slices.IndexFunc(c.tracks, (*track).takesPlaceholder); i >= 0 {
		best = c.tracks[i].Track
	}
	return n, best
}

func (t *track) takesPlaceholder() bool { return t.Kind == Video && t.Codec == H264 }

// begins tells whether a layer is about to get its first picture of a
// placeholder.
func (c *Camera) begins() bool {
	c.out.Lock()
	defer c.out.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.tracks, func(t *track) bool { return t.takesPlaceholder() && !t.standsIn })
}

// deliverPlaceholder tells whether the picture went out: at this moment the
// camera may be back.
func (c *Camera) deliverPlaceholder(f *Frame) (shown bool) {
	c.out.Lock() // the sink takes one frame at a time
	defer c.out.Unlock()
	c.mu.Lock()
	phase, tracks := c.phase, c.tracks
	c.mu.Unlock()
	now := time.Now()
	for i, t := range tracks {
		own := !t.own.IsZero() && now.Sub(t.own) < c.placeholderAfter()
		if phase == Live || own || !t.takesPlaceholder() || !t.standsIn && !f.Keyframe {
			continue
		}
		f.Track, f.Captured, f.Lost = i, now, !t.standsIn && !t.at.IsZero()
		f.RTPTime = t.goOn(now)
		t.standsIn = true
		c.sink.Frame(f)
		shown = true
	}
	return shown
}

// goOn moves the track's time by what has passed since its last frame. The
// source's next frame finds its offset anew.
func (t *track) goOn(now time.Time) uint32 {
	if !t.at.IsZero() {
		t.rtpTime += t.ticksSince(now, now)
	}
	t.run, t.at, t.seen = nil, now, now
	return t.rtpTime
}

// endPlaceholder frees the encoder and says that the camera is back.
func (c *Camera) endPlaceholder() {
	s := &c.standIn
	if s.placeholder != nil {
		if err := s.placeholder.Close(); err != nil {
			c.log.Warn("placeholder", "err", err)
		}
		s.placeholder = nil
	}
	if s.shown.CompareAndSwap(true, false) {
		c.changed()
	}
}

// takesOver tells whether a source's frame may follow a placeholder: it must be
// a keyframe, which the source is asked for. The caller holds Camera.out.
func (g *gate) takesOver(t *track, keyframe bool, now time.Time) bool {
	if !t.standsIn || t.Kind != Video {
		return true
	}
	if keyframe {
		t.standsIn = false
		return true
	}
	if now.Sub(t.asked) >= keyframeAgain {
		t.asked = now
		g.c.src.Keyframe(t.Layer)
	}
	return false
}
