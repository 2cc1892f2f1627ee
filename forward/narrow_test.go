package forward

import (
	"encoding/binary"
	"net"
	"syscall"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// narrow is a real viewer, from its ring to its socket, behind a simulated link
// in simulated time: a queue that is served at a rate and drops what does not
// fit. The viewer numbers, reports and asks again for what it lacks.
type narrow struct {
	t      *testing.T
	v      *Viewer
	in     *srtp.Context
	socket *net.UDPConn
	b      batch
	buf    []byte

	bad   *badness                       // what the link does besides; nil: nothing
	rate  func(at time.Duration) float64 // of the link, bits/s
	limit time.Duration                  // of its queue
	base  time.Duration                  // one way

	layers []float64 // bits/s
	key    float64   // a keyframe is so many times a frame
	gop    int       // frames from one keyframe to the next that nobody asked for
	spared int       // every so many-th frame is one that nothing refers to; 0: none

	at       time.Duration
	frame    int
	asked    bool
	recorder *twcc.Recorder
	*pipe
	back   []waiting // feedback on its way
	pumpAt time.Duration

	seqs     map[uint16]bool // media packets that came
	highest  uint16
	began    bool
	asks     map[uint16]int
	parts    map[uint32]int // packets that came of a frame
	pending  []picture
	shown    map[uint32]bool
	pictures []picture
	lost     int
	worst    map[time.Duration]time.Duration // by second: the longest that a packet waited in the link
	sent     map[time.Duration]int           // by second: bytes
	stamps   map[uint32]uint32               // RTP time by frame
}

// pipe is what is in the link, which several viewers may share.
type pipe struct {
	queue  []waiting
	queued float64
	credit float64
}

type waiting struct {
	to    *narrow
	data  []byte
	since time.Duration
}

type picture struct {
	id, ref uint32
	key     bool
	at      time.Duration
}

const pictureHead = 14

func newNarrow(t *testing.T, layers ...float64) *narrow {
	t.Helper()
	n := &narrow{
		t: t, limit: time.Hour, base: 20 * time.Millisecond, layers: layers, key: 5, gop: 60, pipe: &pipe{}, recorder: twcc.NewRecorder(1),
		seqs: map[uint16]bool{}, asks: map[uint16]int{}, parts: map[uint32]int{}, shown: map[uint32]bool{},
		worst: map[time.Duration]time.Duration{}, sent: map[time.Duration]int{}, stamps: map[uint32]uint32{},
	}
	n.v, _ = bareViewer(t)
	n.v.quality = Auto
	n.v.log = n.v.sfu.log
	var tracks []capture.Track
	for i := range layers {
		tracks = append(tracks, capture.Track{Kind: capture.Video, Layer: i, Codec: capture.H264, ClockRate: 90000})
	}
	n.v.stream.ask = func(int) { n.asked = true }
	n.v.stream.Describe(tracks)
	var rings []*ring
	for _, f := range n.v.stream.feeds {
		rings = append(rings, f.ring)
		f.asked, f.judged, f.answered = testTime.Add(-time.Hour), true, true
	}
	n.v.lanes = []*lane{newLane(rings, 90000, videoFormat, testTime)}
	numberPackets(n.v, 3)
	e, socket := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	remote := addressOf(socket)
	n.v.sfu.egress, n.socket, n.in, n.buf = e, socket, srtpContext(t), make([]byte, 2000)
	n.v.remote.Store(&remote)
	return n
}

func (n *narrow) now() time.Time { return testTime.Add(n.at) }

// run goes on for d of simulated time.
func (n *narrow) run(d time.Duration) {
	for end := n.at + d; n.at < end; {
		n.step(true)
	}
}

// shared goes on for d with viewers behind one link.
func shared(all []*narrow, d time.Duration) {
	for _, n := range all {
		n.pipe = all[0].pipe
	}
	for end := all[0].at + d; all[0].at < end; {
		for i, n := range all {
			n.step(i == 0)
		}
	}
}

// step goes on for a millisecond.
func (n *narrow) step(serve bool) {
	if n.at >= time.Duration(n.frame)*time.Second/30 {
		n.produce()
		n.pump()
	} else if n.pumpAt > 0 && n.at >= n.pumpAt {
		n.pump()
	}
	n.take()
	if serve {
		n.serve()
	}
	n.bad.land(n)
	if n.at%(50*time.Millisecond) == 0 {
		n.report()
	}
	for len(n.back) > 0 && n.back[0].since+n.base <= n.at {
		if !n.bad.loses() {
			n.v.feedback(n.back[0].data, n.now())
		}
		n.back = n.back[1:]
	}
	n.at += time.Millisecond
}

// produce writes the next frame of each layer.
func (n *narrow) produce() {
	key := n.frame%n.gop == 0 || n.asked
	n.asked = false
	spared := n.spared > 0 && n.frame%n.spared != 0 && !key
	for layer, f := range n.v.stream.feeds {
		size := n.layers[layer] / 8 / 30 * float64(n.gop) / (float64(n.gop) - 1 + n.key)
		if key {
			size *= n.key
		}
		count := (int(size) + 1099) / 1100
		ref := n.frame - 1
		if n.spared > 0 {
			ref = (n.frame - 1) / n.spared * n.spared
		}
		frame := capture.Frame{RTPTime: uint32(n.frame) * 3000, Keyframe: key, Discardable: spared, Captured: n.now()}
		for i := range count {
			p := make([]byte, max(pictureHead, int(size)/count))
			binary.BigEndian.PutUint32(p, uint32(layer)<<24|uint32(n.frame))
			binary.BigEndian.PutUint32(p[4:], uint32(layer)<<24|uint32(ref))
			binary.BigEndian.PutUint16(p[8:], uint16(i))
			binary.BigEndian.PutUint16(p[10:], uint16(count))
			if key {
				p[12] = 1
			}
			frame.Payloads = append(frame.Payloads, p)
		}
		f.write(&frame, n.now())
		if key {
			f.wanted, f.answered = false, true
		}
	}
	n.frame++
}

// pump does what the stream's worker does.
func (n *narrow) pump() {
	_, partial := n.v.pump(&n.b, n.now())
	n.b.flush()
	n.v.stream.askKeyframes(n.now())
	n.pumpAt = 0
	if partial {
		n.pumpAt = n.at + paceStep
	}
}

// take brings what was sent to the link.
func (n *narrow) take() {
	raw, err := n.socket.SyscallConn()
	if err != nil {
		n.t.Fatal(err)
	}
	for more := true; more; {
		_ = raw.Read(func(fd uintptr) bool {
			size, _, err := syscall.Recvfrom(int(fd), n.buf, syscall.MSG_DONTWAIT)
			if more = err == nil; !more {
				return true
			}
			n.sent[n.at/time.Second] += size
			if (n.queued+float64(size))*8/n.rate(n.at) > n.limit.Seconds() {
				n.lost++
				return true
			}
			n.queued += float64(size)
			n.queue = append(n.queue, waiting{n, append([]byte(nil), n.buf[:size]...), n.at})
			return true
		})
	}
}

// serve lets the link work for a millisecond.
func (n *narrow) serve() {
	n.credit += n.rate(n.at) / 8 / 1000
	for len(n.queue) > 0 && n.credit >= float64(len(n.queue[0].data)) {
		p := n.queue[0]
		n.queue = n.queue[1:]
		n.credit -= float64(len(p.data))
		n.queued -= float64(len(p.data))
		second := n.at / time.Second
		p.to.worst[second] = max(p.to.worst[second], n.at-p.since)
		p.to.bad.carry(p)
	}
	if len(n.queue) == 0 {
		n.credit = min(n.credit, 1500)
	}
}

// arrive is the viewer's end.
func (n *narrow) arrive(data []byte) {
	if data[1] >= 192 && data[1] <= 223 { // a report (RFC 5761 §4)
		return
	}
	plain, err := n.in.DecryptRTP(nil, data, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	var p rtp.Packet
	if err := p.Unmarshal(plain); err != nil {
		n.t.Fatal(err)
	}
	n.recorder.Record(1, binary.BigEndian.Uint16(p.GetExtension(3)), (time.Hour + n.at + n.base).Microseconds())
	l, seq, payload := n.v.lanes[0], p.SequenceNumber, p.Payload
	if p.SSRC == l.rtxSSRC {
		seq, payload = binary.BigEndian.Uint16(payload), payload[2:]
	}
	if !n.began || int16(seq-n.highest) > 0 {
		n.began, n.highest = true, seq
	}
	if n.seqs[seq] && p.SSRC == l.rtxSSRC {
		return // a probe
	}
	n.seqs[seq] = true
	delete(n.seqs, seq-5000)
	id := binary.BigEndian.Uint32(payload)
	if t, ok := n.stamps[id]; ok && t != p.Timestamp {
		n.t.Fatalf("frame %x has the times %d and %d", id, t, p.Timestamp)
	}
	n.stamps[id] = p.Timestamp
	n.parts[id]++
	if n.parts[id] == int(binary.BigEndian.Uint16(payload[10:])) {
		n.pending = append(n.pending, picture{id: id, ref: binary.BigEndian.Uint32(payload[4:]), key: payload[12] == 1})
		n.show()
	}
}

// show counts the pictures that can be decoded.
func (n *narrow) show() {
	for again := true; again; {
		again = false
		for i, p := range n.pending {
			if p.key || n.shown[p.ref] {
				p.at = n.at
				n.shown[p.id] = true
				n.pictures = append(n.pictures, p)
				n.pending = append(n.pending[:i], n.pending[i+1:]...)
				again = true
				break
			}
		}
	}
}

// report sends transport-wide feedback, and asks for what is missing.
func (n *narrow) report() {
	if n.bad != nil && n.bad.deaf {
		return
	}
	for _, p := range n.recorder.BuildFeedbackPacket() {
		b, err := p.Marshal()
		if err != nil {
			n.t.Fatal(err)
		}
		n.back = append(n.back, waiting{n, b, n.at})
	}
	if n.bad != nil {
		return // it asks in its own way
	}
	var missing []uint16
	for i := range uint16(200) {
		if seq := n.highest - i; n.began && !n.seqs[seq] && n.seqs[seq-1] || n.asks[seq] > 0 && !n.seqs[seq] {
			if n.asks[seq]++; n.asks[seq] < 10 {
				missing = append(missing, seq)
			}
		}
	}
	n.ask(missing)
}

// ask asks for what is missing.
func (n *narrow) ask(missing []uint16) {
	if len(missing) == 0 {
		return
	}
	nack := &rtcp.TransportLayerNack{MediaSSRC: n.v.lanes[0].ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)}
	if b, err := nack.Marshal(); err == nil {
		n.back = append(n.back, waiting{n, b, n.at})
	}
}

// between is how many pictures were shown from one time to another, and the
// longest wait for one.
func (n *narrow) between(from, to time.Duration) (shown int, longest time.Duration) {
	last := from
	for _, p := range n.pictures {
		if p.at < from || p.at >= to {
			continue
		}
		shown++
		longest = max(longest, p.at-last)
		last = p.at
	}
	return shown, max(longest, to-last)
}

// waited is the longest that a packet waited in the link.
func (n *narrow) waited(from, to time.Duration) (longest time.Duration) {
	for s := from / time.Second; s < to/time.Second; s++ {
		longest = max(longest, n.worst[s])
	}
	return longest
}

// log tells the story second by second.
func (n *narrow) log(from, to time.Duration) {
	for s := from; s < to; s += time.Second {
		shown, longest := n.between(s, s+time.Second)
		n.t.Logf("%3v: %2d pictures, longest wait %4d ms, queue %4d ms, sent %5d kbit/s", s, shown, longest.Milliseconds(), n.worst[s/time.Second].Milliseconds(), n.sent[s/time.Second]*8/1000)
	}
}

func steps(first float64, changes ...any) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		rate := first
		for i := 0; i < len(changes); i += 2 {
			if at >= changes[i].(time.Duration) {
				rate = changes[i+1].(float64)
			}
		}
		return rate
	}
}
