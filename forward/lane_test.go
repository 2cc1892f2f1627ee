package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/rtp"
)

// fill writes n frames of two packets each, 33 ms apart; every keyEvery-th is
// a keyframe. Payloads name frame and packet.
func fill(r *ring, from, n, keyEvery int, start time.Time) {
	for i := from; i < from+n; i++ {
		r.write(&capture.Frame{
			RTPTime: uint32(i) * 3000, Keyframe: i%keyEvery == 0, Captured: start.Add(time.Duration(i) * 33 * time.Millisecond),
			Payloads: [][]byte{[]byte(fmt.Sprintf("frame %d packet 0", i)), []byte(fmt.Sprintf("frame %d packet 1", i))},
		}, start.Add(time.Duration(i)*33*time.Millisecond))
	}
}

// frameOf is frame i of six packets; the first byte tells keyframes.
func frameOf(i int, key bool, payload []byte) capture.Frame {
	f := capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: key}
	for range 6 {
		p := bytes.Clone(payload)
		p[0] = 0
		if key {
			p[0] = 1
		}
		f.Payloads = append(f.Payloads, p)
	}
	return f
}

// drain lets the lane send all it has, and parses it.
func drain(t *testing.T, l *lane, now time.Time) (out []*rtp.Packet, skipped uint64) {
	t.Helper()
	var b batch
	for {
		b.begin()
		f, s, ok := l.pick(now)
		skipped += s
		if !ok {
			return out, skipped
		}
		l.build(f, &b)
		out = append(out, parse(t, &b)...)
	}
}

func parse(t *testing.T, b *batch) (out []*rtp.Packet) {
	t.Helper()
	from := 0
	for _, end := range b.ends {
		p := &rtp.Packet{}
		if err := p.Unmarshal(bytes.Clone(b.buf[from:end])); err != nil {
			t.Fatal(err)
		}
		out, from = append(out, p), end
	}
	return out
}

var videoFormat = format{pt: 106, codec: "H264", clockRate: 90000, feedback: []string{"nack"}, rtx: 107, hasRTX: true}

func TestLaneStartsAtTheNewestKeyframe(t *testing.T) {
	start := time.Now()
	r := newRing(capture.Video)
	fill(r, 0, 35, 30, start) // the newest keyframe is frame 30
	now := start.Add(35 * 33 * time.Millisecond)
	l := newLane([]*ring{r}, 90000, videoFormat, now)
	got, skipped := drain(t, l, now)
	if len(got) != 10 || string(got[0].Payload) != "frame 30 packet 0" || skipped != 0 {
		t.Fatalf("%d packets, first %q, %d skipped", len(got), got[0].Payload, skipped)
	}
	// the burst is stamped a millisecond a frame and ends at the live time
	if d := got[9].Timestamp - got[0].Timestamp; d != 4*90 {
		t.Errorf("burst of 5 frames spans %d ticks, want %d", d, 4*90)
	}
	fill(r, 35, 1, 30, start)
	next, _ := drain(t, l, now)
	if len(next) != 2 || next[0].Timestamp-got[9].Timestamp != 3000 || next[0].SequenceNumber != got[9].SequenceNumber+1 {
		t.Errorf("after the burst: %v after %v", next[0], got[9])
	}
	for i, p := range append(got, next...) {
		if p.Marker != (i%2 == 1) {
			t.Errorf("packet %d: marker %v", i, p.Marker)
		}
	}
}

func TestLaneWaitsForAKeyframeWhenTheNewestIsOld(t *testing.T) {
	start := time.Now()
	r := newRing(capture.Video)
	fill(r, 0, burstFrames+20, 1000, start)
	now := start.Add(time.Hour)
	l := newLane([]*ring{r}, 90000, videoFormat, now)
	if got, _ := drain(t, l, now); len(got) != 0 || !l.waiting {
		t.Fatalf("%d packets at once", len(got))
	}
	// the camera makes one: that is where the viewer starts
	r.write(&capture.Frame{RTPTime: 1, Keyframe: true, Payloads: [][]byte{[]byte("key")}}, now)
	if got, _ := drain(t, l, now); len(got) != 1 || string(got[0].Payload) != "key" {
		t.Fatalf("got %v", got)
	}
	// it does not: after a while the old one must do
	r2 := newRing(capture.Video)
	fill(r2, 0, burstFrames+20, 1000, start)
	l2 := newLane([]*ring{r2}, 90000, videoFormat, now)
	if got, _ := drain(t, l2, now.Add(burstWait)); len(got) != 2*(burstFrames+20) {
		t.Fatalf("%d packets after the wait", len(got))
	}
	// a camera that did not answer is not waited for, until it has answered twice
	r2.answer(false)
	for hits := range 3 {
		l3 := newLane([]*ring{r2}, 90000, videoFormat, now)
		if got, _ := drain(t, l3, now); (len(got) > 0) != (hits < deafFor) {
			t.Errorf("after %d answers in time: %d packets at once", hits, len(got))
		}
		r2.answer(true)
	}
}

// A viewer that comes back starts where a new one would, at once, and its
// time goes on.
func TestLaneRejoins(t *testing.T) {
	start := time.Now()
	r := newRing(capture.Video)
	fill(r, 0, 5, 1000, start)
	now := start.Add(5 * 33 * time.Millisecond)
	l := newLane([]*ring{r}, 90000, videoFormat, now)
	first, _ := drain(t, l, now)
	fill(r, 5, 5, 1000, start) // off meanwhile; no keyframe but the old one
	now = start.Add(10 * 33 * time.Millisecond)
	l.rejoin(now)
	again, skipped := drain(t, l, now)
	if len(again) != 20 || string(again[0].Payload) != "frame 0 packet 0" || skipped != 0 {
		t.Fatalf("%d packets, %d skipped", len(again), skipped)
	}
	last := first[len(first)-1]
	for _, p := range again {
		if p.SequenceNumber != last.SequenceNumber+1 || int32(p.Timestamp-last.Timestamp) < 0 {
			t.Fatalf("%v after %v", p.Header, last.Header)
		}
		last = p
	}
	if d := last.Timestamp - first[len(first)-1].Timestamp; d > 6*3000 {
		t.Errorf("time went on by %d ticks in five frames", d)
	}
}

func TestLaneSkipsWhenBehind(t *testing.T) {
	start := time.Now()
	r := newRing(capture.Video)
	fill(r, 0, 3, 30, start)
	l := newLane([]*ring{r}, 90000, videoFormat, start)
	first, _ := drain(t, l, start)
	fill(r, 3, 64, 30, start) // the viewer takes nothing meanwhile; keyframes at 30 and 60
	late := start.Add(67*33*time.Millisecond + behindLimit)
	got, skipped := drain(t, l, late)
	if len(got) == 0 || string(got[0].Payload) != "frame 60 packet 0" || skipped != 57 {
		t.Fatalf("%d packets, first %v, %d skipped", len(got), got, skipped)
	}
	if got[0].SequenceNumber != first[len(first)-1].SequenceNumber+1 {
		t.Error("a skip must not show in the sequence numbers")
	}
	if int32(got[0].Timestamp-first[len(first)-1].Timestamp) <= 0 {
		t.Error("time ran back")
	}
	// before the next keyframe comes nothing is sent
	r.forget()
	l.next, l.burst = 2, 0
	if f, _, ok := l.pick(late.Add(time.Hour)); ok {
		t.Errorf("sent %+v", f)
	}
}

func TestLaneResends(t *testing.T) {
	start := time.Now()
	r := newRing(capture.Video)
	fill(r, 0, 33, 30, start)
	for _, rtx := range []bool{true, false} {
		f := videoFormat
		f.hasRTX = rtx
		l := newLane([]*ring{r}, 90000, f, start)
		l.seq = 1<<16 | 0xfffe // wraps within the first frames
		sent, _ := drain(t, l, start)
		for _, want := range sent {
			var b batch
			if !l.resend(want.SequenceNumber, &b) {
				t.Fatalf("seq %d is not sent again", want.SequenceNumber)
			}
			got := parse(t, &b)[0]
			if rtx {
				if got.SSRC != l.rtxSSRC || got.PayloadType != 107 || binary.BigEndian.Uint16(got.Payload) != want.SequenceNumber {
					t.Errorf("RTX header %+v", got.Header)
				}
				got.Payload = got.Payload[2:]
			} else if got.SSRC != want.SSRC || got.SequenceNumber != want.SequenceNumber || got.PayloadType != want.PayloadType {
				t.Errorf("header %+v, want %+v", got.Header, want.Header)
			}
			if got.Timestamp != want.Timestamp || got.Marker != want.Marker || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("packet %v, want %v", got, want)
			}
		}
		for _, never := range []uint16{uint16(l.seq), uint16(l.seq) + 1000, sent[0].SequenceNumber - 1} {
			var b batch
			if l.resend(never, &b) {
				t.Errorf("sequence number %d was never sent, but is sent again", never)
			}
		}
		fill(r, 33, ringFrames+5, 30, start)
		var b batch
		if l.resend(sent[0].SequenceNumber, &b) {
			t.Error("a packet that left the ring is sent again")
		}
	}
}

// A ring that is no longer written, of another layer, holds packets from half
// the sequence numbers ago: sealed again they would use the key stream of
// packets to come.
func TestLaneResendsNothingAmbiguous(t *testing.T) {
	r := newRing(capture.Video)
	fill(r, 0, 1, 30, testTime)
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	sent, _ := drain(t, l, testTime)
	first := sent[0].SequenceNumber
	for _, on := range []uint64{1<<15 - 3, 1} {
		l.seq += on
		var b batch
		if back := l.seq - uint64(first) - 1<<16; l.resend(first, &b) != (back < 1<<15) {
			t.Errorf("%d packets later: %d packets", back, len(b.ends))
		}
	}
}

// A lane may never send what the ring no longer holds, whatever the order of
// writes, waits and reads.
func FuzzLane(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 90, 0, 0, 7})
	f.Add(bytes.Repeat([]byte{3, 250}, 40))
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRing(capture.Video)
		now := time.Unix(1e9, 0)
		l := newLane([]*ring{r}, 90000, videoFormat, now)
		i := 0
		var last *rtp.Packet
		for _, op := range script {
			switch op % 4 {
			case 0: // frames
				fill(r, i, int(op), int(op/4)%40+1, now)
				i += int(op)
			case 1: // time
				now = now.Add(time.Duration(op) * 20 * time.Millisecond)
			case 2: // reads
				got, _ := drain(t, l, now)
				for _, p := range got {
					if last != nil && (p.SequenceNumber != last.SequenceNumber+1 || int32(p.Timestamp-last.Timestamp) < 0) {
						t.Fatalf("%v after %v", p.Header, last.Header)
					}
					if last == nil && !bytes.HasSuffix(p.Payload, []byte("packet 0")) {
						t.Fatalf("starts with %q", p.Payload)
					}
					last = p
				}
			case 3: // NACK
				var b batch
				if l.resend(uint16(l.seq)-uint16(op), &b) != (len(b.ends) == 1) {
					t.Fatalf("%d packets", len(b.ends))
				}
			}
		}
	})
}

func BenchmarkLane(b *testing.B) {
	r := newRing(capture.Video)
	payloads := make([][]byte, 9)
	for i := range payloads {
		payloads[i] = make([]byte, capture.MaxPayload)
	}
	l := newLane([]*ring{r}, 90000, videoFormat, time.Now())
	var out batch
	b.ReportAllocs()
	for i := range b.N {
		now := time.Now()
		r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, now)
		out.begin()
		f, _, ok := l.pick(now)
		if !ok {
			b.Fatal("nothing to send")
		}
		l.build(f, &out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(payloads)), "ns/packet")
}
