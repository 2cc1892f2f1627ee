package forward

import (
	"crypto/subtle"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"edged/forward/protect"
)

// FlexFEC as draft-ietf-payload-flexible-fec-scheme-03 has it, which is what
// browsers mean by flexfec-03; RFC 8627 differs. A repair packet is the XOR of
// some packets of one frame, so that a viewer can make any one of them that it
// lacks, without asking for it.
const (
	// A receiver keeps few packets for what is to come: Chromium 48. Repair
	// packets follow at once the packets that they are of.
	groupMost = 32

	fecHeader     = 20 // §4.2, with a mask of 15 bits
	fecHeaderLong = 24 // … and with one of 46

	keyRepairs   = 1.5 // a keyframe has so many times the repair packets: all that follows needs it
	creditMost   = 16  // repair packets that may come at once, beyond what the plan gives
	firstRepairs = 4   // … of which so many at the beginning
)

// repairs are a lane's repair packets: a stream of their own.
type repairs struct {
	pt     uint8 // 0: none negotiated
	ssrc   uint32
	seq    uint16
	layout layout
	plan   repairPlan
	credit float64 // repair packets that the plan still gives
	first  int     // index of the first packet of a frame that none is of yet
	made   uint64
}

func newRepairs(pt uint8) repairs {
	if pt == 0 {
		return repairs{}
	}
	return repairs{pt: pt, ssrc: rand.Uint32() | 1, seq: uint16(rand.Uint32() & 0x7fff), layout: layOut(extensions{}), credit: firstRepairs}
}

// repair is called with each packet of a frame that was built, when done of n
// are. Where a group of them is whole, it appends the group's repair packets.
func (l *lane) repair(b *batch, done, n int, key bool) {
	r := &l.repairs
	if r.plan.share == 0 {
		return
	}
	packets, before := b.built()
	groups := (n + groupMost - 1) / groupMost
	size := (n + groups - 1) / groups
	if (done-1)%size == 0 {
		r.first = packets - 1
	}
	if done%size != 0 && done != n {
		return
	}
	packets -= r.first
	for i, of := 0, r.take(packets, key); i < of; i++ {
		l.appendRepair(b, packets, i, of)
	}
	_, after := b.built()
	l.pacer.credit -= float64(after - before)
}

// take says how many repair packets a group gets.
func (r *repairs) take(packets int, key bool) int {
	n, share := float64(packets), r.plan.share
	r.credit = min(r.credit+n*r.plan.most, creditMost)
	room := r.credit
	if key {
		share, room = share*keyRepairs, room+creditMost
	}
	want := max(math.Round(n*share), min(float64(r.plan.depth), math.Ceil(n*mostShare)))
	k := math.Floor(max(0, min(want, n, room)))
	r.credit -= k
	return int(k)
}

// appendRepair appends repair packet i of so many. It is of every so-manieth
// packet of the group, which is the last of the batch: of packets lost in a row
// each is another one's.
func (l *lane) appendRepair(b *batch, packets, i, of int) {
	r := &l.repairs
	size := 0
	for m := i; m < packets; m += of {
		size = max(size, len(b.packet(r.first+m))-headerSize)
	}
	head := fecHeader
	if i+(packets-1-i)/of*of >= 15 {
		head = fecHeaderLong
	}
	group := b.packet(r.first)
	h := header{pt: r.pt, seq: r.seq, time: binary.BigEndian.Uint32(group[4:]), ssrc: r.ssrc}
	base := binary.BigEndian.Uint16(group[2:])
	if l.number != nil {
		h.number = l.number(r.layout.size+head+size+protect.MaxTag, packet{r.ssrc, r.seq})
	}
	b.buf = r.layout.append(b.buf, &h)
	from := len(b.buf)
	b.buf = slices.Grow(b.buf, head+size)[:from+head+size]
	p := b.buf[from:]
	clear(p)
	mask := uint64(0) // of 46 bits, the first packet's at the top
	for m := i; m < packets; m += of {
		q := b.packet(r.first + m)
		binary.BigEndian.PutUint16(p, binary.BigEndian.Uint16(p)^binary.BigEndian.Uint16(q))
		binary.BigEndian.PutUint16(p[2:], binary.BigEndian.Uint16(p[2:])^uint16(len(q)-headerSize))
		subtle.XORBytes(p[4:8], p[4:8], q[4:8])
		subtle.XORBytes(p[head:], p[head:], q[headerSize:])
		mask |= 1 << (45 - m)
	}
	p[0] &= 0x3f // no version: R and F, 0 both (§4.2)
	if at := l.layout.number; at != 0 {
		clear(p[head+at-headerSize:][:2]) // receivers take a number that is written last for 0
	}
	p[8] = 1 // SSRC
	binary.BigEndian.PutUint32(p[12:], l.ssrc)
	binary.BigEndian.PutUint16(p[16:], base)
	binary.BigEndian.PutUint16(p[18:], uint16(mask>>31))
	if head == fecHeader {
		p[18] |= 0x80 // k: no more of the mask
	} else {
		binary.BigEndian.PutUint32(p[20:], uint32(mask)|1<<31)
	}
	b.endPacket()
	r.seq++
	r.made++
}

// packet is the packet with an index, of those built since begin, as it was
// built: without room for a tag.
func (b *batch) packet(i int) []byte {
	buf, ends := b.parcel()
	from := 0
	if i > 0 {
		from = ends[i-1]
	}
	return buf[from : ends[i]-b.tag]
}

// repairFormat is what FlexFEC-03 is called in SDP.
const repairFormat = "flexfec-03"

// repairs tells the formats of pictures which payload type repair packets have,
// where the offer takes them.
func (m *offeredMedia) repairs() {
	if m.kind != "video" {
		return
	}
	j := slices.IndexFunc(m.formats, func(f format) bool { return strings.EqualFold(f.codec, repairFormat) && f.clockRate == 90000 })
	if j < 0 {
		return
	}
	for i := range m.formats {
		m.formats[i].fec = m.formats[j].pt
	}
}

// answerRepairs writes what the answer says of a lane's repair packets: the
// offer's own parameters (§5.1.1), and whose packets they repair (§5.2).
func (l *lane) answerRepairs(line func(string, ...any), m offeredMedia) {
	if l.repairs.pt == 0 {
		return
	}
	line("a=rtpmap:%d %s/90000", l.repairs.pt, repairFormat)
	for _, f := range m.formats {
		if f.pt == l.repairs.pt && f.fmtp != "" {
			line("a=fmtp:%d %s", f.pt, f.fmtp)
		}
	}
	line("a=ssrc-group:FEC-FR %d %d", l.ssrc, l.repairs.ssrc)
}
