package forward

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// The header extensions that the box can send, by their names in SDP.
const (
	numberURI  = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	playoutURI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
	captureURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
)

// What a viewer on a good path is told of its playout delay. A least of 0
// with a most of at most 500 ms has Chromium show a picture as soon as it is
// decoded, instead of smoothing what the network's jitter has not made uneven.
// The most is not 0: the sound waits in a jitter buffer of its own, and the
// picture must be free to wait for it; where it does, or where the page asks
// for a delay, smoothing is back.
const (
	leastPlayout = 0
	playoutLimit = 400 * time.Millisecond
)

const (
	headerSize    = 12                              // RTP header without CSRC and extensions (RFC 3550 §5.1)
	extensionSize = 4 + (1 + 2) + (1 + 3) + (1 + 8) // all of them, with their own header: capture.MaxPayload leaves room
)

// extensions are the ids of header extensions; 0: it is not sent.
type extensions struct {
	number  uint8 // transport-wide sequence number
	playout uint8 // playout delay
	capture uint8 // absolute capture time
}

// offered takes the value of an a=extmap (RFC 8285 §5), where the viewer may
// be sent the extension and its id fits in a header of one byte (§4.2).
func (e *extensions) offered(value string) {
	id, rest, _ := strings.Cut(value, " ")
	id, direction, _ := strings.Cut(id, "/")
	n, err := strconv.ParseUint(id, 10, 8)
	if err != nil || n < 1 || n > 14 || direction == "sendonly" || direction == "inactive" {
		return
	}
	uri, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	switch uri {
	case numberURI:
		e.number = uint8(n)
	case playoutURI:
		e.playout = uint8(n)
	case captureURI:
		e.capture = uint8(n)
	}
}

// answer writes the a=extmap lines of those that are sent.
func (e *extensions) answer(line func(string, ...any)) {
	for _, x := range []struct {
		id  uint8
		uri string
	}{{e.number, numberURI}, {e.playout, playoutURI}, {e.capture, captureURI}} {
		if x.id != 0 {
			line("a=extmap:%d %s", x.id, x.uri)
		}
	}
}

// layout is the RTP header of a lane's packets with its extensions, laid out
// once: what differs from packet to packet is filled in. All packets have the
// same, so that those of a frame are of one size.
type layout struct {
	bytes   [headerSize + extensionSize + 3]byte
	size    int
	number  int // where the transport-wide sequence number goes; 0: nowhere
	playout int // where the playout delay goes; 0: nowhere
	capture int // where the absolute capture time goes; 0: nowhere
}

// layOut lays the extensions out in the one-byte form (RFC 8285 §4.2).
func layOut(ids extensions) (h layout) {
	h.bytes[0], h.size = 0x80, headerSize
	if ids == (extensions{}) {
		return h
	}
	h.bytes[0] |= 0x10 // X
	h.add(0xbe, 0xde, 0, 0)
	if ids.number != 0 {
		h.number = h.add(ids.number<<4|1, 0, 0)
	}
	if ids.playout != 0 { // 12 bits each
		h.playout = h.add(ids.playout<<4|2, 0, 0, 0)
		h.setPlayout(leastPlayout, playoutLimit)
	}
	if ids.capture != 0 {
		h.capture = h.add(ids.capture<<4|7, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	h.size = (h.size + 3) &^ 3 // padded with zeros
	h.bytes[headerSize+3] = byte((h.size - headerSize - 4) / 4)
	return h
}

// add adds an element and says where its second byte is.
func (h *layout) add(b ...byte) int {
	h.size += copy(h.bytes[h.size:], b)
	return h.size - len(b) + 1
}

// setPlayout sets the playout delay of the packets from now on, in steps of
// 10 ms.
func (h *layout) setPlayout(least, most time.Duration) {
	if h.playout == 0 {
		return
	}
	a, b := least/playoutStep, most/playoutStep
	h.bytes[h.playout], h.bytes[h.playout+1], h.bytes[h.playout+2] = byte(a>>4), byte(a<<4|b>>8), byte(b)
}

// header is what differs from packet to packet.
type header struct {
	marker   bool
	pt       uint8
	seq      uint16
	time     uint32
	ssrc     uint32
	captured uint64 // when the frame was captured, as NTP has it
	number   uint16 // transport-wide
}

// append appends the header of one packet.
func (h *layout) append(b []byte, v *header) []byte {
	from := len(b)
	b = append(b, h.bytes[:h.size]...)
	p := b[from:]
	p[1] = v.pt
	if v.marker {
		p[1] |= 0x80
	}
	binary.BigEndian.PutUint16(p[2:], v.seq)
	binary.BigEndian.PutUint32(p[4:], v.time)
	binary.BigEndian.PutUint32(p[8:], v.ssrc)
	if h.number != 0 {
		binary.BigEndian.PutUint16(p[h.number:], v.number)
	}
	if h.capture != 0 {
		binary.BigEndian.PutUint64(p[h.capture:], v.captured)
	}
	return b
}
