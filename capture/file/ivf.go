package file

import (
	"encoding/binary"
	"io"

	"edged/capture"
)

// ivf reads the container of the WebM project's tools: a header of 32 bytes,
// then for each frame its size (32 bits), its time (64 bits) and its bytes,
// all little-endian.
type ivf struct {
	f        io.ReaderAt
	size     int64
	kind     capture.Codec
	num, den uint64 // seconds a unit of time: num/den
	first    int64  // the place of the first frame
	at       int64  // of the next
	last     int64  // time of the last frame; -1 before the first
	zero     uint64 // the file's time of the first frame
	buf      []byte
	unit     [][]byte
}

func newIVF(f io.ReaderAt, size int64) (*ivf, error) {
	h, err := readAt(f, nil, 0, 32)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	r := &ivf{f: f, size: size, first: int64(le.Uint16(h[6:])),
		den: uint64(le.Uint32(h[16:])), num: uint64(le.Uint32(h[20:]))}
	switch string(h[8:12]) {
	case "VP80":
		r.kind = capture.VP8
	case "VP90":
		r.kind = capture.VP9
	case "AV01":
		r.kind = capture.AV1
	default:
		return nil, capture.Errorf(capture.CodeCodec, "IVF with codec %q; VP80, VP90 and AV01 can be forwarded", h[8:12])
	}
	if r.num == 0 || r.den == 0 || r.first < 32 {
		return nil, broken(0, "IVF header: time base %d/%d, length %d", r.num, r.den, r.first)
	}
	return r, r.rewind()
}

func (r *ivf) codec() capture.Codec { return r.kind }

func (r *ivf) header() [][]byte { return nil }

func (r *ivf) rewind() error {
	r.at, r.last = r.first, -1
	return nil
}

func (r *ivf) next() (sample, error) {
	if r.at >= r.size {
		return sample{}, io.EOF
	}
	h, err := readAt(r.f, r.buf, r.at, 12)
	r.buf = h
	if err != nil {
		return sample{}, err
	}
	size := binary.LittleEndian.Uint32(h)
	if size == 0 || size > maxSample {
		return sample{}, broken(r.at, "frame of %d bytes", size)
	}
	pts := binary.LittleEndian.Uint64(h[4:])
	if r.last < 0 {
		r.zero = pts
	}
	at, ok := scale(pts-r.zero, r.num*clockRate, r.den)
	if !ok || pts < r.zero || at <= r.last && r.last >= 0 || at > r.last+maxGap && r.last >= 0 {
		return sample{}, broken(r.at, "frame time %d does not follow the one before", pts)
	}
	buf, err := readAt(r.f, r.buf, r.at+12, int(size))
	r.buf = buf
	if err != nil {
		return sample{}, err
	}
	if r.unit, err = divide(r.kind, r.unit[:0], buf); err != nil {
		return sample{}, broken(r.at+12, "%w", err)
	}
	r.at += 12 + int64(size)
	r.last = at
	return sample{at: at, unit: r.unit}, nil
}

// divide appends the parts of a frame of VP8, VP9 or AV1.
func divide(c capture.Codec, dst [][]byte, frame []byte) ([][]byte, error) {
	if c == capture.AV1 {
		return capture.SplitOBUs(dst, frame)
	}
	return append(dst, frame), nil
}
