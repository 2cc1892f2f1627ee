package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"edged/capture"
)

// The bounds of an MP4 file's index.
const (
	maxSamples = 1 << 20  // 9 hours at 30 frames a second
	maxTable   = 64 << 20 // bytes of the moov box
)

// place is one sample's entry of the index.
type place struct {
	offset int64
	at     int64 // decode time
	size   uint32
}

// mp4 reads the first track of an MP4 file that can be forwarded.
type mp4 struct {
	f         io.ReaderAt
	size      int64
	handler   string // of the track: vide or soun
	id        uint32
	timescale uint32 // units a second
	begin     int64  // of decode time 0, on the movie's time
	kind      capture.Codec
	lengths   int      // bytes of a NAL unit's length: 1, 2 or 4; H.264 and H.265
	sets      [][]byte // parameter sets or OBUs of the header
	index     []place
	defaults  fragment // of moov/mvex/trex

	n    int // the next sample
	buf  []byte
	unit [][]byte
}

// box is an MP4 box in memory.
type box struct {
	kind string
	at   int64 // of its content, in the file
	body []byte
}

// fault is broken, with the box's name.
func (b box) fault(format string, a ...any) error {
	return broken(b.at, "box %q: %w", b.kind, fmt.Errorf(format, a...))
}

// u32 reads a number at a place of the content; ok tells whether it is there.
func (b box) u32(i int) (uint32, bool) {
	if i < 0 || i+4 > len(b.body) {
		return 0, false
	}
	return binary.BigEndian.Uint32(b.body[i:]), true
}

// children cuts the content of a box, from a place on, into boxes.
func (b box) children(from int, each func(box) error) error {
	for from < len(b.body) {
		if len(b.body)-from < 8 {
			return nil // padding, as QuickTime leaves it
		}
		size := int64(binary.BigEndian.Uint32(b.body[from:]))
		head := 8
		if size == 1 && len(b.body)-from >= 16 {
			size, head = int64(binary.BigEndian.Uint64(b.body[from+8:])), 16
		} else if size == 0 {
			size = int64(len(b.body) - from)
		}
		child := box{kind: string(b.body[from+4 : from+8]), at: b.at + int64(from+head)}
		if size < int64(head) || size > int64(len(b.body)-from) {
			return child.fault("a size of %d bytes in a box that has %d left", size, len(b.body)-from)
		}
		child.body = b.body[from+head : from+int(size)]
		if err := each(child); err != nil {
			return err
		}
		from += int(size)
	}
	return nil
}

// child gives the first child of a kind.
func (b box) child(kind string) (found box, ok bool, err error) {
	err = b.children(0, func(c box) error {
		if c.kind == kind && !ok {
			found, ok = c, true
		}
		return nil
	})
	return found, ok, err
}

// path walks down to a box that must be there.
func (b box) path(kinds ...string) (box, error) {
	for _, k := range kinds {
		c, ok, err := b.child(k)
		if err != nil {
			return box{}, err
		}
		if !ok {
			return box{}, b.fault("no %q in it", k)
		}
		b = c
	}
	return b, nil
}

func newMP4(f io.ReaderAt, size int64) (*mp4, error) {
	r := &mp4{f: f, size: size, handler: "vide"}
	return r, r.load()
}

// load reads the index of the first track that is looked for.
func (r *mp4) load() error {
	var clock int64 // of a fragmented track, where a fragment does not say
	err := r.topLevel(func(b box) error {
		switch b.kind {
		case "moov":
			if r.timescale != 0 {
				return b.fault("a second one")
			}
			return r.moov(b)
		case "moof":
			if r.timescale == 0 {
				return b.fault("before moov")
			}
			return r.moof(b, &clock)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.timescale == 0 {
		return broken(0, "no moov box: the recording was not finished")
	}
	if len(r.index) == 0 {
		return broken(0, "the track has no samples")
	}
	if err := r.check(); err != nil {
		return err
	}
	r.buf = nil
	return nil
}

// topLevel reads the boxes that hold no media.
func (r *mp4) topLevel(each func(box) error) error {
	boxes := 0
	for at := int64(0); at < r.size; {
		if boxes++; boxes > maxSamples {
			return broken(at, "more than %d boxes", maxSamples)
		}
		var h [16]byte
		n, _ := r.f.ReadAt(h[:], at)
		if n < 8 {
			return broken(at, "a box cut off")
		}
		size, head := int64(binary.BigEndian.Uint32(h[:])), int64(8)
		switch {
		case size == 0:
			size = r.size - at
		case size == 1 && n == 16:
			size, head = int64(binary.BigEndian.Uint64(h[8:])), 16
		}
		b := box{kind: string(h[4:8]), at: at + head}
		if size < head || size > r.size-at {
			return b.fault("a size of %d bytes in a file that has %d left", size, r.size-at)
		}
		if b.kind == "moov" || b.kind == "moof" {
			if size > maxTable {
				return b.fault("%d bytes, at most %d are read", size, maxTable)
			}
			var err error
			if r.buf, err = readAt(r.f, r.buf, at+head, int(size-head)); err != nil {
				return err
			}
			b.body = r.buf
			if err := each(b); err != nil {
				return err
			}
		}
		at += size
	}
	return nil
}

// check makes sure that the index stays within the file and that time rises.
func (r *mp4) check() error {
	for i := range r.index {
		p := &r.index[i]
		if p.size == 0 || p.size > maxSample {
			return broken(p.offset, "sample %d has %d bytes", i, p.size)
		}
		if p.offset < 0 || p.offset > r.size-int64(p.size) {
			return broken(p.offset, "sample %d, of %d bytes, lies outside the file", i, p.size)
		}
		if i == 0 {
			continue
		}
		if step := p.at - r.index[i-1].at; step <= 0 || step > maxGap {
			return broken(p.offset, "sample %d comes %d/90000 s after the one before", i, step)
		}
	}
	return nil
}

func (r *mp4) codec() capture.Codec { return r.kind }

func (r *mp4) header() [][]byte { return r.sets }

func (r *mp4) rewind() error {
	r.n = 0
	return nil
}

func (r *mp4) next() (sample, error) {
	if r.n == len(r.index) {
		return sample{}, io.EOF
	}
	p := r.index[r.n]
	var err error
	if r.buf, err = readAt(r.f, r.buf, p.offset, int(p.size)); err != nil {
		return sample{}, err
	}
	if r.lengths > 0 {
		r.unit, err = splitLengths(r.unit[:0], r.buf, r.lengths)
	} else {
		r.unit, err = divide(r.kind, r.unit[:0], r.buf)
	}
	if err != nil {
		return sample{}, broken(p.offset, "sample %d: %w", r.n, err)
	}
	r.n++
	return sample{at: p.at - r.index[0].at, unit: r.unit}, nil
}

// splitLengths cuts a sample into NAL units (ISO/IEC 14496-15, 5.3.3).
func splitLengths(dst [][]byte, b []byte, lengths int) ([][]byte, error) {
	for len(b) > 0 {
		if len(b) < lengths {
			return dst, errors.New("a NAL unit's length is cut off")
		}
		n := 0
		for _, c := range b[:lengths] {
			n = n<<8 | int(c)
		}
		b = b[lengths:]
		if n > len(b) || n < 0 {
			return dst, fmt.Errorf("a NAL unit of %d bytes where %d are left", n, len(b))
		}
		if n > 0 {
			dst = append(dst, b[:n])
		}
		b = b[n:]
	}
	return dst, nil
}
