package data

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"testing/synctest"
)

// packet makes an SCTP packet of chunks, padded, with its checksum.
func packet(tag uint32, chunks ...[]byte) []byte {
	p := make([]byte, commonHeader)
	binary.BigEndian.PutUint16(p, 5000)
	binary.BigEndian.PutUint16(p[2:], 5000)
	binary.BigEndian.PutUint32(p[4:], tag)
	for _, c := range chunks {
		p = append(p, c...)
		for len(p)%4 != 0 {
			p = append(p, 0)
		}
	}
	sum(p)
	return p
}

// sum writes the checksum (RFC 9260 §6.8, appendix A).
func sum(p []byte) {
	clear(p[8:12])
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}

func chunk(kind byte, value ...byte) []byte {
	n := 4 + len(value)
	return append([]byte{kind, 0, byte(n >> 8), byte(n)}, value...)
}

var initValue = []byte{0, 0, 0, 9, 0, 1, 0, 0, 0, 16, 0, 16, 0, 0, 0, 1}

func TestWellFormed(t *testing.T) {
	with := func(b []byte, more ...byte) []byte { return append(append([]byte(nil), b...), more...) }
	for _, c := range []struct {
		name string
		p    []byte
		want bool
	}{
		{"INIT", packet(0, chunk(1, initValue...)), true},
		{"INIT with parameters", packet(0, chunk(1, with(initValue, 0xc0, 0, 0, 4, 0x80, 8, 0, 6, 130, 192)...)), true},
		{"INIT, a parameter of no length", packet(0, chunk(1, with(initValue, 0xc0, 0, 0, 0)...)), false},
		{"INIT, a parameter too long", packet(0, chunk(1, with(initValue, 0xc0, 0, 0, 9, 1)...)), false},
		{"INIT too short", packet(0, chunk(1, initValue[:15]...)), false},
		{"empty", nil, false},
		{"only a header", packet(1), false},
		{"half a chunk header", with(packet(1, chunk(11)), 1, 0), false},
		{"two chunks", packet(1, chunk(11), chunk(14)), true},
		{"a chunk of no length", packet(1, []byte{11, 0, 0, 0}), false},
		{"a chunk too long", packet(1, []byte{11, 0, 0, 8}), false},
		{"an unknown chunk", packet(1, chunk(200)), false},
		{"I-DATA was not agreed on", packet(1, chunk(64, make([]byte, 20)...)), false},
		{"DATA", packet(1, chunk(0, make([]byte, 13)...)), true},
		{"DATA without any", packet(1, chunk(0, make([]byte, 12)...)), false},
		{"SACK", packet(1, chunk(3, make([]byte, 12)...)), true},
		{"SACK with blocks", packet(1, chunk(3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 7)), true},
		{"SACK that claims blocks", packet(1, chunk(3, 0, 0, 0, 1, 0, 0, 0, 1, 255, 255, 255, 255)), false},
		{"ABORT with a cause", packet(1, chunk(6, 0, 12, 0, 8, 'b', 'y', 'e', '!')), true},
		{"ABORT before another", packet(1, chunk(6), chunk(11)), false},
		{"RE-CONFIG", packet(1, chunk(130, 0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1)), true},
		{"RE-CONFIG of nothing", packet(1, chunk(130)), false},
	} {
		if got := wellFormed(c.p); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	var many [][]byte
	for range maxChunks + 1 {
		many = append(many, chunk(11))
	}
	if !wellFormed(packet(1, many[1:]...)) || wellFormed(packet(1, many...)) {
		t.Error("the number of chunks is not bounded")
	}
}

// FuzzPackets: whatever a viewer sends over a standing association, with a
// true checksum and the right tag, nothing panics and Run can be ended.
func FuzzPackets(f *testing.F) {
	f.Add(chunk(1, initValue...), chunk(14))
	f.Add(chunk(3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 7), chunk(11))
	f.Add(chunk(0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 50, 3, 0, 0, 0), chunk(192, 0, 0, 0, 9))
	f.Add(chunk(130, 0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1), chunk(130, 0, 16, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1))
	f.Add(chunk(4, 0, 1, 0, 8, 1, 2, 3, 4), chunk(6, 0, 12, 0, 8, 'b', 'y', 'e', '!'))
	f.Add(chunk(2, initValue...), chunk(10, 1, 2, 3))
	f.Add(chunk(7, 0, 0, 0, 1), chunk(8))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var tag uint32 // that the box expects
			r.wire.send = func(p []byte) (int, error) {
				tag = binary.BigEndian.Uint32(p[4:])
				r.c.Receive(p)
				return len(p), nil
			}
			r.connect()
			r.dial(1, Meta)
			synctest.Wait()
			for i := range 8 {
				for _, p := range [][]byte{packet(tag, one), packet(tag, two), packet(tag, one, two), packet(0, one)} {
					r.c.Receive(p)
				}
				r.c.Frame(frameOf(i))
				synctest.Wait()
			}
			_ = r.end()
		})
	})
}
