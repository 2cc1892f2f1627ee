package bench

import (
	"encoding/binary"
	"testing"
)

// rtp makes a packet with the given payload.
func rtp(seq uint16, time uint32, marker bool, payload ...byte) []byte {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, 102
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], time)
	return append(b, payload...)
}

var (
	sets  = []byte{24, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce} // STAP-A of SPS and PPS
	start = []byte{28, 0x85, 1}                            // FU-A, start of an IDR slice
	end   = []byte{28, 0x45, 1}                            // FU-A, its end
	delta = []byte{0x41, 1}
)

// stream is a keyframe of three packets and delta frames of one, from seq on.
func stream(seq uint16, frames int) (out [][]byte) {
	out = append(out, rtp(seq, 0, false, sets...), rtp(seq+1, 0, false, start...), rtp(seq+2, 0, true, end...))
	for i := 1; i < frames; i++ {
		out = append(out, rtp(seq+2+uint16(i), uint32(i)*3000, true, delta...))
	}
	return out
}

func feed(t *testing.T, r *Reception, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		if err := r.Packet(p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReception(t *testing.T) {
	whole := stream(65530, 20) // the sequence number wraps
	without := func(drop ...int) [][]byte {
		var out [][]byte
		for i, p := range whole {
			keep := true
			for _, d := range drop {
				keep = keep && i != d
			}
			if keep {
				out = append(out, p)
			}
		}
		return out
	}
	swapped := append([][]byte(nil), whole...)
	swapped[5], swapped[6] = swapped[6], swapped[5]
	late := append(without(5), whole[5])
	skipped := append([][]byte(nil), whole[:10]...)
	for i, p := range whole[13:] { // three frames left out, the sequence goes on
		q := append([]byte(nil), p...)
		binary.BigEndian.PutUint16(q[2:], 4+uint16(i)) // 65530+10, wrapped
		skipped = append(skipped, q)
	}
	for _, c := range []struct {
		name      string
		packets   [][]byte
		want      Counts
		decodable bool
	}{
		{"whole", whole, Counts{Packets: 22, Frames: 20}, true},
		{"a packet twice", append(append([][]byte(nil), whole...), whole[4], whole[21]), Counts{Packets: 22, Frames: 20}, true},
		{"two swapped", swapped, Counts{Packets: 22, Frames: 20}, true},
		{"one comes late", late, Counts{Packets: 22, Frames: 20}, true},
		{"a whole frame lost", without(5), Counts{Packets: 21, Lost: 1, Frames: 18, Broken: 1, Skipped: 1}, true},
		{"start of the keyframe lost", without(1), Counts{Packets: 21, Lost: 1, Frames: 19, Broken: 1}, false},
		{"marker of the keyframe lost", without(2), Counts{Packets: 21, Lost: 1, Frames: 19, Broken: 1}, false},
		{"frames left out", skipped, Counts{Packets: 19, Frames: 17, Skipped: 3}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Reception{Step: 3000}
			feed(t, &r, c.packets...)
			r.Flush()
			c.want.Bytes = r.Bytes
			if r.Counts != c.want || r.Decodable != c.decodable {
				t.Errorf("got %+v decodable %v, want %+v %v", r.Counts, r.Decodable, c.want, c.decodable)
			}
		})
	}
}

// A hole is waited for as long as the window, then given up without Flush.
func TestHoleGivenUp(t *testing.T) {
	r := Reception{Step: 3000}
	all := stream(100, 1000)
	feed(t, &r, all[:10]...)
	feed(t, &r, all[11:11+window-1]...)
	if r.Lost != 0 {
		t.Fatalf("lost %d while a retransmission may still come", r.Lost)
	}
	feed(t, &r, all[11+window-1:]...)
	if r.Lost != 1 {
		t.Errorf("lost %d, want 1", r.Lost)
	}
}

func TestPacketRefused(t *testing.T) {
	var r Reception
	for _, b := range [][]byte{nil, make([]byte, 11), make([]byte, 20), {0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255}, {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200}} {
		if r.Packet(b) == nil {
			t.Errorf("% x was taken", b)
		}
	}
}

func TestExtensionAndPadding(t *testing.T) {
	b := []byte{0xb0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x65, 9, 0, 2}
	p, err := payloadOf(b)
	if err != nil || nalsOf(p) != idr || len(p) != 2 {
		t.Errorf("payload % x, %v", p, err)
	}
}

func FuzzReception(f *testing.F) {
	for _, p := range stream(1, 3) {
		f.Add(p, uint16(1))
	}
	f.Add([]byte{24, 255, 255, 0x67}, uint16(9000))
	f.Fuzz(func(t *testing.T, b []byte, jump uint16) {
		r := Reception{Step: 3000}
		for _, p := range append(stream(1, 4), b) {
			_ = r.Packet(p)
		}
		for _, p := range stream(jump, 4) {
			_ = r.Packet(p)
		}
		r.Flush()
		if r.Frames+r.Broken > r.Packets+r.Lost {
			t.Errorf("more frames than packets: %+v", r.Counts)
		}
	})
}
