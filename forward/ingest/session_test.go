package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"edged/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// The payload types and extensions of the tests.
const (
	vp8PT, rtxPT, opusPT  = 96, 97, 111
	numberID, ridID, rrID = 3, 4, 5
)

// bench is a session without goroutines: tests call what its own would.
type bench struct {
	*Session
	t       testing.TB
	now     time.Time
	seqs    map[uint32]uint16 // by SSRC
	tracks  [][]capture.Track
	frames  []capture.Frame
	sizes   []int // bytes of each frame's payloads
	faults  map[int]capture.Code
	waits   []capture.Code
	sent    []rtcp.Packet
	failure error
}

func (b *bench) Describe(t []capture.Track) {
	b.tracks = append(b.tracks, append([]capture.Track(nil), t...))
}
func (b *bench) Waiting(err error) { b.waits = append(b.waits, capture.CodeOf(err)) }
func (b *bench) LayerFailed(layer int, err error) {
	b.faults[layer] = capture.CodeOf(err)
}

func (b *bench) Frame(f *capture.Frame) {
	if len(b.tracks) == 0 || f.Track < 0 || f.Track >= len(b.tracks[len(b.tracks)-1]) {
		b.t.Fatalf("a frame of track %d, described are %v", f.Track, b.tracks)
	}
	size := 0
	for _, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			b.t.Fatalf("a payload of %d bytes", len(p))
		}
		size += len(p)
	}
	if size == 0 {
		b.t.Fatal("an empty frame")
	}
	own := *f
	own.Payloads = nil
	b.frames, b.sizes = append(b.frames, own), append(b.sizes, size)
}

func options(codec capture.Codec, rids ...string) Options {
	return Options{
		Formats: map[uint8]Format{
			vp8PT:  {Kind: capture.Video, Codec: codec, ClockRate: 90000, NACK: true},
			rtxPT:  {Kind: capture.Video, ClockRate: 90000},
			opusPT: {Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000},
		},
		Extensions: Extensions{Number: numberID, RID: ridID, RepairedRID: rrID}, RIDs: rids, Log: quiet,
	}
}

func newBench(t testing.TB, o Options) *bench {
	b := &bench{t: t, now: testTime, seqs: map[uint32]uint16{}, faults: map[int]capture.Code{}}
	o.Send = func(p []byte) {
		packets, err := rtcp.Unmarshal(p) // our own: no bomb
		if err != nil {
			t.Fatal(err)
		}
		b.sent = append(b.sent, packets...)
	}
	o.Fail = func(err error) { b.failure = err }
	b.Session = NewSession(o)
	b.sink, b.began, b.lastFrame, b.timeline.began, b.quiet = b, b.now, b.now, b.now, true
	return b
}

// rtp sends a packet, with an extension where ext is not 0.
func (b *bench) rtp(pt uint8, ssrc, at uint32, marker bool, ext uint8, rid string, payload []byte) error {
	b.t.Helper()
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SSRC: ssrc, SequenceNumber: b.seqs[ssrc], Timestamp: at, Marker: marker}, Payload: payload}
	b.seqs[ssrc]++
	if ext != 0 {
		if err := p.SetExtension(ext, []byte(rid)); err != nil {
			b.t.Fatal(err)
		}
	}
	raw, err := p.Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.packet(raw, b.now)
}

// picture sends a frame of VP8 in one packet.
func (b *bench) picture(ssrc, at uint32, key bool, width int, rid string) {
	b.t.Helper()
	ext := uint8(0)
	if rid != "" {
		ext = ridID
	}
	if err := b.rtp(vp8PT, ssrc, at, true, ext, rid, vp8(key, width)); err != nil {
		b.t.Fatal(err)
	}
}

// vp8 is the payload of a small frame of VP8, whose header is real.
func vp8(key bool, width int) []byte {
	p := []byte{0x10, 0x11, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8} // S, of partition 0; not a keyframe
	if key {
		p[1] = 0x10
		copy(p[4:], []byte{0x9d, 0x01, 0x2a})
		binary.LittleEndian.PutUint16(p[7:], uint16(width))
		binary.LittleEndian.PutUint16(p[9:], uint16(width/2))
	}
	return p
}

func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(tickEvery)
		if err := b.tick(b.now); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) plis() (n int) {
	for _, p := range b.sent {
		if _, ok := p.(*rtcp.PictureLossIndication); ok {
			n++
		}
	}
	return n
}

// The best encoding is layer 0 whatever the order of names; all wait for each
// other, but not for long; one that comes late takes its place.
func TestLayersInOrder(t *testing.T) {
	b := newBench(t, options(capture.VP8, "l", "m", "h"))
	b.picture(1, 0, true, 160, "l")
	b.picture(2, 0, true, 320, "m")
	if len(b.tracks) != 0 {
		t.Fatalf("described at once: %v", b.tracks)
	}
	b.pass(layersIn + 2*tickEvery)
	if len(b.tracks) != 1 || len(b.tracks[0]) != 3 || b.tracks[0][0].Width != 320 || b.tracks[0][1].Width != 160 || b.tracks[0][2].Kind != capture.Audio {
		t.Fatalf("described as %v", b.tracks)
	}
	b.picture(1, 3600, false, 0, "l")
	if len(b.frames) != 0 {
		t.Error("a layer began without a keyframe")
	}
	b.picture(1, 7200, true, 160, "l")
	b.picture(2, 7200, true, 320, "m")
	b.picture(2, 10800, false, 0, "") // the SSRC is known
	if len(b.frames) != 3 || b.frames[0].Track != 1 || b.frames[1].Track != 0 || b.frames[2].Track != 0 || !b.frames[0].Lost || b.frames[2].Lost {
		t.Fatalf("%+v", b.frames)
	}
	b.picture(3, 14400, true, 640, "h")
	last := b.tracks[len(b.tracks)-1]
	if len(last) != 4 || last[0].Width != 640 || last[1].Width != 320 || last[2].Width != 160 {
		t.Fatalf("described as %v", last)
	}
	if n := len(b.frames); n != 4 || b.frames[3].Track != 0 {
		t.Errorf("%d frames, the last of track %d", n, b.frames[n-1].Track)
	}
	b.picture(9, 1, true, 640, "x") // of no encoding
	if len(b.frames) != 4 {
		t.Error("a frame of an unknown RID")
	}
}

// A layer that the publisher ceases to send is in trouble; where none comes,
// the camera waits, and in the end the session is over.
func TestLayerStops(t *testing.T) {
	b := newBench(t, options(capture.VP8, "h", "l"))
	for i := range uint32(50) {
		b.picture(1, i*3600, i < 2, 640, "h")
		b.picture(2, i*3600, i < 2, 320, "l")
		b.pass(40 * time.Millisecond)
	}
	if len(b.faults) != 0 || len(b.waits) != 0 {
		t.Fatalf("faults %v, waits %v", b.faults, b.waits)
	}
	for i := range uint32(75) {
		b.picture(2, 180000+i*3600, false, 0, "l")
		b.pass(40 * time.Millisecond)
	}
	if len(b.faults) != 1 || b.faults[0] != capture.CodeStalled || len(b.waits) != 0 {
		t.Errorf("faults %v, waits %v", b.faults, b.waits)
	}
	b.pass(quietAfter + time.Second)
	if len(b.waits) != 1 || b.waits[0] != capture.CodeStalled {
		t.Errorf("waits %v", b.waits)
	}
	b.now = b.now.Add(silentAfter)
	if err := b.tick(b.now); capture.CodeOf(err) != capture.CodeStalled {
		t.Error(err)
	}
}

// What was sent again as RTX takes its place; RTX before what it repeats, and
// padding, are nothing.
func TestRTX(t *testing.T) {
	b := newBench(t, options(capture.VP8))
	rtx := func(seq uint16, at uint32, payload []byte) {
		if err := b.rtp(rtxPT, 77, at, true, 0, "", append(binary.BigEndian.AppendUint16(nil, seq), payload...)); err != nil {
			t.Fatal(err)
		}
	}
	rtx(0, 0, vp8(true, 320))
	b.picture(1, 0, true, 320, "")
	b.seqs[1]++ // lost
	b.picture(1, 7200, false, 0, "")
	rtx(1, 3600, nil)
	if len(b.frames) != 1 {
		t.Fatalf("%d frames", len(b.frames))
	}
	b.pass(20 * time.Millisecond)
	asked := false
	for _, p := range b.sent {
		if n, ok := p.(*rtcp.TransportLayerNack); ok {
			asked = n.MediaSSRC == 1 && len(n.Nacks) == 1 && n.Nacks[0].PacketID == 1
		}
	}
	if !asked {
		t.Errorf("sent %v", b.sent)
	}
	rtx(1, 3600, vp8(false, 0))
	if len(b.frames) != 3 || b.frames[1].Lost || b.frames[2].Lost || b.frames[2].RTPTime-b.frames[1].RTPTime != 3600 {
		t.Errorf("%+v", b.frames)
	}
}

// A keyframe is asked for at most once in 500 ms, of the layer that was meant.
func TestKeyframesAreAskedForSparsely(t *testing.T) {
	b := newBench(t, options(capture.VP8, "h", "l"))
	b.picture(2, 0, true, 320, "l")
	b.picture(1, 0, true, 640, "h")
	b.picture(2, 3600, true, 320, "l")
	b.picture(1, 3600, true, 640, "h")
	b.pass(time.Second)
	before := len(b.sent)
	for range 300 {
		b.wantKeyframe(1)
		b.wantKeyframe(7)
		b.wantKeyframe(-1)
		b.pass(tickEvery)
	}
	n := 0
	for _, p := range b.sent[before:] {
		if pli, ok := p.(*rtcp.PictureLossIndication); ok {
			n++
			if pli.MediaSSRC != 2 {
				t.Errorf("asked of %d", pli.MediaSSRC)
			}
		}
	}
	if n < 5 || n > 7 {
		t.Errorf("%d keyframes were asked for in 3 s", n)
	}
	plis := b.plis()
	b.pass(5 * time.Second / 2)
	if b.plis() > plis+1 {
		t.Error("keyframes are asked for that nobody wants")
	}
}

func TestSoundAlone(t *testing.T) {
	o := options(capture.VP8)
	delete(o.Formats, vp8PT)
	delete(o.Formats, rtxPT)
	b := newBench(t, o)
	for i := range uint32(10) {
		payload := []byte("sound")
		switch i {
		case 4:
			payload = make([]byte, capture.MaxPayload+1)
		case 6:
			payload = nil
		}
		if err := b.rtp(opusPT, 5, i*960, false, 0, "", payload); err != nil {
			t.Fatal(err)
		}
		b.pass(20 * time.Millisecond)
	}
	if len(b.tracks) != 1 || len(b.tracks[0]) != 1 || b.tracks[0][0].Codec != capture.Opus || len(b.frames) != 8 || !b.frames[4].Lost || b.frames[5].Lost || !b.frames[1].Keyframe {
		t.Errorf("tracks %v, %d frames %+v", b.tracks, len(b.frames), b.frames)
	}
}

// Publishers that misbehave lose their session, and nothing else happens.
func TestHostilePublishers(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *bench) error
		code capture.Code // empty: it is borne
	}{
		"SSRC after SSRC": {func(b *bench) (err error) {
			for i := uint32(0); i < 200 && err == nil; i++ {
				err = b.rtp(vp8PT, i, 0, true, 0, "", vp8(true, 320))
			}
			return err
		}, capture.CodeProtocol},
		"SSRCs of a payload type that there is not": {func(b *bench) (err error) {
			for i := uint32(0); i < 200 && err == nil; i++ {
				err = b.rtp(99, i, 0, true, 0, "", vp8(true, 320))
			}
			return err
		}, ""},
		"a flood of packets": {func(b *bench) (err error) {
			for i := 0; i < MaxPackets+10 && err == nil; i++ {
				err = b.second.count(100, b.now)
			}
			return err
		}, capture.CodeProtocol},
		"a flood of bytes": {func(b *bench) (err error) {
			for i := 0; i < MaxBitrate/8/1200+10 && err == nil; i++ {
				err = b.second.count(1200, b.now)
			}
			return err
		}, capture.CodeProtocol},
		"padding larger than the packet": {func(b *bench) error {
			return b.packet([]byte{0xa0, vp8PT, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0xff}, b.now)
		}, ""},
		"extensions larger than the packet": {func(b *bench) error {
			return b.packet([]byte{0x90, vp8PT, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff, 0x30}, b.now)
		}, ""},
		"fifteen CSRCs and no room": {func(b *bench) error { return b.packet([]byte{0x8f, vp8PT, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, b.now) }, ""},
		"an empty packet":           {func(b *bench) error { return b.packet(nil, b.now) }, ""},
		"a picture without size":    {func(b *bench) error { return b.rtp(vp8PT, 1, 0, true, 0, "", vp8(true, 0)) }, capture.CodeProtocol},
		"a picture without end": {func(b *bench) (err error) {
			first := vp8(true, 320)
			for i := 0; i < 10_000 && err == nil; i++ {
				err = b.rtp(vp8PT, 1, 0, false, 0, "", append(first, make([]byte, 1200)...))
				first = []byte{0}
			}
			return err
		}, capture.CodeProtocol},
		"times at random": {func(b *bench) (err error) {
			r := rand.New(rand.NewPCG(1, 1))
			for i := 0; i < 1000 && err == nil; i++ {
				err = b.rtp(vp8PT, 1, r.Uint32(), true, 0, "", vp8(i == 0, 320))
			}
			return err
		}, ""},
		"sequence numbers at random": {func(b *bench) (err error) {
			r := rand.New(rand.NewPCG(1, 1))
			for i := 0; i < 5000 && err == nil; i++ {
				b.seqs[1] = uint16(r.Uint32())
				err = b.rtp(vp8PT, 1, uint32(i), true, numberID, string([]byte{byte(r.Uint32()), byte(i)}), vp8(true, 320))
				b.now = b.now.Add(time.Millisecond)
				if err == nil && i%10 == 0 {
					err = b.tick(b.now)
				}
			}
			return err
		}, ""},
		"an SSRC for two kinds": {func(b *bench) error {
			b.picture(1, 0, true, 320, "")
			return errors.Join(b.rtp(opusPT, 1, 0, false, 0, "", []byte("x")), b.rtp(vp8PT, 1, 0, true, 0, "", vp8(true, 320)), b.rtp(rtxPT, 1, 0, true, 0, "", vp8(true, 320)))
		}, ""},
		"reports that lie": {func(b *bench) error {
			b.picture(1, 0, true, 320, "")
			for _, ntp := range []uint64{0, 1, 1 << 63, ^uint64(0)} {
				b.senderReport(1, ntp, uint32(ntp>>7), b.now)
				b.picture(1, uint32(ntp), false, 0, "")
			}
			b.rtcp([]byte{0x80, 200, 0xff, 0xff, 0, 0, 0, 1}, b.now)
			b.rtcp([]byte{0x80, 200, 0, 0, 0, 0, 0, 1}, b.now)
			b.rtcp([]byte{0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, b.now)
			return nil
		}, ""},
	} {
		b := newBench(t, options(capture.VP8))
		err := c.do(b)
		if c.code == "" && err != nil || c.code != "" && (err == nil || capture.CodeOf(err) != c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A source takes one publisher at a time and ends the one that it has with
// its camera.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(quiet)
		s.Keyframe(0)
		a, b := newBench(t, options(capture.VP8)), newBench(t, options(capture.VP8))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, a) }()
		synctest.Wait()
		if len(a.waits) != 1 || a.waits[0] != capture.CodeNoPublisher {
			t.Errorf("waits %v", a.waits)
		}
		if err := s.Claim(a.Session); err != nil {
			t.Fatal(err)
		}
		if err := s.Claim(b.Session); !errors.Is(err, ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
		a.End()
		a.End()
		synctest.Wait()
		if err := s.Claim(b.Session); err != nil {
			t.Errorf("after the first has left: %v", err)
		}
		s.Keyframe(0)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || !errors.Is(b.failure, errGone) || !b.ended() {
			t.Errorf("%v, %v", err, b.failure)
		}
	})
}

// A publisher that sends nothing is not waited for without end.
func TestSilentPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(quiet)
		b := newBench(t, options(capture.VP8))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, b) }()
		_ = s.Claim(b.Session)
		for range queueLength + 5 { // more than wait in the queue
			b.RTP(make([]byte, 100), time.Now())
		}
		b.RTP(make([]byte, packetSize+1), time.Now())
		time.Sleep(silentAfter + time.Second)
		cancel()
		if err := <-ended; err != nil || capture.CodeOf(b.failure) != capture.CodeStalled || !b.ended() {
			t.Error(err, b.failure)
		}
	})
}

var fuzzCodecs = []capture.Codec{capture.VP8, capture.VP9, capture.AV1, capture.H264, capture.H265}

// Whatever a publisher sends, frames keep the sink's contract.
func FuzzSession(f *testing.F) {
	one := func(pt uint8, ssrc uint32, ext uint8, rid string, payload []byte) []byte {
		p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SSRC: ssrc, Marker: true, SequenceNumber: 9}, Payload: payload}
		if ext != 0 {
			_ = p.SetExtension(ext, []byte(rid))
		}
		raw, _ := p.Marshal()
		return append([]byte{byte(len(raw)), 3}, raw...)
	}
	for i := range fuzzCodecs {
		f.Add(i, false, append(one(vp8PT, 1, 0, "", vp8(true, 320)), one(opusPT, 2, 0, "", []byte("sound"))...))
		f.Add(i, true, append(one(vp8PT, 1, ridID, "h", vp8(true, 320)), one(rtxPT, 2, rrID, "h", append([]byte{0, 10}, vp8(false, 0)...))...))
		f.Add(i, false, one(vp8PT, 1, numberID, "\x01\x02", []byte{0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x36, 0x40}))
		f.Add(i, true, []byte{28, 0x83, 0x80, 200, 0, 6, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, codec int, layered bool, data []byte) {
		var rids []string
		if layered {
			rids = []string{"h", "l"}
		}
		b := newBench(t, options(fuzzCodecs[uint(codec)%uint(len(fuzzCodecs))], rids...))
		for len(data) >= 2 { // length; RTCP or not, and milliseconds
			n, flags := min(int(data[0]), len(data)-2), data[1]
			p := data[2 : 2+n]
			data = data[2+n:]
			b.now = b.now.Add(time.Duration(flags&0x7f) * time.Millisecond)
			if flags&0x80 != 0 {
				b.rtcp(p, b.now)
			} else if b.packet(p, b.now) != nil {
				return
			}
			if b.tick(b.now) != nil {
				return
			}
		}
	})
}
