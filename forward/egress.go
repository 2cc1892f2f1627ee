package forward

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSegments  = 64    // UDP_MAX_SEGMENTS of Linux
	maxSegmented = 65000 // bytes of one segmented send, below IP's limit
)

// egress sends batches from the media socket: with UDP generic segmentation
// offload a run of packets of equal size (the last may be shorter) is one
// system call. Where the kernel or the network card refuses, once, each
// packet is sent by itself from then on.
type egress struct {
	conn *net.UDPConn
	gso  atomic.Bool
}

func newEgress(conn *net.UDPConn) *egress {
	e := &egress{conn: conn}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_, err := unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT)
			e.gso.Store(err == nil)
		})
	}
	return e
}

// send sends a batch to one address and returns how many packets the kernel
// took.
func (e *egress) send(to netip.AddrPort, b *batch) int {
	sent, from := 0, 0
	for sent < len(b.ends) {
		n, end := 1, b.ends[sent]
		if e.gso.Load() {
			n, end = b.run(sent, from)
		}
		var err error
		if n == 1 {
			_, err = e.conn.WriteToUDPAddrPort(b.buf[from:end], to)
		} else {
			err = e.sendRun(to, b, from, end, b.ends[sent]-from)
			if segmentationRefused(err) {
				e.gso.Store(false)
				continue // again, packet by packet
			}
		}
		if err != nil {
			return sent
		}
		sent, from = sent+n, end
	}
	return sent
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

// sendRun sends the packets of the given size in b.buf[from:end] in one call.
func (e *egress) sendRun(to netip.AddrPort, b *batch, from, end, size int) error {
	control := unsafe.Slice((*byte)(unsafe.Pointer(&b.control)), unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.control))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(size))
	_, _, err := e.conn.WriteMsgUDPAddrPort(b.buf[from:end], control, to)
	return err
}

// segmentationRefused tells the errors by which kernels, network cards and
// sandboxes refuse UDP_SEGMENT.
func segmentationRefused(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) ||
		errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP)
}
