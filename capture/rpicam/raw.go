package rpicam

import (
	"errors"
	"image"
	"io"
	"sync"
	"time"

	"edged/capture"
	"edged/capture/encode"
)

// encode reads raw pictures and encodes them, until the program ends or the
// encoder fails. While one is encoded the next are read, so that the program
// never waits for the encoder: what is too much is left out.
func (s *Source) encode(t *tool, cfg encode.Config, sink capture.Sink) (err error) {
	stream, err := encode.NewStream(cfg, s.layers, sink, &s.Control)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	q := newExchange(cfg.Width, cfg.Height)
	t.readers.Go(func() { q.read(t.out) })
	for {
		p, err := q.take()
		if err != nil {
			return err
		}
		if err := stream.Deliver(p.img, p.captured); err != nil {
			return err
		}
	}
}

// picture is a raw picture, 4:2:0, as the program writes it: luma, Cb, Cr.
type picture struct {
	bytes    []byte
	img      *image.YCbCr
	captured time.Time
}

func newPicture(w, h int) *picture {
	b := make([]byte, w*h*3/2)
	return &picture{bytes: b, img: &image.YCbCr{
		Y: b[:w*h], Cb: b[w*h:][:w*h/4], Cr: b[w*h*5/4:], YStride: w, CStride: w / 2,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, w, h),
	}}
}

// exchange has three pictures: one that is read into, the newest that is
// whole, and one that is encoded.
type exchange struct {
	into, out *picture // of the reader; of the taker

	mu    sync.Mutex // guards all below
	cond  sync.Cond
	spare *picture
	fresh *picture // nil: none
	err   error    // why no more come
}

func newExchange(w, h int) *exchange {
	q := &exchange{into: newPicture(w, h), out: newPicture(w, h), spare: newPicture(w, h)}
	q.cond.L = &q.mu
	return q
}

// read reads pictures until there are no more.
func (q *exchange) read(r io.Reader) {
	for {
		_, err := io.ReadFull(r, q.into.bytes)
		q.into.captured = time.Now()
		q.mu.Lock()
		if err != nil {
			q.err = err
		} else {
			whole := q.into
			if q.fresh != nil { // nobody took it
				q.into = q.fresh
			} else {
				q.into, q.spare = q.spare, nil
			}
			q.fresh = whole
		}
		q.cond.Signal()
		q.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take waits for the next picture, which is valid until the next call.
func (q *exchange) take() (*picture, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.fresh == nil {
		if q.err != nil {
			return nil, q.err
		}
		q.cond.Wait()
	}
	q.out, q.spare, q.fresh = q.fresh, q.out, nil
	return q.out, nil
}
