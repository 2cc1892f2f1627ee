package file

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"

	"edged/capture"
)

// annexB reads a byte stream of H.264 or H.265: a window of the file slides
// over it, which holds one access unit and the beginning of the next.
type annexB struct {
	syntax
	f    io.ReaderAt
	size int64
	fps  float64

	at     int64  // place in the file of buf[0]
	buf    []byte // not yet given out
	eof    bool   // buf reaches the end of the file
	n      int64  // access units given out in this turn
	nalus  [][]byte
	bounds [][2]int // of nalus in buf
	spent  int      // bytes of buf that the last sample took
}

// syntax is what sets the codecs of byte streams apart.
type syntax struct {
	name       capture.Codec
	headed     int // bytes of a NAL unit that startsUnit looks at
	startsUnit func(nalu []byte, picture bool) bool
	isPicture  func(nalu []byte) bool
	canStart   func(nalus [][]byte) bool // a decoder can, given the parameter sets
	params     interface {
		Observe(nalus [][]byte) (changed bool, err error)
		Ready() bool
		FPS() float64
	}
}

// syntaxOf tells by the first NAL unit, which in a recording of H.265 is one
// of those that may stand before a picture: VPS, SPS, PPS, delimiter or SEI.
// In H.264 no stream begins with a byte like theirs.
func syntaxOf(head []byte) syntax {
	first := append(bytes.TrimLeft(head, "\x00"), 0, 0, 0)[1:]
	switch first[0] {
	case 0x40, 0x42, 0x44, 0x46, 0x4e:
		if first[1] == 1 {
			return syntax{
				name: capture.H265, headed: 3, startsUnit: capture.H265StartsUnit, isPicture: capture.H265IsPicture,
				canStart: capture.H265HasIRAP, params: &capture.H265Params{},
			}
		}
	}
	return syntax{
		name: capture.H264, headed: 2, startsUnit: capture.H264StartsUnit, isPicture: capture.H264IsPicture,
		canStart: capture.H264HasIDR, params: &capture.H264Params{},
	}
}

const (
	window = 256 << 10 // bytes read at once
	probe  = 64 << 20  // bytes in which a keyframe must come
)

var startCode = []byte{0, 0, 1}

func newAnnexB(f io.ReaderAt, size int64, fps float64, of syntax) (*annexB, error) {
	r := &annexB{syntax: of, f: f, size: size, fps: 1} // any rate will do to find the SPS
	for {
		s, err := r.next()
		if errors.Is(err, io.EOF) || r.at > probe {
			return nil, broken(r.at, "no keyframe with its parameter sets so far")
		}
		if err != nil {
			return nil, err
		}
		if _, err := r.params.Observe(s.unit); err != nil {
			return nil, broken(r.at, "%w", err)
		}
		if r.canStart(s.unit) && r.params.Ready() {
			break
		}
	}
	if f := r.params.FPS(); f > 0 {
		fps = f
	}
	if fps <= 0 || fps > 1000 {
		return nil, capture.Errorf(capture.CodeMedia, "the stream does not say its frame rate: set the camera's fps")
	}
	r.fps = fps
	return r, r.rewind()
}

func (r *annexB) codec() capture.Codec { return r.name }

func (r *annexB) header() [][]byte { return nil } // it is in band

func (r *annexB) rewind() error {
	r.at, r.buf, r.eof, r.n, r.spent = 0, r.buf[:0], false, 0, 0
	return nil
}

// next finds the end of the access unit by the beginning of the one after.
func (r *annexB) next() (sample, error) {
	r.at += int64(r.spent)
	r.buf = r.buf[:copy(r.buf, r.buf[r.spent:])]
	r.spent, r.bounds = 0, r.bounds[:0]
	picture := false
	pos, err := r.startCode(0)
	if err != nil {
		return sample{}, err
	}
	for pos >= 0 {
		begin := pos + len(startCode)
		if err := r.have(begin + r.headed); err != nil {
			return sample{}, err
		}
		if r.startsUnit(r.buf[begin:min(begin+r.headed, len(r.buf))], picture) {
			break
		}
		if pos, err = r.startCode(begin); err != nil {
			return sample{}, err
		}
		end := pos
		if pos < 0 {
			end = len(r.buf)
		}
		if nalu := bytes.TrimRight(r.buf[begin:end], "\x00"); len(nalu) > 0 {
			r.bounds = append(r.bounds, [2]int{begin, begin + len(nalu)})
			picture = picture || r.isPicture(nalu)
		}
	}
	if r.spent = pos; pos < 0 {
		r.spent = len(r.buf)
	}
	if !picture {
		return sample{}, io.EOF
	}
	r.nalus = r.nalus[:0]
	for _, b := range r.bounds {
		r.nalus = append(r.nalus, r.buf[b[0]:b[1]])
	}
	s := sample{at: int64(math.Round(float64(r.n) * clockRate / r.fps)), unit: r.nalus}
	r.n++
	return s, nil
}

// startCode finds the first start code in buf from a place on, -1 where the
// file has no more.
func (r *annexB) startCode(from int) (int, error) {
	for {
		if i := bytes.Index(r.buf[from:], startCode); i >= 0 {
			return from + i, nil
		}
		if r.eof {
			return -1, nil
		}
		from = max(from, len(r.buf)-len(startCode)+1)
		if err := r.have(len(r.buf) + 1); err != nil {
			return 0, err
		}
	}
}

// have reads on until buf has n bytes, or the file ends.
func (r *annexB) have(n int) error {
	for len(r.buf) < n && !r.eof {
		if len(r.buf) > maxSample {
			return broken(r.at, "an access unit of more than %d bytes", maxSample)
		}
		place := r.at + int64(len(r.buf))
		more := int(min(window, r.size-place))
		if more <= 0 {
			r.eof = true
			break
		}
		r.buf = slices.Grow(r.buf, more)
		tail := r.buf[len(r.buf) : len(r.buf)+more]
		if _, err := readAt(r.f, tail, place, more); err != nil {
			return err
		}
		r.buf = r.buf[:len(r.buf)+more]
	}
	return nil
}

// errB: an RTP stream for WebRTC is shown in the order of decoding.
var errB = capture.Errorf(capture.CodeCodec, "the recording has B-frames, which WebRTC does not carry: encode it without (x264, x265: bframes=0)")

// hasB looks for a B slice of H.264 in the first slice of the picture. Its header
// begins with first_mb_in_slice = 0, the bit 1, and slice_type 1 or 6, the
// bits 010 or 00111 (ITU-T H.264, 7.3.3 and 9.1).
func hasB(nalus [][]byte) bool {
	for _, n := range nalus {
		if len(n) > 1 && n[0]&0x1f == 1 && (n[1]&0xf0 == 0xa0 || n[1]&0xfc == 0x9c) {
			return true
		}
	}
	return false
}
