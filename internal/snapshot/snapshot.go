// Package snapshot makes JPEGs of how a camera's scene looks now, however
// many ask for them: one picture a second is decoded at most.
package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"time"

	"edged/capture"
	"edged/capture/decode"
)

const (
	freshFor = time.Second      // a snapshot serves all who ask within this time
	keptFor  = 10 * time.Second // after the last who asked
	patience = 2 * time.Second  // for the camera's next picture
	quality  = 80               // of the JPEG, 1..100
	halvings = 3                // most
)

// Snapshot is one JPEG. The bytes may not be changed.
type Snapshot struct {
	JPEG          []byte
	Captured      time.Time // when the scene was seen
	Width, Height int       // pixels
}

// Cache has the newest snapshot of one camera. Its methods may be called from
// any goroutine.
type Cache struct {
	still func(context.Context) (capture.Still, error)
	turn  chan struct{} // whoever holds it works on what follows; capacity 1

	img    *image.YCbCr
	seen   time.Time // when img was captured
	taken  time.Time // when the camera was asked
	err    error     // what it, or the decoder, said then
	scaled [halvings + 1]Snapshot
	forget *time.Timer
}

// New makes a cache before a camera, of which still gives the picture.
func New(still func(context.Context) (capture.Still, error)) *Cache {
	return &Cache{still: still, turn: make(chan struct{}, 1)}
}

// Get is a snapshot at most width pixels wide: the camera's own size, or that
// halved up to three times; 0: the camera's own. It blocks while another is
// made, until one is, at most some seconds, or until ctx is done. The error
// has [capture.CodeCodec] where this build cannot decode what the camera
// sends, other codes where there is no picture now.
func (c *Cache) Get(ctx context.Context, width int) (Snapshot, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return Snapshot{}, fmt.Errorf("snapshot: %w", context.Cause(ctx))
	}
	if now := time.Now(); now.Sub(c.taken) >= freshFor {
		c.refresh(ctx)
		if ctx.Err() == nil {
			c.taken = now // what came of a client's leaving is nobody else's answer
		}
	}
	c.forgetLater()
	if c.err != nil {
		return Snapshot{}, fmt.Errorf("snapshot: %w", c.err)
	}
	n := 0
	for w := c.img.Rect.Dx(); width > 0 && w > width && n < halvings; n++ {
		w /= 2
	}
	if c.scaled[n].JPEG == nil {
		s, err := encode(shrink(c.img, n))
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot: %w", err)
		}
		s.Captured = c.seen
		c.scaled[n] = s
	}
	return c.scaled[n], nil
}

// refresh asks the camera; what is seen already is not decoded again.
func (c *Cache) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	still, err := c.still(ctx)
	if err != nil {
		c.err = err
		return
	}
	if c.img != nil && c.seen.Equal(still.Captured) {
		c.err = nil
		return
	}
	img := still.Picture
	if img == nil {
		img, err = decode.Keyframe(still.Codec, still.Payloads)
	}
	if c.err = err; err == nil {
		c.img, c.seen, c.scaled = img, still.Captured, [halvings + 1]Snapshot{}
	}
}

// forgetLater frees the memory once nobody asks any more.
func (c *Cache) forgetLater() {
	if c.forget != nil {
		c.forget.Reset(keptFor)
		return
	}
	c.forget = time.AfterFunc(keptFor, func() {
		c.turn <- struct{}{}
		defer func() { <-c.turn }()
		c.img, c.taken, c.scaled = nil, time.Time{}, [halvings + 1]Snapshot{}
	})
}

func encode(img *image.YCbCr) (Snapshot, error) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return Snapshot{}, err
	}
	return Snapshot{JPEG: b.Bytes(), Width: img.Rect.Dx(), Height: img.Rect.Dy()}, nil
}
