package forward

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSegments  = 64    // UDP_MAX_SEGMENTS of Linux
	maxSegmented = 65000 // bytes of one segmented send, below IP's limit

	// So many segmented sends refused in a row, to whomever, mean that the
	// box cannot; fewer, that one viewer's path cannot.
	maxRefused = 64

	// The media socket's buffer is shared by all viewers. Where it is full
	// because the link is slower than the CPU, a short wait paces the sends.
	// Where it stays full, the link is stuck: then frames are dropped without
	// a wait, so that streams' workers and viewers' goroutines go on.
	fullWait = 20 * time.Millisecond
	fullSkip = 200 * time.Millisecond
)

// egress sends batches from the media socket: with UDP generic segmentation
// offload a run of packets of equal size (the last may be shorter) is one
// system call. Where the kernel or the network card refuses, each packet is
// sent by itself. A send waits fullWait at most.
type egress struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	v6      bool // the socket's family
	gso     atomic.Bool
	refused atomic.Int32 // segmented sends in a row
	skip    atomic.Int64 // Unix nanoseconds until which a full buffer is not waited for
}

func newEgress(conn *net.UDPConn) (*egress, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	e := &egress{conn: conn, raw: raw}
	err = raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT)
		e.gso.Store(err == nil)
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		e.v6 = err == nil && domain == unix.AF_INET6
		// Packets are small enough for any path; a forged ICMP "too big"
		// must not end a viewer's media.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		if e.v6 {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		}
	})
	return e, err
}

// send sends a batch to one address and returns how many packets the kernel
// took. Only the batch must not be shared.
func (e *egress) send(to netip.AddrPort, b *batch) int {
	sent, from, whole := 0, 0, e.gso.Load()
	m := &b.send
	m.address(to, e.v6)
	for sent < len(b.ends) {
		n, end := 1, b.ends[sent]
		if whole {
			n, end = b.run(sent, from)
		}
		m.segment = 0
		if n > 1 {
			m.segment = b.ends[sent] - from
		}
		err := e.sendmsg(m, b.buf[from:end])
		if n > 1 && segmentationRefused(err) {
			whole = false // again, packet by packet
			e.refuse(err)
			continue
		}
		if err != nil {
			return sent
		}
		if n > 1 && e.refused.Load() != 0 {
			e.refused.Store(0)
		}
		sent, from = sent+n, end
	}
	return sent
}

// refuse notes that a segmented send was refused, and gives up on them where
// it will not get better.
func (e *egress) refuse(err error) {
	path := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE)
	if e.refused.Add(1) >= maxRefused || !path {
		e.gso.Store(false)
	}
}

// sendmsg sends p, and waits a little where the socket's buffer is full.
func (e *egress) sendmsg(m *sendmsg, p []byte) error {
	err := m.do(e.raw, p)
	if !errors.Is(err, unix.EAGAIN) {
		return err
	}
	limit := time.Now().Add(fullWait)
	for errors.Is(err, unix.EAGAIN) && time.Now().UnixNano() > e.skip.Load() {
		left := time.Until(limit)
		if left <= 0 {
			e.skip.Store(time.Now().Add(fullSkip).UnixNano())
			break
		}
		e.awaitRoom(left)
		err = m.do(e.raw, p)
	}
	return err
}

// awaitRoom waits until the socket takes more, in milliseconds, rounded up.
func (e *egress) awaitRoom(limit time.Duration) {
	_ = e.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, _ = unix.Poll(fds, int((limit+time.Millisecond-1)/time.Millisecond))
	})
}

// sendmsg is one sendmsg(2) call that never waits; its memory is used again
// for the next, so that sending allocates nothing.
type sendmsg struct {
	v4      unix.SockaddrInet4
	v6      unix.SockaddrInet6
	to      unix.Sockaddr // one of these
	segment int           // bytes a segment; 0: one packet
	control [3]uint64     // room for the control message, aligned
	payload []byte
	err     error
	call    func(fd uintptr)
}

// address sets where the following calls send to.
func (m *sendmsg) address(to netip.AddrPort, v6 bool) {
	if !v6 {
		m.v4.Addr, m.v4.Port, m.to = to.Addr().Unmap().As4(), int(to.Port()), &m.v4
		return
	}
	m.v6.Addr, m.v6.Port, m.v6.ZoneId, m.to = to.Addr().As16(), int(to.Port()), 0, &m.v6
	if zone := to.Addr().Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			m.v6.ZoneId = uint32(i.Index)
		}
	}
}

func (m *sendmsg) do(raw syscall.RawConn, p []byte) error {
	if m.call == nil {
		m.call = m.sys
	}
	m.payload = p
	err := raw.Control(m.call) // not Write, which has workers wait for each other
	m.payload = nil
	if err != nil {
		return err // the socket is closed
	}
	return m.err
}

// sys is called with the socket.
func (m *sendmsg) sys(fd uintptr) {
	var control []byte
	if m.segment > 0 {
		control = unsafe.Slice((*byte)(unsafe.Pointer(&m.control)), unix.CmsgSpace(2))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&m.control))
		h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(m.segment))
	}
	for {
		if _, m.err = unix.SendmsgN(int(fd), m.payload, control, m.to, unix.MSG_DONTWAIT); !errors.Is(m.err, unix.EINTR) {
			return
		}
	}
}

// run measures the packets from index i on, at offset from, that may share a
// segmented send.
func (b *batch) run(i, from int) (n, end int) {
	size := b.ends[i] - from
	end, n = b.ends[i], 1
	for i+n < len(b.ends) && n < maxSegments {
		next := b.ends[i+n] - end
		if next > size || b.ends[i+n]-from > maxSegmented {
			break
		}
		end = b.ends[i+n]
		n++
		if next < size {
			break // only the last may be shorter
		}
	}
	return n, end
}

// segmentationRefused tells the errors by which kernels, network cards and
// sandboxes refuse UDP_SEGMENT.
func segmentationRefused(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) ||
		errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP)
}
