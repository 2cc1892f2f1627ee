package forward

import (
	"net/netip"
	"sync"
	"time"

	"edged/forward/protect"
)

const (
	// Frames for several viewers share a system call: so many, or so many
	// bytes, are gathered. That takes an eighth off a packet's cost; more gains
	// nothing, for the bytes leave the CPU's cache meanwhile.
	flushParcels = 8
	flushBytes   = 128 << 10

	// batchKept is the most buffer that a batch keeps when it is idle.
	batchKept = 256 << 10
)

// batch is packets ready for the wire, back to back in one buffer: parcels
// that were posted to viewers and wait for the flush, and behind them what is
// being built.
type batch struct {
	buf     []byte
	ends    []int    // offset behind each packet, from where its parcel begins
	tag     int      // bytes that endPacket leaves for an SRTP tag
	parcels []parcel // what was posted, in order
	key     bool     // what is built begins a run of pictures: a viewer can start from it
	hasty   bool     // do not wait for a full socket: what goes out may be lost
	egress  *egress  // of what was posted
	flight  flight
}

// parcel is a run of packets for one viewer.
type parcel struct {
	to      netip.AddrPort
	packets int       // the batch's packets up to its last
	bytes   int       // likewise
	viewer  *Viewer   // nil: nobody's account
	arrived time.Time // of the frame; zero: no frame
	single  bool      // the path refuses segmented sends
	sent    int       // packets that the kernel took
}

// batches are for what is sent now and then.
var batches = sync.Pool{New: func() any { return new(batch) }}

// posted is how many packets and bytes were posted.
func (b *batch) posted() (packets, bytes int) {
	if n := len(b.parcels); n > 0 {
		return b.parcels[n-1].packets, b.parcels[n-1].bytes
	}
	return 0, 0
}

// begin starts a parcel; what was built and not posted is forgotten.
func (b *batch) begin() {
	packets, bytes := b.posted()
	b.buf, b.ends, b.key = b.buf[:bytes], b.ends[:packets], false
}

// endPacket ends the packet that was appended to buf.
func (b *batch) endPacket() {
	var room [protect.MaxTag]byte
	b.buf = append(b.buf, room[:b.tag]...)
	_, from := b.posted()
	b.ends = append(b.ends, len(b.buf)-from)
}

// parcel is what has been built since begin, and where its packets end.
func (b *batch) parcel() (buf []byte, ends []int) {
	packets, from := b.posted()
	return b.buf[from:], b.ends[packets:]
}

// built is how many packets and bytes that is.
func (b *batch) built() (packets, bytes int) {
	buf, ends := b.parcel()
	return len(ends), len(buf)
}

// post addresses what was built since begin. It goes out with the flush, or at
// once where enough waits.
func (b *batch) post(e *egress, p parcel) {
	p.packets, p.bytes = len(b.ends), len(b.buf)
	b.egress = e
	b.parcels = append(b.parcels, p)
	if len(b.parcels) >= flushParcels || len(b.buf) >= flushBytes {
		b.flush()
	}
}

// flush sends what was posted. Packets that the kernel did not take are put on
// their viewers' accounts.
func (b *batch) flush() {
	b.begin()
	if len(b.parcels) > 0 {
		b.egress.send(b)
		b.settle(time.Now())
	}
	b.clear()
}

// settle tells the viewers what became of their parcels.
func (b *batch) settle(now time.Time) {
	before := 0
	for i := range b.parcels {
		p := &b.parcels[i]
		if p.viewer != nil {
			p.viewer.taken(p.sent, p.packets-before)
		}
		if !p.arrived.IsZero() {
			p.viewer.sfu.delay.observe(now.Sub(p.arrived))
		}
		before = p.packets
	}
}

// clear empties the batch, and gives back what an uncommonly large frame has
// taken.
func (b *batch) clear() {
	clear(b.parcels) // they hold viewers
	b.parcels, b.ends, b.buf = b.parcels[:0], b.ends[:0], b.buf[:0]
	if cap(b.buf) > batchKept {
		b.buf, b.ends = nil, nil
		b.flight.forget()
	}
}

// release sends what was posted and gives the batch back.
func (b *batch) release() {
	b.flush()
	b.hasty, b.tag = false, 0
	batches.Put(b)
}
