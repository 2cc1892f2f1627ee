package forward

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
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

// sendAll sends a batch to one address and says how many packets went.
func sendAll(e *egress, to netip.AddrPort, b *batch) int {
	b.egress = e
	b.parcels = append(b.parcels, parcel{to: to, packets: len(b.ends), bytes: len(b.buf)})
	e.send(b)
	sent := b.parcels[0].sent
	b.clear()
	return sent
}

// ways are the ways to send that a box may leave.
var ways = []struct {
	name      string
	gso, many bool
}{{"GSO", true, true}, {"GSO without sendmmsg", true, false}, {"sendmmsg", false, true}, {"sendmsg", false, false}}

func TestEgress(t *testing.T) {
	for _, sockets := range [][2]string{{"127.0.0.1:0", "127.0.0.1:0"}, {"[::]:0", "127.0.0.1:0"}, {"[::]:0", "[::1]:0"}} {
		for _, way := range ways {
			for _, sizes := range [][]int{{1}, {1172, 1172, 300}, {100, 200, 200, 50, 50, 50, 1200}, make100(1172)} {
				t.Run(fmt.Sprintf("%s/%s/%d", sockets, way.name, len(sizes)), func(t *testing.T) {
					e, to := socketPair(t, sockets[0], sockets[1])
					if way.gso && !e.gso.Load() {
						t.Skip("no UDP_SEGMENT here")
					}
					e.gso.Store(way.gso)
					e.many.Store(way.many)
					if n := sendAll(e, addressOf(to), packetsOf(sizes...)); n != len(sizes) {
						t.Fatalf("%d packets sent of %d", n, len(sizes))
					}
					if way.gso != e.gso.Load() || way.many != e.many.Load() {
						t.Errorf("GSO %v, sendmmsg %v afterwards", e.gso.Load(), e.many.Load())
					}
					receive(t, to, sizes)
				})
			}
		}
	}
}

// receive expects the packets of packetsOf.
func receive(t *testing.T, from *net.UDPConn, sizes []int) {
	t.Helper()
	buf := make([]byte, 2000)
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i, size := range sizes {
		n, err := from.Read(buf)
		if err != nil || n != size || buf[0] != byte(i) {
			t.Fatalf("packet %d: %d bytes of %d (%v)", i, n, size, err)
		}
	}
}

// Where sendmmsg(2) is refused, as by a sandbox, packets go one by one from
// then on, and none is lost.
func TestSendmmsgRefused(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	e.gso.Store(false)
	e.sendmmsg = 1 << 20 // no such system call: ENOSYS
	sizes := []int{900, 900, 900}
	if n := sendAll(e, addressOf(to), packetsOf(sizes...)); n != len(sizes) || e.many.Load() {
		t.Fatalf("%d packets sent of %d; sendmmsg %v", n, len(sizes), e.many.Load())
	}
	receive(t, to, sizes)
}

// A destination that the kernel refuses says nothing of sendmmsg.
func TestRefusedDestination(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	e.gso.Store(false)
	if n := sendAll(e, netip.MustParseAddrPort("127.0.0.1:0"), packetsOf(10, 10)); n != 0 || !e.many.Load() {
		t.Errorf("%d packets sent to port 0; sendmmsg %v", n, e.many.Load())
	}
	receiveAll := []int{10, 10}
	if n := sendAll(e, addressOf(to), packetsOf(receiveAll...)); n != 2 {
		t.Errorf("%d packets sent to another", n)
	}
	receive(t, to, receiveAll)
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
	if n := sendAll(e, addressOf(to), packetsOf(1000, 1000)); n != 2 || !e.gso.Load() || e.refused.Load() != 0 {
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
	if n := sendAll(e, addressOf(to), packetsOf(1000, 1000)); n != 2 {
		t.Errorf("%d packets sent one by one", n)
	}
}

func TestEgressErrors(t *testing.T) {
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	if n := sendAll(e, netip.MustParseAddrPort("127.0.0.1:0"), packetsOf(10, 10)); n != 0 {
		t.Errorf("%d packets sent to port 0", n)
	}
	_ = e.conn.Close()
	if n := sendAll(e, addressOf(to), packetsOf(10)); n != 0 {
		t.Errorf("%d packets sent through a closed socket", n)
	}
	if err := new(flight).do(e.raw); !errors.Is(err, net.ErrClosed) {
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
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			v, r, payloads := path(t, way.gso)
			v.sfu.egress.many.Store(way.many)
			var b batch
			i, now := 0, testTime.Add(burstWait)
			one := func() {
				now = now.Add(33 * time.Millisecond)
				r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, now)
				v.pump(&b, now)
				b.flush()
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
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			v, r, payloads := path(b, way.gso)
			v.sfu.egress.many.Store(way.many)
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

// BenchmarkFanOut is a stream's worker: a frame to each of many viewers, who
// read what they get between the rounds.
func BenchmarkFanOut(b *testing.B) {
	for _, viewers := range []int{10, 50, 200} {
		b.Run(fmt.Sprint(viewers), func(b *testing.B) {
			first, r, payloads := path(b, true)
			all := []*Viewer{first}
			var sockets []syscall.RawConn
			for len(all) < viewers {
				v, _ := bareViewer(b)
				v.sfu, v.stream = first.sfu, first.stream
				v.lanes = []*lane{newLane([]*ring{r}, 90000, videoFormat, testTime)}
				_, to := socketPair(b, "127.0.0.1:0", "127.0.0.1:0")
				remote := addressOf(to)
				v.remote.Store(&remote)
				raw, err := to.SyscallConn()
				if err != nil {
					b.Fatal(err)
				}
				all, sockets = append(all, v), append(sockets, raw)
			}
			var out batch
			buf, now, before := make([]byte, 2000), testTime.Add(burstWait), uint64(0)
			read := func(fd uintptr) {
				for {
					if _, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); err != nil {
						return
					}
				}
			}
			for i := range b.N + 20 {
				b.StopTimer()
				for _, s := range sockets {
					_ = s.Control(read)
				}
				now = now.Add(33 * time.Millisecond)
				r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i == 0, Payloads: payloads}, now)
				if i == 20 {
					before = first.sfu.counters.packets.Load()
				}
				if i >= 20 { // all are at the newest frame, and the memory is there
					b.StartTimer()
				}
				for _, v := range all {
					v.pump(&out, now)
				}
				out.flush()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(first.sfu.counters.packets.Load()-before), "ns/packet")
		})
	}
}
