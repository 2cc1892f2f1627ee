package rtsp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/pion/rtp"

	"edged/capture"
)

// collect gives an assembler whose units are kept.
func collect(out *[]unit) *assembler {
	return &assembler{
		captured: func(*rtp.Packet) time.Time { return time.Unix(int64(len(*out)), 0) },
		out: func(u unit) error {
			own := u
			own.nalus = nil
			for _, n := range u.nalus {
				own.nalus = append(own.nalus, bytes.Clone(n))
			}
			*out = append(*out, own)
			return nil
		},
	}
}

func packet(seq uint16, ts uint32, marker bool, payload ...byte) *rtp.Packet {
	return &rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: ts, Marker: marker}, Payload: payload}
}

// text is what came out: units by space, NAL units by comma, in hexadecimal.
func text(units []unit) string {
	var b bytes.Buffer
	for i, u := range units {
		if i > 0 {
			b.WriteByte(' ')
		}
		if u.lost {
			b.WriteByte('!')
		}
		fmt.Fprintf(&b, "%d:", u.rtpTime)
		for j, n := range u.nalus {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%x", n)
		}
	}
	return b.String()
}

func TestAssemble(t *testing.T) {
	for name, c := range map[string]struct {
		in   []*rtp.Packet
		want string
	}{
		"single NAL units": {[]*rtp.Packet{
			packet(1, 9, false, 0x67, 1), packet(2, 9, false, 0x68, 2), packet(3, 9, true, 0x65, 0x88),
			packet(4, 10, true, 0x41, 0x9a),
		}, "9:6701,6802,6588 10:419a"},
		"aggregate, padded":    {[]*rtp.Packet{packet(1, 9, true, 0x78, 0, 2, 0x67, 1, 0, 2, 0x65, 0x88, 0, 0)}, "9:6701,6588"},
		"fragments":            {[]*rtp.Packet{packet(1, 9, false, 0x7c, 0x85, 0x88), packet(2, 9, false, 0x7c, 5, 1), packet(3, 9, true, 0x7c, 0x45, 2)}, "9:65880102"},
		"start and end in one": {[]*rtp.Packet{packet(1, 9, true, 0x7c, 0xc5, 0x88, 7)}, "9:658807"},
		"no markers": {[]*rtp.Packet{packet(1, 9, false, 0x65, 0x88), packet(2, 10, false, 0x41, 0x9a), packet(3, 11, false, 0x41, 0x9b)},
			"9:6588 10:419a"},
		"start codes left in": {[]*rtp.Packet{packet(1, 9, true, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x88)}, "9:6701,6802,6588"},
		"leading start code":  {[]*rtp.Packet{packet(1, 9, false, 0x67, 1), packet(2, 9, true, 0x65, 0, 0, 0, 1, 0x65, 0x88)}, "9:6701,65,6588"},
		"padding only":        {[]*rtp.Packet{packet(1, 9, true, 0x65, 0x88), packet(2, 9, false), packet(3, 10, true, 0x41, 0x9a)}, "9:6588 10:419a"},
		"sequence wraps":      {[]*rtp.Packet{packet(65535, 9, true, 0x65, 0x88), packet(0, 10, true, 0x41, 0x9a)}, "9:6588 10:419a"},
		"a slice lost": {[]*rtp.Packet{
			packet(1, 9, true, 0x65, 0x88), packet(2, 10, false, 0x41, 0x9a), packet(4, 10, true, 0x41, 0x10), packet(5, 11, true, 0x41, 0x9a),
		}, "9:6588 !11:419a"},
		"the head lost": {[]*rtp.Packet{
			packet(1, 9, true, 0x65, 0x88), packet(3, 10, true, 0x41, 0x10), packet(4, 11, true, 0x41, 0x9a),
		}, "9:6588 !11:419a"},
		"the tail and its marker lost": {[]*rtp.Packet{
			packet(1, 9, false, 0x65, 0x88), packet(3, 10, true, 0x41, 0x9a),
		}, "!10:419a"},
		"whole units lost": {[]*rtp.Packet{packet(1, 9, true, 0x65, 0x88), packet(7, 12, true, 0x41, 0x9a)}, "9:6588 !12:419a"},
		"a fragment lost": {[]*rtp.Packet{
			packet(1, 9, false, 0x7c, 0x85, 0x88), packet(3, 9, true, 0x7c, 0x45, 2), packet(4, 10, true, 0x65, 0x88),
		}, "!10:6588"},
		"a fragment without end": {[]*rtp.Packet{
			packet(1, 9, false, 0x7c, 0x85, 0x88), packet(2, 9, true, 0x41, 0x10), packet(3, 10, true, 0x65, 0x88),
		}, "!10:6588"},
		"joined in the middle": {[]*rtp.Packet{packet(1, 9, true, 0x7c, 0x45, 2), packet(2, 10, true, 0x65, 0x88)}, "!10:6588"},
		"interleaved mode":     {[]*rtp.Packet{packet(1, 9, true, 0x79, 0, 0, 0, 2, 0x65, 0x88)}, ""},
		"short aggregate":      {[]*rtp.Packet{packet(1, 9, true, 0x78, 0, 9, 0x65, 0x88)}, ""},
		"short fragment":       {[]*rtp.Packet{packet(1, 9, true, 0x7c)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []unit
			a := collect(&got)
			for _, p := range c.in {
				if err := a.push(p); err != nil {
					t.Fatal(err)
				}
			}
			if text(got) != c.want {
				t.Errorf("got %q, want %q", text(got), c.want)
			}
		})
	}
}

// Whatever is lost, a unit that comes out is one that went in, in order, and
// the one after a hole says so. Packets are cut by somebody else's encoder.
func TestAssembleUnderLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	enc := &rtph264.Encoder{PayloadType: 96, PayloadMaxSize: 200, PacketizationMode: 1}
	if err := enc.Init(); err != nil {
		t.Fatal(err)
	}
	sent := map[uint32][][]byte{}
	var got []unit
	a := collect(&got)
	lossBefore := map[uint32]bool{} // a packet was lost since the unit before
	hole := false
	for ts := uint32(1); ts <= 2000; ts++ {
		for slice := range 1 + r.IntN(4) {
			n := make([]byte, 2+r.IntN(700))
			for i := range n {
				n[i] = byte(1 + r.IntN(255)) // no start codes
			}
			n[0], n[1] = 0x41, 0x90
			if slice > 0 {
				n[1] = 0x20 // first_mb_in_slice > 0
			}
			sent[ts] = append(sent[ts], n)
		}
		packets, err := enc.Encode(sent[ts])
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			p.Timestamp = ts
			if r.IntN(50) == 0 {
				hole = true
				continue
			}
			before := len(got)
			if err := a.push(p); err != nil {
				t.Fatal(err)
			}
			if len(got) > before {
				lossBefore[got[len(got)-1].rtpTime] = hole
				hole = false
			}
		}
	}
	if len(got) < 1000 || len(got) == len(sent) {
		t.Fatalf("%d of %d units", len(got), len(sent))
	}
	for _, u := range got {
		if !slices.EqualFunc(u.nalus, sent[u.rtpTime], bytes.Equal) {
			t.Errorf("unit %d differs from what was sent", u.rtpTime)
		}
		if lossBefore[u.rtpTime] && !u.lost {
			t.Errorf("unit %d hides a loss", u.rtpTime)
		}
	}
}

func FuzzAssemble(f *testing.F) {
	f.Add([]byte{3, 1, 9, 1, 0x67, 1, 2, 3, 2, 9, 0x80, 0x65, 0x88})
	f.Add([]byte{5, 1, 9, 0, 0x7c, 0x85, 0x88, 1, 2, 4, 2, 9, 0x80, 0x7c, 0x45, 1, 2})
	f.Add([]byte{9, 1, 9, 0x80, 0x78, 0, 2, 0x67, 1, 0, 2, 0x65, 0x88})
	f.Fuzz(func(t *testing.T, b []byte) {
		var size int
		most := len(b)
		feed, err := newFeed(sinkFunc(func(fr *capture.Frame) {
			for _, p := range fr.Payloads {
				if len(p) == 0 || len(p) > capture.MaxPayload {
					t.Fatalf("payload of %d bytes", len(p))
				}
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		checked := feed.units.out
		feed.units.out = func(u unit) error {
			if len(u.nalus) == 0 {
				t.Fatal("an empty unit")
			}
			for _, n := range u.nalus {
				if len(n) == 0 {
					t.Fatal("an empty NAL unit")
				}
				size += len(n)
			}
			if size > most {
				t.Fatalf("%d bytes out of %d", size, most)
			}
			return checked(u)
		}
		for len(b) >= 4 { // length, sequence number, time, marker
			n := min(int(b[0]), len(b)-4)
			p := packet(uint16(b[1]), uint32(b[2]), b[3]&0x80 != 0, b[4:4+n]...)
			if feed.units.push(p) != nil {
				return
			}
			b = b[4+n:]
		}
	})
}

type sinkFunc func(*capture.Frame)

func (sinkFunc) Describe([]capture.Track)  {}
func (f sinkFunc) Frame(fr *capture.Frame) { f(fr) }

func TestCapturedByTheCamerasClock(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		ntp  time.Time
		ok   bool
		want time.Time
	}{
		"no report yet":    {time.Time{}, false, now},
		"plausible":        {now.Add(-80 * time.Millisecond), true, now.Add(-80 * time.Millisecond)},
		"hours behind":     {now.Add(-2 * time.Hour), true, now},
		"in the future":    {now.Add(time.Second), true, now},
		"never set (1970)": {time.Unix(3, 0), true, now},
	} {
		f := feed{ntp: func(*rtp.Packet) (time.Time, bool) { return c.ntp, c.ok }}
		if got := f.sampled(packet(1, 1, false), now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func BenchmarkAssemble(b *testing.B) {
	enc := &rtph264.Encoder{PayloadType: 96, PacketizationMode: 1}
	if err := enc.Init(); err != nil {
		b.Fatal(err)
	}
	n := bytes.Repeat([]byte{0x41, 0x90, 0x55}, 10000)
	packets, err := enc.Encode([][]byte{n})
	if err != nil {
		b.Fatal(err)
	}
	a := &assembler{out: func(unit) error { return nil }, captured: func(*rtp.Packet) time.Time { return time.Time{} }}
	b.SetBytes(int64(len(n)))
	b.ReportAllocs()
	seq := uint16(0)
	for b.Loop() {
		for _, p := range packets {
			p.SequenceNumber = seq
			seq++
			if err := a.push(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}
