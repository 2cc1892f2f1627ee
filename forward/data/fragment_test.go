package data

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestFragments(t *testing.T) {
	for _, size := range []int{1, MaxMessage - fragmentHeader, MaxMessage - fragmentHeader + 1, MaxMessage + 1, MaxEvent + 200} {
		record := bytes.Repeat([]byte{'x'}, size)
		record[0], record[size-1] = 'a', 'z'
		parts := fragments(7, record)
		for _, p := range parts {
			if len(p) > MaxMessage {
				t.Errorf("%d bytes: a part has %d", size, len(p))
			}
		}
		rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		var a Assembler
		for i, p := range parts {
			got := a.Add(p)
			if last := i == len(parts)-1; last != (got != nil) || last && !bytes.Equal(got, record) {
				t.Fatalf("%d bytes, part %d of %d: %d bytes", size, i, len(parts), len(got))
			}
			if again := a.Add(p); again != nil && len(parts) > 1 {
				t.Errorf("%d bytes: a part that came twice made a record", size)
			}
		}
	}
}

// TestLostPart: a record that lacks a part is dropped, and no other.
func TestLostPart(t *testing.T) {
	var a Assembler
	record := bytes.Repeat([]byte("0123456789"), 300)
	for id := uint32(1<<32 - 3); id != 5; id++ { // numbers wrap
		parts := fragments(id, record)
		whole := id%2 == 0
		for i, p := range parts {
			if !whole && i == 1 {
				continue
			}
			if got := a.Add(p); (got != nil) != (whole && i == len(parts)-1) {
				t.Fatalf("record %d, part %d: %v", id, i, got != nil)
			}
		}
		if len(a.records) > assembled {
			t.Fatalf("%d records are kept", len(a.records))
		}
	}
}

func FuzzAssembler(f *testing.F) {
	for _, p := range fragments(1, bytes.Repeat([]byte{1}, 2000)) {
		f.Add(p, p)
	}
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 1}, []byte{0, 0, 0, 1, 255, 255, 255, 255, 1})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2, 1}, []byte{0, 0, 0, 1, 0, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var a Assembler
		for range 3 {
			for _, b := range [][]byte{one, two} {
				if got := a.Add(b); len(got) > maxParts*MaxMessage {
					t.Fatalf("%d bytes", len(got))
				}
			}
		}
		if len(a.records) > assembled {
			t.Fatalf("%d records are kept", len(a.records))
		}
	})
}
