package receive

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/pion/rtp"

	"edged/capture"
)

// collect gives an Assembler whose units are kept.
func collect(out *[]Unit) *Assembler {
	return &Assembler{
		format:   payloadFormats[capture.H264],
		Captured: func(*rtp.Packet) time.Time { return time.Unix(int64(len(*out)), 0) },
		Out: func(u Unit) error {
			own := u
			own.Parts = nil
			for _, n := range u.Parts {
				own.Parts = append(own.Parts, bytes.Clone(n))
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
func text(units []Unit) string {
	var b bytes.Buffer
	for i, u := range units {
		if i > 0 {
			b.WriteByte(' ')
		}
		if u.Lost {
			b.WriteByte('!')
		}
		fmt.Fprintf(&b, "%d:", u.RTPTime)
		for j, n := range u.Parts {
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
			var got []Unit
			a := collect(&got)
			for _, p := range c.in {
				if err := a.Push(p); err != nil {
					t.Fatal(err)
				}
			}
			if text(got) != c.want {
				t.Errorf("got %q, want %q", text(got), c.want)
			}
		})
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
	a := &Assembler{format: payloadFormats[capture.H264], Out: func(Unit) error { return nil }, Captured: func(*rtp.Packet) time.Time { return time.Time{} }}
	b.SetBytes(int64(len(n)))
	b.ReportAllocs()
	seq := uint16(0)
	for b.Loop() {
		for _, p := range packets {
			p.SequenceNumber = seq
			seq++
			if err := a.Push(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}
