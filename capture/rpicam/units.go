package rpicam

import (
	"bytes"

	"edged/capture"
)

// maxUnit is the most bytes of one access unit: more than the encoder of any
// Pi makes of a picture.
const maxUnit = 4 << 20

// units cuts a byte stream of H.264 (ITU-T H.264, annex B) that arrives in
// pieces into access units. Where one ends only the beginning of the next one
// shows, unless somebody else knows.
type units struct {
	emit    func(nalus [][]byte) error
	count   int // of units that have been emitted
	buf     []byte
	scanned int  // no NAL unit begins before, but those that were seen
	picture bool // buf holds a slice already
	nalus   [][]byte
}

var startCode = []byte{0, 0, 1}

// feed takes the next piece and emits what ends in it.
func (u *units) feed(piece []byte) error {
	u.buf = append(u.buf, piece...)
	for {
		i := bytes.Index(u.buf[u.scanned:], startCode)
		if i < 0 {
			u.scanned = max(u.scanned, len(u.buf)-len(startCode)+1)
			break
		}
		at := u.scanned + i
		nalu := u.buf[at+len(startCode):]
		if len(nalu) < 2 { // what tells where a picture begins
			u.scanned = at
			break
		}
		if capture.H264StartsUnit(nalu, u.picture) {
			if err := u.cut(at); err != nil {
				return err
			}
			continue
		}
		u.picture = u.picture || capture.H264IsPicture(nalu)
		u.scanned = at + len(startCode)
	}
	if len(u.buf) > maxUnit {
		return capture.Errorf(capture.CodeProtocol, "%d bytes without an end of a picture", len(u.buf))
	}
	return nil
}

// flush emits what is there as the n-th unit, which has come to its end. What
// holds no picture is kept for the next, which it belongs to.
func (u *units) flush(n int) error {
	if u.count >= n {
		return nil
	}
	if !u.picture {
		u.count = n
		return nil
	}
	return u.cut(len(u.buf))
}

// cut emits what is before a place.
func (u *units) cut(at int) error {
	u.nalus = capture.SplitAnnexB(u.nalus[:0], u.buf[:at])
	err := u.emit(u.nalus)
	u.buf = u.buf[:copy(u.buf, u.buf[at:])]
	u.count++
	u.scanned, u.picture = 0, false
	return err
}
