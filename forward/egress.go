package forward

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

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

// egress sends batches from the media socket with as few system calls as the
// box allows. A run of packets of equal size (the last may be shorter) is
// one message by UDP generic segmentation offload; where the kernel or the
// network card refuses that, each packet is a message. A batch's messages go by
// one sendmmsg(2); where a sandbox refuses that, by a sendmsg(2) each. What the
// box refuses is found out by trying. A send waits fullWait at most.
//
// It may be used from any goroutine: the calls never wait in the kernel, so
// they do not take turns on the socket.
type egress struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	v6       bool    // the socket's family
	sendmmsg uintptr // the system call's number
	gso      atomic.Bool
	many     atomic.Bool  // sendmmsg works
	refused  atomic.Int32 // segmented sends in a row
	skip     atomic.Int64 // Unix nanoseconds until which a full buffer is not waited for
}

func newEgress(conn *net.UDPConn) (*egress, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	e := &egress{conn: conn, raw: raw, sendmmsg: unix.SYS_SENDMMSG}
	e.many.Store(true)
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

// send sends what was posted in a batch, and notes how many packets of each
// parcel the kernel took. A viewer that cannot be reached costs the others
// nothing. Only the batch must not be shared.
func (e *egress) send(b *batch) {
	f := &b.flight
	for i := 0; i < len(b.ends); {
		f.load(b, i, e.gso.Load(), e.v6)
		err := e.launch(f, b.hasty)
		for k, n := range f.packets[:f.done] {
			f.parcels[k].sent += n
			i += n
			if n > 1 && e.refused.Load() != 0 {
				e.refused.Store(0)
			}
		}
		if err == nil {
			continue
		}
		p := f.parcels[f.done]
		if f.packets[f.done] > 1 && segmentationRefused(err) {
			p.single = true // again, packet by packet
			e.refuse(err)
		} else {
			i = p.packets
		}
	}
}

// sendOne sends one packet at once and reports whether the kernel took it.
func (e *egress) sendOne(to netip.AddrPort, packet []byte) bool {
	b := batches.Get().(*batch)
	defer b.release()
	b.buf = append(b.buf, packet...)
	b.ends = append(b.ends, len(b.buf))
	b.parcels = append(b.parcels, parcel{to: to, packets: 1, bytes: len(b.buf)})
	e.send(b)
	taken := b.parcels[0].sent == 1
	b.clear()
	return taken
}

// refuse notes that a segmented send was refused, and gives up on them where
// it will not get better.
func (e *egress) refuse(err error) {
	path := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE)
	if e.refused.Add(1) >= maxRefused || !path {
		e.gso.Store(false)
	}
}

// launch sends the messages of a flight, and waits a little where the
// socket's buffer is full, unless hasty. An error is that of message f.done.
func (e *egress) launch(f *flight, hasty bool) error {
	var limit time.Time
	for f.done < f.count {
		several := f.count-f.done > 1 && e.many.Load()
		f.call = unix.SYS_SENDMSG
		if several {
			f.call = e.sendmmsg
		}
		err := f.do(e.raw)
		if several && (err == unix.ENOSYS || err == unix.EPERM) {
			f.call = unix.SYS_SENDMSG // EPERM may be a firewall's as well
			if err = f.do(e.raw); err == nil {
				e.many.Store(false)
			}
		}
		if err == unix.EAGAIN && !hasty && e.awaitRoom(&limit) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitRoom waits until the socket takes more, until the limit, which it sets
// at first. It reports whether there is sense in another try.
func (e *egress) awaitRoom(limit *time.Time) bool {
	now := time.Now()
	if limit.IsZero() {
		*limit = now.Add(fullWait)
	}
	if now.UnixNano() <= e.skip.Load() {
		return false
	}
	left := limit.Sub(now)
	if left <= 0 {
		e.skip.Store(now.Add(fullSkip).UnixNano())
		return false
	}
	_ = e.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, _ = unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
	})
	return true
}

// segmentationRefused tells the errors by which kernels, network cards and
// sandboxes refuse UDP_SEGMENT.
func segmentationRefused(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) ||
		errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP)
}
