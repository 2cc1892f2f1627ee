package forward

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"edged/capture"

	"golang.org/x/sys/unix"
)

// socketPair is an egress and whom it sends to.
func socketPair(t testing.TB, listen, target string) (*egress, *net.UDPConn) {
	t.Helper()
	open := func(address string) *net.UDPConn {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Skip(err) // no IPv6 here
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.UDPConn)
	}
	e, err := newEgress(open(listen))
	if err != nil {
		t.Fatal(err)
	}
	to := open(target)
	_ = to.SetReadBuffer(4 << 20)
	return e, to
}

func addressOf(c *net.UDPConn) netip.AddrPort {
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// packetsOf is a batch of packets of the given sizes.
func packetsOf(sizes ...int) *batch {
	b := &batch{}
	for i, n := range sizes {
		b.buf = append(b.buf, bytes.Repeat([]byte{byte(i)}, n)...)
		b.ends = append(b.ends, len(b.buf))
	}
	return b
}

func TestEgress(t *testing.T) {
	for _, sockets := range [][2]string{{"127.0.0.1:0", "127.0.0.1:0"}, {"[::]:0", "127.0.0.1:0"}, {"[::]:0", "[::1]:0"}} {
		for _, gso := range []bool{true, false} {
			for _, sizes := range [][]int{{1}, {1172, 1172, 300}, {100, 200, 200, 50, 50, 50, 1200}, make100(1172)} {
				t.Run(fmt.Sprintf("%s/gso=%v/%d", sockets, gso, len(sizes)), func(t *testing.T) {
					e, to := socketPair(t, sockets[0], sockets[1])
					if gso && !e.gso.Load() {
						t.Skip("no UDP_SEGMENT here")
					}
					e.gso.Store(gso)
					if n := e.send(addressOf(to), packetsOf(sizes...)); n != len(sizes) {
						t.Fatalf("%d packets sent of %d", n, len(sizes))
					}
					buf := make([]byte, 2000)
					_ = to.SetReadDeadline(time.Now().Add(10 * time.Second))
					for i, size := range sizes {
						n, err := to.Read(buf)
						if err != nil || n != size || buf[0] != byte(i) {
							t.Fatalf("packet %d: %d bytes of %d (%v)", i, n, size, err)
						}
					}
				})
			}
		}
	}
}

func make100(size int) []int {
	out := make([]int, 100)
	for i := range out {
		out[i] = size
	}
	return out
}

// A path that refuses segmented sends does not take them from the others; a
// box that refuses all of them does.
func TestSegmentationRefused(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	if !e.gso.Load() {
		t.Skip("no UDP_SEGMENT here")
	}
	for range maxRefused - 1 {
		e.refuse(unix.EINVAL)
	}
	if n := e.send(addressOf(to), packetsOf(1000, 1000)); n != 2 || !e.gso.Load() || e.refused.Load() != 0 {
		t.Errorf("after a send that went well: %d sent, %d refused, on %v", n, e.refused.Load(), e.gso.Load())
	}
	for range maxRefused {
		e.refuse(unix.EMSGSIZE)
	}
	if e.gso.Load() {
		t.Error("still on after so many refusals")
	}
	e.gso.Store(true)
	if e.refuse(unix.EIO); e.gso.Load() {
		t.Error("still on although the network card cannot")
	}
	if n := e.send(addressOf(to), packetsOf(1000, 1000)); n != 2 {
		t.Errorf("%d packets sent one by one", n)
	}
}

func TestEgressErrors(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	if n := e.send(netip.MustParseAddrPort("127.0.0.1:0"), packetsOf(10, 10)); n != 0 {
		t.Errorf("%d packets sent to port 0", n)
	}
	_ = e.conn.Close()
	if n := e.send(addressOf(to), packetsOf(10)); n != 0 {
		t.Errorf("%d packets sent through a closed socket", n)
	}
	if err := e.sendmsg(&sendmsg{}, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// path is a viewer on a real socket, with its ring.
func path(t testing.TB, gso bool) (v *Viewer, r *ring, payloads [][]byte) {
	t.Helper()
	v, r = bareViewer(t)
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	if gso && !e.gso.Load() {
		t.Skip("no UDP_SEGMENT here")
	}
	e.gso.Store(gso)
	v.sfu.egress = e
	remote := addressOf(to)
	v.remote.Store(&remote)
	for range 9 {
		payloads = append(payloads, make([]byte, capture.MaxPayload))
	}
	return v, r, payloads
}

// The whole way of a frame, from the ring to the socket, allocates nothing.
func TestFramesAllocateNothing(t *testing.T) {
	for _, gso := range []bool{true, false} {
		t.Run(fmt.Sprintf("gso=%v", gso), func(t *testing.T) {
			v, r, payloads := path(t, gso)
			var b batch
			i, now := 0, testTime.Add(burstWait)
			one := func() {
				now = now.Add(33 * time.Millisecond)
				r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, now)
				v.pump(&b, now)
				b.trim()
				i++
			}
			for range ringPackets/len(payloads) + 1 { // the ring has its buffers
				one()
			}
			if n := testing.AllocsPerRun(1000, one); n != 0 {
				t.Errorf("%v allocations a frame", n)
			}
			if v.counts.Packets < 9000 {
				t.Errorf("%d packets sent", v.counts.Packets)
			}
		})
	}
}

func BenchmarkEgress(b *testing.B) {
	for _, gso := range []bool{true, false} {
		b.Run(fmt.Sprintf("gso=%v", gso), func(b *testing.B) {
			v, r, payloads := path(b, gso)
			var out batch
			now := testTime.Add(burstWait)
			b.ReportAllocs()
			for i := range b.N {
				now = now.Add(33 * time.Millisecond)
				r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, now)
				v.pump(&out, now)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(payloads)), "ns/packet")
		})
	}
}
