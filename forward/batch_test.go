package forward

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A batch for several viewers: each gets its own packets, in order, whatever
// the box refuses; one that cannot be reached costs the others nothing.
func TestBatchOfSeveralViewers(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			e, first := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
			_, second := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
			if way.gso && !e.gso.Load() {
				t.Skip("no UDP_SEGMENT here")
			}
			e.gso.Store(way.gso)
			e.many.Store(way.many)
			v, _ := bareViewer(t)
			v.sfu.egress = e
			var b batch
			fill := func(mark byte, sizes ...int) {
				b.begin()
				for _, n := range sizes {
					b.buf = append(b.buf, bytes.Repeat([]byte{mark}, n)...)
					b.endPacket()
				}
			}
			fill(1, 900, 900, 100)
			b.post(e, parcel{to: addressOf(first)})
			fill(2, 500, 500)
			b.post(e, parcel{to: netip.MustParseAddrPort("127.0.0.1:0"), viewer: v})
			fill(3, 700)
			b.post(e, parcel{to: addressOf(second)})
			fill(4, 50, 60) // not alike
			b.post(e, parcel{to: addressOf(first)})
			fill(5, 1000) // built, and never posted
			b.flush()
			expect(t, first, []byte{1, 1, 1, 4, 4}, []int{900, 900, 100, 50, 60})
			expect(t, second, []byte{3}, []int{700})
			if n := v.unsent.Load(); n != 2 {
				t.Errorf("%d packets not sent to the viewer that cannot be reached", n)
			}
			if len(b.parcels)+len(b.ends)+len(b.buf) != 0 {
				t.Error("something is left in the batch")
			}
		})
	}
}

// expect reads packets of the given marks and sizes.
func expect(t *testing.T, from *net.UDPConn, marks []byte, sizes []int) {
	t.Helper()
	buf := make([]byte, 2000)
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i, size := range sizes {
		n, err := from.Read(buf)
		if err != nil || n != size || buf[0] != marks[i] || buf[n-1] != marks[i] {
			t.Fatalf("packet %d: %d bytes of %d, mark %d (%v)", i, n, size, buf[0], err)
		}
	}
}

// What waits for the flush is bounded in viewers and in bytes.
func TestBatchFlushesItself(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	for name, size := range map[string]int{"parcels": 10, "bytes": flushBytes / 2} {
		t.Run(name, func(t *testing.T) {
			var b batch
			for range 100 {
				b.begin()
				for range size/1000 + 1 {
					b.buf = append(b.buf, make([]byte, min(size, 1000))...)
					b.endPacket()
				}
				b.post(e, parcel{to: addressOf(to)})
				if len(b.parcels) >= flushParcels || len(b.buf) >= flushBytes {
					t.Fatalf("%d parcels of %d bytes wait", len(b.parcels), len(b.buf))
				}
			}
			b.flush()
		})
	}
}
