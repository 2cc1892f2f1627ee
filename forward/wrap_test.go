package forward

import (
	"encoding/binary"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// A sequence number that wraps, many times, stays readable for the receiver:
// its rollover counter (RFC 3711 §3.3.1) follows, for media and for what is
// sent again, and a NACK finds packets on the other side of the wrap.
func TestSequenceNumbersWrap(t *testing.T) {
	for name, f := range map[string]format{
		"RTX":       videoFormat,
		"same SSRC": {pt: videoFormat.pt, codec: videoFormat.codec, clockRate: 90000, feedback: videoFormat.feedback},
	} {
		t.Run(name, func(t *testing.T) {
			v, r := bareViewer(t)
			v.lanes[0] = newLane([]*ring{r}, 90000, f, testTime)
			l := v.lanes[0]
			l.seq = 1<<16 | 65000
			l.rtxSeq = 65500
			in := srtpContext(t)
			var last *rtp.Packet
			var b batch
			now := testTime.Add(burstWait)
			for i := range 4000 { // 50 packets a frame: three wraps
				now = now.Add(33 * time.Millisecond)
				fr := numberedFrame(i, 50)
				r.write(&fr, now)
				v.pump(&b, now)
				for _, p := range opened(t, v, in) {
					if last != nil && p.SequenceNumber != last.SequenceNumber+1 {
						t.Fatalf("frame %d: packet %d after %d", i, p.SequenceNumber, last.SequenceNumber)
					}
					last = p
				}
				if i%10 != 0 {
					continue
				}
				lost := sequence(last.SequenceNumber-99, 100) // across the wrap, now and then
				v.nack(l.ssrc, rtcp.NackPairsFromSequenceNumbers(lost), now)
				checkResent(t, v, opened(t, v, in), lost, i)
			}
			if l.seq < 4<<16 {
				t.Errorf("the sequence number is only %d", l.seq)
			}
			if name == "RTX" && v.counts.RTX < 1<<15 {
				t.Errorf("%d packets sent again", v.counts.RTX)
			}
		})
	}
}

// checkResent holds what was sent again against what was asked for; the
// number of each packet within the run stands in its payload.
func checkResent(t *testing.T, v *Viewer, packets []*rtp.Packet, lost []uint16, i int) {
	t.Helper()
	if i == 0 {
		return // the first frame has no hundred packets
	}
	if len(packets) != len(lost) {
		t.Fatalf("frame %d: %d packets sent again, want %d", i, len(packets), len(lost))
	}
	for k, p := range packets {
		seq, payload := p.SequenceNumber, p.Payload
		if v.lanes[0].rtxPT != 0 {
			if p.SSRC != v.lanes[0].rtxSSRC {
				t.Fatal("another SSRC than RTX's")
			}
			seq, payload = binary.BigEndian.Uint16(payload), payload[2:]
		}
		frameAt, packetAt := binary.BigEndian.Uint32(payload[1:]), payload[5]
		want := uint32(i*50 + 49 - (len(lost) - 1 - k))
		if seq != lost[k] || frameAt*50+uint32(packetAt) != want {
			t.Fatalf("frame %d: asked for %d, got %d with packet %d, want %d", i, lost[k], seq, frameAt*50+uint32(packetAt), want)
		}
	}
}

// numberedFrame says in each payload which packet it is.
func numberedFrame(i, packets int) capture.Frame {
	f := capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%30 == 0}
	for k := range packets {
		p := make([]byte, 20)
		p[0], p[5] = 1, byte(k)
		binary.BigEndian.PutUint32(p[1:], uint32(i))
		f.Payloads = append(f.Payloads, p)
	}
	return f
}

// opened takes what a viewer without a path was sent, and opens it.
func opened(t *testing.T, v *Viewer, in interface {
	DecryptRTP(dst, encrypted []byte, header *rtp.Header) ([]byte, error)
}) (out []*rtp.Packet) {
	t.Helper()
	open := func(raw []byte) {
		if raw[1] >= 192 && raw[1] <= 223 {
			return // RTCP
		}
		plain, err := in.DecryptRTP(nil, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := &rtp.Packet{}
		if err := p.Unmarshal(plain); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	for f, ok := v.queue.take(testTime); ok; f, ok = v.queue.take(testTime) {
		f.each(open)
	}
	return out
}

// What a source may do wrong, or unusually, comes out as a stream of whole
// frames with numbers that rise by one.
func TestUnusualSources(t *testing.T) {
	big := make([][]byte, 2000)
	for i := range big {
		big[i] = []byte{1}
	}
	tiny := [][]byte{{1}}
	for name, frames := range map[string][]capture.Frame{
		"B-frames":         {{Keyframe: true, Payloads: tiny}, {RTPTime: 9000, Payloads: tiny}, {RTPTime: 3000, Payloads: tiny}, {RTPTime: 6000, Payloads: tiny}},
		"RTP time wraps":   {{RTPTime: 1<<32 - 3000, Keyframe: true, Payloads: tiny}, {RTPTime: 0, Payloads: tiny}, {RTPTime: 3000, Payloads: tiny}},
		"many payloads":    {{Keyframe: true, Payloads: big}, {RTPTime: 3000, Payloads: big}, {RTPTime: 6000, Payloads: big}},
		"too many at once": {{Keyframe: true, Payloads: tiny}, {RTPTime: 3000, Payloads: make([][]byte, ringPackets)}, {RTPTime: 6000, Payloads: tiny}},
		"none at all":      {{Keyframe: true, Payloads: tiny}, {RTPTime: 3000}, {RTPTime: 6000, Payloads: tiny}},
		"the same time":    {{Keyframe: true, Payloads: tiny}, {Payloads: tiny}, {Payloads: tiny}},
	} {
		t.Run(name, func(t *testing.T) {
			v, r := bareViewer(t)
			in := srtpContext(t)
			var b batch
			want, now := 0, testTime.Add(burstWait)
			var got []*rtp.Packet
			for _, f := range frames {
				now = now.Add(33 * time.Millisecond)
				if r.write(&f, now) {
					want += len(f.Payloads)
				}
				v.pump(&b, now)
				got = append(got, opened(t, v, in)...)
			}
			if len(got) != want {
				t.Fatalf("%d packets, want %d", len(got), want)
			}
			for i, p := range got[1:] {
				if p.SequenceNumber != got[i].SequenceNumber+1 {
					t.Fatalf("packet %d after %d", p.SequenceNumber, got[i].SequenceNumber)
				}
				if p.Timestamp-got[0].Timestamp != (p.Timestamp-got[0].Timestamp)/3000*3000 {
					t.Fatalf("RTP time %d after the first", p.Timestamp-got[0].Timestamp)
				}
			}
		})
	}
}

// A source that begins anew, with another RTP time, goes on where it was.
func TestSourceRestarts(t *testing.T) {
	v, _ := bareViewer(t)
	st, in := v.stream, srtpContext(t)
	r := st.feeds[0].ring
	v.lanes[0] = newLane([]*ring{r}, 90000, videoFormat, testTime)
	var b batch
	now := testTime.Add(burstWait)
	step := func(rtpTime uint32, key bool) *rtp.Packet {
		now = now.Add(100 * time.Millisecond)
		r.write(&capture.Frame{RTPTime: rtpTime, Keyframe: key, Payloads: [][]byte{{1}}}, now)
		v.pump(&b, now)
		out := opened(t, v, in)
		if len(out) != 1 {
			t.Fatalf("%d packets", len(out))
		}
		return out[0]
	}
	last := step(1000, true)
	for i, start := range []uint32{10000, 5, 1 << 31, 1<<32 - 1} {
		st.Describe(st.tracks)
		p := step(start, true)
		if gap := p.Timestamp - last.Timestamp; gap != 9000 {
			t.Errorf("restart %d at %d: RTP time rose by %d in 100 ms, want 9000", i, start, gap)
		}
		if p.SequenceNumber != last.SequenceNumber+1 || p.SSRC != last.SSRC {
			t.Errorf("restart %d: packet %d of %d after %d of %d", i, p.SequenceNumber, p.SSRC, last.SequenceNumber, last.SSRC)
		}
		if last = step(start+9000, false); last.Timestamp-p.Timestamp != 9000 {
			t.Errorf("restart %d: after it RTP time rose by %d, want 9000", i, last.Timestamp-p.Timestamp)
		}
	}
}
