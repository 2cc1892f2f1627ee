package capture

import (
	"context"
	"image"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// PictureSink is a [Sink] that also takes the pictures that a source is about
// to encode, or has encoded. The sink that [Camera] hands to its source is
// one.
type PictureSink interface {
	Sink
	// Picture shows a picture, 4:2:0. One goroutine at a time calls it, also
	// beside the other methods. It does not block and does not retain img, of
	// which it rarely wants more than to know that there is one.
	Picture(img *image.YCbCr, captured time.Time)
}

// Still is the newest that is known of how a scene looks: a picture, or a
// keyframe that has to be decoded. Neither may be changed.
type Still struct {
	Captured time.Time
	Picture  *image.YCbCr // nil: Codec and Payloads
	Codec    Codec
	Payloads [][]byte // of a keyframe
}

const (
	maxKeyframeKept = 4 << 20 // bytes; what is larger is no keyframe that anybody forwards
	stillBetter     = 5 * time.Second
)

// stills keeps each layer's newest keyframe, where a camera encodes; where
// the box does, the pictures are at hand and one is copied when it is wanted.
type stills struct {
	raw     atomic.Bool // this run's source shows its pictures
	waiting atomic.Int32

	mu        sync.Mutex
	waiters   []chan<- Still
	keyframes [maxTracks]Still // by layer
}

// Still is how the scene looks now. It blocks until the source has the next
// picture, where it shows its pictures, or ctx is done; a keyframe is there
// already. Where there is none yet the error has [CodeStalled]. Any goroutine
// may call it.
func (c *Camera) Still(ctx context.Context) (Still, error) {
	if !c.stills.raw.Load() {
		return c.stills.keyframe()
	}
	came := make(chan Still, 1)
	c.stills.wait(came)
	defer c.stills.leave(came)
	select {
	case s := <-came:
		return s, nil
	case <-ctx.Done():
		return Still{}, Errorf(CodeStalled, "no picture: %w", context.Cause(ctx))
	}
}

func (s *stills) wait(came chan<- Still) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters = append(s.waiters, came)
	s.waiting.Store(int32(len(s.waiters)))
}

func (s *stills) leave(came chan<- Still) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters = slices.DeleteFunc(s.waiters, func(w chan<- Still) bool { return w == came })
	s.waiting.Store(int32(len(s.waiters)))
}

// keyframe is the newest, or that of a better layer which is nearly as new.
func (s *stills) keyframe() (Still, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best Still
	for _, k := range s.keyframes { // the best layer first
		if k.Captured.Sub(best.Captured) > stillBetter || best.Codec == "" && k.Codec != "" {
			best = k
		}
	}
	if best.Codec == "" {
		return Still{}, Errorf(CodeStalled, "no keyframe yet")
	}
	return best, nil
}

// Picture implements [PictureSink].
func (g *gate) Picture(img *image.YCbCr, captured time.Time) {
	if g.closed.Load() {
		return
	}
	s := &g.c.stills
	if s.raw.CompareAndSwap(false, true) {
		s.forget()
	}
	g.c.tap.picture(img, captured)
	if s.waiting.Load() == 0 {
		return
	}
	still := Still{Captured: captured, Picture: clonePicture(img)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.waiters {
		w <- still // each has room for one, and is told once
	}
	s.waiters = s.waiters[:0]
	s.waiting.Store(0)
}

func clonePicture(img *image.YCbCr) *image.YCbCr {
	c := *img
	c.Y, c.Cb, c.Cr = slices.Clone(img.Y), slices.Clone(img.Cb), slices.Clone(img.Cr)
	return &c
}

// keep copies a keyframe; what the source encoded on the box is not needed.
func (g *gate) keep(t Track, f *Frame) {
	s := &g.c.stills
	if t.Kind != Video || !f.Keyframe || s.raw.Load() {
		return
	}
	size := 0
	for _, p := range f.Payloads {
		size += len(p)
	}
	if size > maxKeyframeKept {
		return
	}
	all, payloads := make([]byte, 0, size), make([][]byte, len(f.Payloads))
	for i, p := range f.Payloads {
		all = append(all, p...)
		payloads[i] = all[len(all)-len(p) : len(all) : len(all)]
	}
	still := Still{Captured: f.Captured, Codec: t.Codec, Payloads: payloads}
	s.mu.Lock()
	s.keyframes[t.Layer] = still
	s.mu.Unlock()
	g.c.tap.keyframe(still)
}

func (s *stills) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyframes = [maxTracks]Still{}
}
