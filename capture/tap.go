package capture

import (
	"context"
	"image"
	"sync/atomic"
	"time"
)

// The size of the pictures that a tap hands out, in samples, and how often:
// pictures before they are encoded, and keyframes of cameras that encode.
const (
	LookWidth   = 160
	LookHeight  = 90
	lookGap     = 250 * time.Millisecond
	keyframeGap = time.Second
)

// Look is one look at a scene.
type Look struct {
	Captured time.Time
	Luma     *image.Gray // the whole scene, LookWidth × LookHeight; not the callee's to keep
	Keyframe bool        // decoded from one: there are looks as rarely as the camera sends them
	Err      error       // why there is no Luma: [CodeCodec] where keyframes of this codec cannot be decoded
}

// Tap is who looks at a camera's scene, a few times a second. A look is made
// only when the one before was taken: the live path never waits.
type Tap struct {
	// Look is called from one goroutine and may take its time.
	Look func(Look)
	// Decode decodes a keyframe.
	Decode func(c Codec, payloads [][]byte) (*image.YCbCr, error)

	came chan sight  // capacity 1
	busy atomic.Bool // from a look's being made until it was taken
	luma *image.Gray // of whoever made busy true
	last time.Time   // the newest look's time of capture; of whoever made busy true
}

// sight is a look, or the keyframe that one is to be made of.
type sight struct {
	Look
	keyframe Still
}

// SetTap has t look at the scene. Call it before Run, with a Tap of the
// camera's own.
func (c *Camera) SetTap(t *Tap) {
	t.came, t.luma = make(chan sight, 1), image.NewGray(image.Rect(0, 0, LookWidth, LookHeight))
	c.tap = t
}

// run takes the looks until ctx is done.
func (t *Tap) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-t.came:
			if s.Keyframe {
				t.decode(&s)
			}
			t.Look(s.Look)
			t.busy.Store(false)
		}
	}
}

func (t *Tap) decode(s *sight) {
	img, err := t.Decode(s.keyframe.Codec, s.keyframe.Payloads)
	if err != nil {
		s.Err = err
		return
	}
	shrinkLuma(t.luma, img)
	s.Luma = t.luma
}

// due tells whether a look may be made now; then the caller has to hand one
// over or give up its turn.
func (t *Tap) due(captured time.Time, gap time.Duration) bool {
	if t == nil || !t.busy.CompareAndSwap(false, true) {
		return false
	}
	if d := captured.Sub(t.last); d >= 0 && d < gap {
		t.busy.Store(false)
		return false
	}
	t.last = captured
	return true
}

// picture is a picture that a source shows.
func (t *Tap) picture(img *image.YCbCr, captured time.Time) {
	if t.due(captured, lookGap) {
		shrinkLuma(t.luma, img)
		t.came <- sight{Look: Look{Captured: captured, Luma: t.luma}} // busy: there is room
	}
}

// keyframe is one of a camera that encodes, kept by stills.
func (t *Tap) keyframe(s Still) {
	if t.due(s.Captured, keyframeGap) {
		t.came <- sight{Look: Look{Captured: s.Captured, Keyframe: true}, keyframe: s}
	}
}

// lookRows is how many rows of the picture are read for one of a look: the
// mean of more says little more.
const lookRows = 2

// shrinkLuma makes each sample the mean of those it covers, of some rows.
func shrinkLuma(dst *image.Gray, src *image.YCbCr) {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	for y := range LookHeight {
		top, bottom := y*h/LookHeight, max((y+1)*h/LookHeight, y*h/LookHeight+1)
		step := max(1, (bottom-top)/lookRows)
		for x := range LookWidth {
			left, right := x*w/LookWidth, max((x+1)*w/LookWidth, x*w/LookWidth+1)
			sum, n := 0, 0
			for sy := top; sy < bottom; sy += step {
				for _, v := range src.Y[sy*src.YStride+left : sy*src.YStride+right] {
					sum += int(v)
				}
				n += right - left
			}
			dst.Pix[y*dst.Stride+x] = byte(sum / n)
		}
	}
}
