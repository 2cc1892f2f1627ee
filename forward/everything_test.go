package forward

import (
	"encoding/binary"
	"testing"
	"time"

	"edged/capture"
	"edged/forward/bwe"

	"github.com/pion/rtcp"
)

// everything is a viewer with all that a viewer can have: header extensions,
// transport-wide numbers and feedback on them, RTX for what it asks for again,
// repair packets, statistics.
type everything struct {
	v        *Viewer
	r        *ring
	payloads [][]byte
	out      batch
	i        int
	now      time.Time
	numbered uint16 // packets since the last feedback
	first    uint16
	feedback []byte
	loss     byte // that it reports, of 256
	rtt      time.Duration
}

func newEverything(t testing.TB) *everything {
	x := &everything{now: testTime.Add(burstWait), feedback: make([]byte, 0, 512), loss: 13, rtt: 100 * time.Millisecond}
	x.v, x.r, x.payloads = path(t, true)
	e, err := bwe.New(bwe.Config{Min: leastEstimate, Start: firstEstimate, Max: mostEstimate})
	if err != nil {
		t.Fatal(err)
	}
	x.v.bandwidth, x.v.quality, x.v.log = e, Auto, x.v.sfu.log
	l := newLane([]*ring{x.r}, 90000, repairedFormat, testTime)
	l.layout, l.repairs.layout = layOut(extensions{1, 2, 3}), layOut(extensions{number: 1})
	l.number = func(size int, _ packet) uint16 {
		n := e.Sent(x.v.at, size, x.v.kind)
		if x.numbered == 0 {
			x.first = n
		}
		x.numbered++
		return n
	}
	x.v.lanes = []*lane{l}
	return x
}

// frame has one frame sent, one of its packets sent again, and feedback on all
// of it.
func (x *everything) frame() {
	x.now = x.now.Add(33 * time.Millisecond)
	x.r.write(&capture.Frame{RTPTime: uint32(x.i) * 3000, Keyframe: x.i%60 == 0, Captured: x.now, Payloads: x.payloads}, x.now)
	x.i++
	x.v.pump(&x.out, x.now)
	x.out.flush()
	b := x.lacks(x.feedback[:0])
	b = x.report(b)
	x.v.feedback(b, x.now)
	x.v.feedback(x.acknowledge(x.feedback[:0]), x.now.Add(20*time.Millisecond))
}

// lacks appends a NACK of a packet that was just sent (RFC 4585 §6.2.1).
func (x *everything) lacks(b []byte) []byte {
	l := x.v.lanes[0]
	b = append(b, 0x80|rtcp.FormatTLN, byte(rtcp.TypeTransportSpecificFeedback), 0, 3, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, l.ssrc)
	return binary.BigEndian.AppendUint32(b, uint32(uint16(l.seq)-3)<<16)
}

// report appends a receiver report (RFC 3550 §6.4.2).
func (x *everything) report(b []byte) []byte {
	b = append(b, 0x81, byte(rtcp.TypeReceiverReport), 0, 7, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, x.v.lanes[0].ssrc)
	b = append(b, x.loss, 0, 0, 9)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 50)
	b = binary.BigEndian.AppendUint32(b, uint32(ntp(x.now.Add(-x.rtt))>>16))
	return append(b, 0, 0, 0, 0)
}

// acknowledge appends transport-wide feedback on all that was numbered
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1), 250 µs apart.
func (x *everything) acknowledge(b []byte) []byte {
	b = append(b, 0x80|rtcp.FormatTCC, byte(rtcp.TypeTransportSpecificFeedback), 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)
	at := x.now.Sub(testTime) + 10*time.Millisecond
	b = binary.BigEndian.AppendUint16(b, x.first)
	b = binary.BigEndian.AppendUint16(b, x.numbered)
	b = binary.BigEndian.AppendUint32(b, uint32(at/(64*time.Millisecond))<<8|uint32(byte(x.i)))
	b = binary.BigEndian.AppendUint16(b, 1<<13|x.numbered) // a run of small deltas
	b = append(b, byte(at%(64*time.Millisecond)/(250*time.Microsecond)))
	for range x.numbered - 1 {
		b = append(b, 1)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	x.numbered = 0
	return b
}

// Repair packets come while packets are lost far away, and only then; how many
// there are is counted, and the estimate has taken them.
func TestRepairsFollowTheReports(t *testing.T) {
	x := newEverything(t)
	second := func(loss byte, rtt time.Duration) (repairs, packets uint64) {
		x.loss, x.rtt = loss, rtt
		for range 30 { // what was before is forgotten
			x.frame()
		}
		before := x.v.counts
		for range 30 {
			x.frame()
		}
		return x.v.counts.FEC - before.FEC, x.v.counts.Packets - x.v.counts.RTX - before.Packets + before.RTX
	}
	for _, c := range []struct {
		what    string
		loss    byte
		rtt     time.Duration
		repairs uint64 // of 30 frames
	}{
		{"nothing is lost", 0, 200 * time.Millisecond, 0},
		{"5 % near", 13, 30 * time.Millisecond, 0},
		{"5 % far away", 13, 100 * time.Millisecond, 60},
		{"a bit nearer", 13, 60 * time.Millisecond, 60},
		{"near again", 13, 40 * time.Millisecond, 0},
		{"2 % far away", 5, 100 * time.Millisecond, 30},
		{"nothing any more", 0, 100 * time.Millisecond, 0},
	} {
		repairs, packets := second(c.loss, c.rtt)
		if repairs < c.repairs || repairs > c.repairs+3 || packets != 30*9+repairs {
			t.Errorf("%s: %d repair packets of %d in 30 frames, want %d", c.what, repairs, packets, c.repairs)
		}
	}
	if n := x.v.sfu.counters.fec.Load(); n != x.v.counts.FEC || n == 0 {
		t.Errorf("%d counted, %d of the viewer", n, x.v.counts.FEC)
	}
	remote := x.v.remote.Load()
	x.v.remote.Store(nil) // to TCP: nothing is lost there
	if repairs, _ := second(13, 100*time.Millisecond); repairs != 0 {
		t.Errorf("%d repair packets over TCP", repairs)
	}
	x.v.remote.Store(remote)
}

func BenchmarkEverything(b *testing.B) {
	for _, repairs := range []string{"without FEC", "with FEC"} {
		b.Run(repairs, func(b *testing.B) {
			x := newEverything(b)
			if repairs == "without FEC" {
				x.v.lanes[0].repairs.pt = 0 // not negotiated
			}
			for range ringPackets/len(x.payloads) + 1 {
				x.frame()
			}
			b.ReportAllocs()
			for b.Loop() {
				x.frame()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(x.payloads)), "ns/packet")
			b.ReportMetric(float64(x.v.counts.FEC)/float64(x.i), "repairs/frame")
		})
	}
}
