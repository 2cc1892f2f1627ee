package forward

import (
	"encoding/binary"
	"log/slog"
	"math"
	"testing"
	"time"

	"edged/capture"
	"edged/forward/bwe"

	"github.com/pion/rtcp"
)

var testTime = time.Unix(1_700_000_000, 0)

// bench is a viewer whose packets go to a queue instead of a path.
func bareViewer(t testing.TB) (*Viewer, *ring) {
	t.Helper()
	s := &SFU{log: slog.New(slog.DiscardHandler), joinTime: newHistogram(1), delay: newHistogram(1)}
	st := newStream(s, "dock", func(int) {})
	st.Describe([]capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000}})
	v := &Viewer{link: link{sfu: s, since: testTime, cancel: func(error) {}}, stream: st, queue: newQueue(), chosen: []selection{{tracks: []int{0}, format: videoFormat}}}
	v.lanes = []*lane{newLane([]*ring{st.feeds[0].ring}, 90000, videoFormat, testTime)}
	v.media, v.out, v.takeRTCP = protector(t), srtpContext(t), v.feedback
	return v, st.feeds[0].ring
}

// numberPackets has a bare viewer's packets numbered and its path measured, as
// if it had offered the extension under an id.
func numberPackets(v *Viewer, id uint8) {
	v.offer = &offer{media: []offeredMedia{{kind: "video", ids: extensions{number: id}}}}
	v.chosen[0].feedback = []string{"nack", "transport-cc"}
	v.measure()
	v.layOut()
}

func TestNACKIsBounded(t *testing.T) {
	v, r := bareViewer(t)
	fill(r, 0, 100, 200, testTime)
	var b batch
	v.pump(&b, testTime.Add(burstWait))
	sent := v.counts.Packets
	if sent != 200 {
		t.Fatalf("%d packets sent", sent)
	}
	v.queue = newQueue() // the viewer has read them
	all := rtcp.NackPairsFromSequenceNumbers(sequence(uint16(v.lanes[0].seq)-200, 200))
	ssrc := v.lanes[0].ssrc
	v.nack(ssrc, all, testTime)
	v.nack(ssrc, all, testTime) // at once again: the answers are still on their way
	if v.counts.RTX != 200 {
		t.Errorf("%d packets sent again, want each once", v.counts.RTX)
	}
	for i := range 1000 { // a storm of ten seconds
		v.queue = newQueue()
		v.nack(ssrc, all, testTime.Add(time.Duration(i)*10*time.Millisecond))
	}
	if most := uint64(resendBurst + 10*resendRate*2); v.counts.RTX > most {
		t.Errorf("a storm of NACKs made the box send %d packets, at most %d are fair", v.counts.RTX, most)
	}
	v.nack(1, all, testTime) // nobody's
}

func sequence(from uint16, n int) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = from + uint16(i)
	}
	return out
}

func TestReceptionMeasuresTheRoundTrip(t *testing.T) {
	v, _ := bareViewer(t)
	sent := testTime
	arrived := testTime.Add(250 * time.Millisecond)
	v.reception([]rtcp.ReceptionReport{{
		SSRC: v.lanes[0].ssrc, FractionLost: 64, TotalLost: 7, Jitter: 900,
		LastSenderReport: uint32(ntp(sent) >> 16), Delay: 65536 / 5,
	}}, arrived)
	if d := v.counts.RTT - 50*time.Millisecond; d.Abs() > time.Millisecond {
		t.Errorf("RTT %v, want 50 ms", v.counts.RTT)
	}
	if v.counts.Loss != 0.25 || v.counts.Lost != 7 || v.counts.Jitter != 10*time.Millisecond {
		t.Errorf("%+v", v.counts)
	}
	before := v.counts.RTT
	v.reception([]rtcp.ReceptionReport{{SSRC: v.lanes[0].ssrc, LastSenderReport: 1, Delay: math.MaxUint32}}, arrived)
	if v.counts.RTT != before {
		t.Errorf("an impossible report set the RTT to %v", v.counts.RTT)
	}
}

func FuzzFeedback(f *testing.F) {
	for _, p := range []rtcp.Packet{
		&rtcp.PictureLossIndication{MediaSSRC: 1}, &rtcp.TransportLayerNack{MediaSSRC: 1, Nacks: []rtcp.NackPair{{PacketID: 7, LostPackets: 0xffff}}},
		&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 1, LastSenderReport: 9}}}, &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 1}}},
	} {
		b, err := p.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, r := bareViewer(t)
		v.lanes[0].ssrc = 1
		fill(r, 0, 10, 5, testTime)
		var out batch
		v.pump(&out, testTime)
		v.feedback(b, testTime)
		v.queue.mu.Lock()
		defer v.queue.mu.Unlock()
		if v.queue.bytes > queueBytes+1<<20 {
			t.Fatalf("%d bytes queued", v.queue.bytes)
		}
	})
}

func TestKeyframeRequestsAreDebounced(t *testing.T) {
	asked := 0
	st := newStream(&SFU{}, "dock", func(int) { asked++ })
	st.Describe([]capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000}})
	now := testTime
	for range 1000 { // ten seconds, a request each 10 ms, each answered at once
		st.wantKeyframe(st.feeds[0].ring)
		before := asked
		st.askKeyframes(now)
		if asked > before {
			st.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{5}}})
		}
		now = now.Add(10 * time.Millisecond)
	}
	if asked < 19 || asked > 21 {
		t.Errorf("%d keyframes asked for in 10 s, want one in %v", asked, keyframePause)
	}
}

// A transport-wide feedback packet can be made to unpack to hundreds of MiB
// by a parser that trusts its counters; ours must not, nor may it stall.
func TestFeedbackBomb(t *testing.T) {
	v, _ := bareViewer(t)
	var err error
	if v.bandwidth, err = bwe.New(bwe.Config{Min: leastEstimate, Start: firstEstimate, Max: mostEstimate}); err != nil {
		t.Fatal(err)
	}
	bomb := []byte{0x80 | 15, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0}
	for len(bomb) < 1444 {
		bomb = append(bomb, 0x80, 0x00) // one-bit status vectors: 14 packets each
	}
	binary.BigEndian.PutUint16(bomb[2:], uint16(len(bomb)/4-1))
	if n := testing.AllocsPerRun(10, func() { v.feedback(bomb, testTime) }); n > 10 {
		t.Errorf("%v allocations for one packet", n)
	}
	// one that lies about its size, one after another that is cut short
	v.feedback(append([]byte{0x81, 206, 0xff, 0xff}, bomb...), testTime)
	v.feedback([]byte{0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x81}, testTime)
	if v.counts.PLIs != 1 {
		t.Errorf("%d PLIs", v.counts.PLIs)
	}
}

// A camera that lets a request pass is known for it when the wait is over, not
// when its next keyframe comes; one that answers is known for that.
func TestCamerasThatDoNotAnswer(t *testing.T) {
	st := newStream(&SFU{}, "dock", func(int) {})
	st.Describe([]capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000}})
	f := st.feeds[0]
	now := time.Now()
	st.wantKeyframe(f.ring)
	st.askKeyframes(now)
	if !st.askKeyframes(now.Add(burstWait)) || f.deaf != 0 {
		t.Fatalf("judged before the wait was over: deaf %d", f.deaf)
	}
	if st.askKeyframes(now.Add(burstWait+1)) || f.deaf != deafFor {
		t.Fatalf("deaf %d after the wait", f.deaf)
	}
	st.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{5}}}) // late: told already
	if f.deaf != deafFor {
		t.Errorf("deaf %d after a late keyframe", f.deaf)
	}
	for range deafFor {
		now = now.Add(time.Minute)
		st.wantKeyframe(f.ring)
		st.askKeyframes(now)
		f.asked = time.Now()
		st.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{5}}})
	}
	if f.deaf != 0 {
		t.Errorf("deaf %d after %d answers in time", f.deaf, deafFor)
	}
}
