package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"edged/forward/protect"
)

const (
	// A joining viewer gets the newest keyframe and what followed at once
	// where that is little, or where the camera makes no keyframe when asked;
	// else it waits for one that was asked for, but not long.
	burstBytes  = 512 << 10
	burstFrames = 90
	burstWait   = 300 * time.Millisecond

	// A viewer that is further behind than this skips: to a keyframe, or to
	// the sound of now.
	behindLimit      = time.Second
	soundBehindLimit = 200 * time.Millisecond

	// The keyframe of another layer may be so much older than what was sent
	// last: the layers of one picture come one after the other, and a keyframe
	// that was asked for should not have to be asked for again.
	stepBack = 300 * time.Millisecond

	// Frames of a burst are stamped this far apart, so that the viewer decodes
	// them at once and shows the newest.
	burstStep = time.Millisecond
)

// lane is one kind of media on its way to one viewer: which layer it gets,
// where it is in that layer's ring, and what its packets are called on the
// wire. The viewer's mu guards it.
type lane struct {
	rings     []*ring // the layers that the viewer can decode, best first
	layer     int     // index of the one that is sent
	want      int     // index of the one that shall be sent, from its next keyframe on
	wanted    time.Time
	why       string    // want was chosen last: "estimate", "asked", "dead", "uplink"
	rates     []float64 // scratch of the choice: bits/s by layer
	chooser   chooser
	booked    float64 // of the box's budget, bits/s
	held      bool    // the budget does not take the layer that is wanted
	ring      *ring   // rings[layer]
	clockRate uint32
	pt        uint8
	ssrc      uint32
	rtxPT     uint8 // 0: none negotiated
	rtxSSRC   uint32
	nacks     bool // NACK negotiated
	ids       extensions
	layout    layout
	number    func(size int, p packet) uint16 // gives the next transport-wide number, to so many bytes that carry p; nil: not numbered

	next     uint64 // number of the next frame to send
	burst    uint64 // frames up to this number are old, and sent all the same
	started  bool   // a keyframe was sent
	rejoins  bool   // it starts anew, with a keyframe that it may have had before
	waiting  bool   // for a keyframe, because of a join or a skip
	since    time.Time
	seq      uint64 // next extended sequence number
	rtxSeq   uint16
	tsOffset uint32
	runs     [32]run // newest last
	nruns    int
	keySeq   uint64 // extended sequence number of the newest keyframe's first packet
	part     int    // packets of frame next that were sent already

	rung    int       // which frames are left out: see thin.go
	broken  uint8     // frames of this rank and above refer to one that was left out
	left    uint64    // frames that were
	leaving bool      // a lower layer is waited for, and nothing sent meanwhile
	gap     bool      // frames were passed over since the last that was sent
	keyAt   time.Time // no keyframe earlier
	keyRate float64   // bits/s that keyframes may take, where nothing else is sent
	thinned time.Time // when the rung was chosen last
	thinner thinner
	pacer   pacer

	repairs repairs
	losses  losses

	packets, octets uint32 // for the sender report
	lastTime        uint32 // RTP time sent last
	lastCaptured    time.Time
	seen            uint32 // RTP time on the wire of lastCaptured: lastTime, but in a burst
	reported        bool   // a sender report has told of how its times run
}

// run is a stretch of packets sent one after the other: the way back from a
// sequence number on the wire to the ring.
type run struct {
	seq    uint64 // extended sequence number of its first packet
	packet uint64 // the ring's number of the same packet
	ring   *ring
	before uint64 // number of the frame after its last; 0: it is the current one
	stamp  stamp
}

// stamp says how frames are stamped.
type stamp struct {
	offset uint32 // added to the source's RTP time
	last   uint64 // frames before this number are stamped step apart, ending at it; 0: none
	time   uint32 // RTP time on the wire of frame last
	step   uint32
}

func (s stamp) of(f frame) uint32 {
	if f.number < s.last {
		return s.time - uint32(s.last-f.number)*s.step
	}
	return f.rtpTime + s.offset
}

// newLane makes a lane for tracks of one codec, best layer first.
func newLane(rings []*ring, clockRate uint32, f format, now time.Time) *lane {
	l := &lane{
		rings: rings, rates: make([]float64, len(rings)), ring: rings[0], clockRate: clockRate, pt: f.pt, ssrc: rand.Uint32() | 1, since: now, waiting: true,
		seq:      1<<16 | uint64(rand.Uint32()&0x7fff), // RFC 3711 §3.3.1: start low, or an early loss confuses the rollover counter
		tsOffset: rand.Uint32(), broken: rankMost + 1,
	}
	l.layout, l.nacks = layOut(extensions{}), slices.Contains(f.feedback, "nack")
	l.repairs = newRepairs(f.fec)
	if f.hasRTX {
		l.rtxPT, l.rtxSSRC, l.rtxSeq = f.rtx, rand.Uint32()|1, uint16(rand.Uint32()&0x7fff)
	}
	return l
}

// follow moves the lane to the layer it wants as soon as that has a keyframe
// of about now; until then the old one goes on. It reports whether a keyframe
// is waited for.
func (l *lane) follow() (waiting bool) {
	if l.want == l.layer || l.part > 0 {
		return false
	}
	r := l.rings[l.want]
	if !l.started {
		l.ring, l.layer = r, l.want
		return false
	}
	r.mu.RLock()
	key, ok := r.frameLocked(r.keyframe)
	last, _ := r.frameLocked(r.newestLocked())
	r.mu.RUnlock()
	gap := key.captured.Sub(l.lastCaptured)
	if !ok || gap < -stepBack {
		return true
	}
	// The layers show one scene: the time that passed in it passes on the wire.
	l.tsOffset = l.lastTime + uint32(int64(gap.Seconds()*float64(l.clockRate))) - key.rtpTime
	l.endRun()
	l.ring, l.layer = r, l.want
	l.startAt(key, last)
	return false
}

// endRun notes where the current run ends.
func (l *lane) endRun() {
	if l.nruns > 0 && l.runs[l.nruns-1].before == 0 {
		l.runs[l.nruns-1].before = l.behind()
	}
}

// behind is the number of the frame after the last of which a packet was sent.
func (l *lane) behind() uint64 {
	if l.part > 0 {
		return l.next + 1
	}
	return l.next
}

// wait makes the lane go on at a keyframe newer than what it has sent.
func (l *lane) wait(now time.Time) { l.waiting, l.since = true, now }

// abandon makes the lane go on at a keyframe newer than what it has sent, of
// which nothing is sent again.
func (l *lane) abandon(now time.Time) {
	l.wait(now)
	l.nruns = 0
}

// rejoin makes the lane go on as if the viewer had just joined.
func (l *lane) rejoin(now time.Time) {
	l.wait(now)
	l.rejoins = l.started
}

// pick decides which frame is sent next; ok is false while there is none.
// skipped counts the frames that the viewer will never get.
func (l *lane) pick(now time.Time) (f frame, skipped uint64, ok bool) {
	r := l.ring
	newest := r.newestLocked()
	if !l.waiting {
		if !l.leaveOut(newest, now) {
			return frame{}, 0, false
		}
		f, held := r.frameLocked(l.next)
		if l.next > newest {
			return frame{}, 0, false
		}
		if held && !l.late(f, now) {
			return f, 0, true
		}
		l.wait(now) // behind: only a keyframe helps
	}
	key, held := r.frameLocked(r.keyframe)
	joins := !l.started || l.rejoins
	if !held || !joins && (key.number < l.next || !l.mayKey(now)) {
		return frame{}, 0, false
	}
	last, _ := r.frameLocked(newest)
	if joins && r.deaf == 0 && now.Sub(l.since) < burstWait && (newest-key.number > burstFrames || last.bytes > burstBytes) {
		return frame{}, 0, false
	}
	if !joins {
		skipped = key.number - l.next
	}
	l.endRun()
	l.startAt(key, last)
	return key, skipped, true
}

// late tells whether a frame is too old to be sent.
func (l *lane) late(f frame, now time.Time) bool {
	if l.ring.audio {
		return now.Sub(f.arrived) >= soundBehindLimit
	}
	return !f.keyframe && f.number > l.burst && now.Sub(f.arrived) >= behindLimit
}

// startAt begins a run at a keyframe; the frames up to last are a burst.
func (l *lane) startAt(key, last frame) {
	s := stamp{offset: l.tsOffset}
	if last.number > key.number {
		s.last, s.time = last.number, last.rtpTime+l.tsOffset
		s.step = uint32(uint64(l.clockRate) * uint64(burstStep) / uint64(time.Second))
		if span := last.rtpTime - key.rtpTime; s.step > span/uint32(last.number-key.number) {
			s.last = 0 // frames already closer than a burst's
		}
	}
	if late := int32(l.lastTime + 1 - s.of(key)); l.started && late > 0 { // time must go on
		l.tsOffset += uint32(late)
		s.offset += uint32(late)
		s.time += uint32(late)
	}
	l.addRun(run{seq: l.seq, packet: key.first, ring: l.ring, stamp: s})
	l.next, l.part, l.burst, l.waiting, l.started, l.rejoins = key.number, 0, last.number, false, true, false
	l.reported = false
}

func (l *lane) addRun(r run) {
	if l.nruns == len(l.runs) {
		copy(l.runs[:], l.runs[1:])
		l.nruns--
	}
	l.runs[l.nruns] = r
	l.nruns++
	l.gap = false
}

// build appends what is left of the frame's packets to b, to be protected,
// and moves on to the next. The caller holds the ring's lock.
func (l *lane) build(f frame, b *batch) { l.buildTo(f, f.count, b) }

// buildTo is build, but with the packets before the one with index end only.
func (l *lane) buildTo(f frame, end int, b *batch) {
	l.resume(f)
	if f.keyframe && l.part == 0 {
		l.broken, l.keySeq = rankMost+1, l.seq
	}
	stamp := &l.runs[l.nruns-1].stamp
	h := header{pt: l.pt, time: stamp.of(f), ssrc: l.ssrc, captured: ntp(f.captured)}
	first := l.part
	for i := first; i < end; i++ {
		payload := l.ring.payloadLocked(f.first + uint64(i))
		h.seq, h.marker = uint16(l.seq), l.marks(f, f.first+uint64(i))
		b.buf = l.appendHeader(b.buf, &h, h.seq, len(payload))
		b.buf = append(b.buf, payload...)
		b.endPacket()
		l.seq++
		l.packets++
		l.octets += uint32(len(payload))
		l.repair(b, i+1-first, end-first, f.keyframe)
	}
	b.key = f.keyframe && !l.ring.audio
	l.part = end
	if end == f.count {
		l.next, l.part = l.next+1, 0
	}
	l.lastTime, l.lastCaptured, l.seen = h.time, f.captured, f.rtpTime+stamp.offset
}

// marks tells whether a packet of a frame has the marker: the last of a
// picture; none of sound that is never silent (RFC 3551 §4.1).
func (l *lane) marks(f frame, packet uint64) bool {
	return !l.ring.audio && packet == f.first+uint64(f.count)-1
}

// appendHeader appends the header of a packet that has so many bytes behind
// it, and what was called wire in it.
func (l *lane) appendHeader(b []byte, h *header, wire uint16, payload int) []byte {
	if l.number != nil {
		h.number = l.number(l.layout.size+payload+protect.MaxTag, packet{l.ssrc, wire})
	}
	return l.layout.append(b, h)
}

// resend appends the packet that carried a sequence number, again, to be
// protected: as RTX (RFC 4588) where negotiated, else just as it was. It
// reports false where the packet is not known or no longer held.
func (l *lane) resend(wire uint16, b *batch) bool {
	back := uint16(l.seq) - wire
	if back == 0 || back >= 1<<15 {
		return false // never sent, or so old that it would be taken for one to come (RFC 3711 §3.3.1)
	}
	seq := l.seq - uint64(back)
	i := l.nruns - 1
	for ; i >= 0 && l.runs[i].seq > seq; i-- {
	}
	if i < 0 {
		return false
	}
	run := &l.runs[i]
	before := run.before
	if before == 0 {
		before = l.behind()
	}
	run.ring.mu.RLock()
	defer run.ring.mu.RUnlock()
	packet := run.packet + seq - run.seq
	f, ok := run.ring.holding(packet, before)
	if !ok {
		return false
	}
	payload := run.ring.payloadLocked(packet)
	h := header{marker: l.marks(f, packet), pt: l.pt, seq: wire, time: run.stamp.of(f), ssrc: l.ssrc, captured: ntp(f.captured)}
	if l.rtxPT != 0 {
		h.pt, h.seq, h.ssrc = l.rtxPT, l.rtxSeq, l.rtxSSRC
		b.buf = l.appendHeader(b.buf, &h, wire, 2+len(payload))
		b.buf = binary.BigEndian.AppendUint16(b.buf, wire)
		l.rtxSeq++
	} else {
		b.buf = l.layout.append(b.buf, &h) // a packet sent again just as it was must not differ from itself
	}
	b.buf = append(b.buf, payload...)
	b.endPacket()
	return true
}

// holding finds the frame, older than before, that a packet belongs to. The
// caller holds mu.
func (r *ring) holding(packet, before uint64) (frame, bool) {
	oldest := uint64(1)
	if r.next > ringFrames {
		oldest = r.next - ringFrames
	}
	if before <= oldest {
		return frame{}, false
	}
	// the first frame that begins behind the packet comes after its own
	i := sort.Search(int(before-oldest), func(i int) bool { return r.frames[(oldest+uint64(i))%ringFrames].first > packet })
	if i == 0 {
		return frame{}, false
	}
	f, ok := r.frameLocked(oldest + uint64(i) - 1)
	return f, ok && packet < f.first+uint64(f.count)
}
