package forward

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arrivalsRound is how many datagrams one system call reads at most.
const arrivalsRound = 32

// arrivals is the memory of reading the media socket, by recvmmsg(2), or by
// recvmsg(2) where a sandbox refuses that. Reading allocates nothing.
type arrivals struct {
	names   [arrivalsRound]unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is shorter
	headers [arrivalsRound]message
	data    [arrivalsRound]unix.Iovec
	buffers [arrivalsRound][receiveMTU]byte

	recvmmsg uintptr // the system call's number; 0: it is refused
	count    int
	errno    unix.Errno
	sys      func(fd uintptr) bool
}

func newArrivals() *arrivals {
	a := &arrivals{recvmmsg: unix.SYS_RECVMMSG}
	for i := range a.headers {
		h := &a.headers[i]
		a.data[i].Base = &a.buffers[i][0]
		a.data[i].SetLen(receiveMTU)
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&a.names[i])), &a.data[i]
		h.SetIovlen(1)
		h.Namelen = unix.SizeofSockaddrInet6
	}
	a.sys = a.receive
	return a
}

// read waits for datagrams and says how many there are; they stand until the
// next read.
func (a *arrivals) read(raw syscall.RawConn) (int, error) {
	if err := raw.Read(a.sys); err != nil {
		return 0, err // the socket is closed
	}
	if a.errno != 0 {
		return 0, a.errno
	}
	return a.count, nil
}

// receive is called with the socket; false waits until it has something.
func (a *arrivals) receive(fd uintptr) bool {
	for i := range a.headers[:max(1, a.count)] { // those that the last call has written
		a.headers[i].Namelen, a.headers[i].Flags = unix.SizeofSockaddrInet6, 0
	}
	for {
		var n uintptr
		if a.recvmmsg != 0 {
			n, _, a.errno = unix.Syscall6(a.recvmmsg, fd, uintptr(unsafe.Pointer(&a.headers[0])), arrivalsRound, unix.MSG_DONTWAIT, 0, 0)
			if a.errno == unix.ENOSYS || a.errno == unix.EPERM {
				a.recvmmsg = 0
				continue
			}
		} else {
			n, _, a.errno = unix.Syscall6(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&a.headers[0])), unix.MSG_DONTWAIT, 0, 0, 0)
			a.headers[0].size, n = uint32(n), 1
		}
		switch a.errno {
		case 0:
			a.count = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			return true
		}
	}
}

// datagram is one of those that were read, and where it comes from; whole is
// false where it was longer than any that a viewer sends. IPv4 addresses are
// unmapped.
func (a *arrivals) datagram(i int) (p []byte, from netip.AddrPort, whole bool) {
	h, name := &a.headers[i], &a.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:]) // at the same place in both
	var addr netip.Addr
	if name.Family == unix.AF_INET {
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	} else {
		addr = netip.AddrFrom16(name.Addr).Unmap()
		if name.Scope_id != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
		}
	}
	return a.buffers[i][:min(h.size, receiveMTU)], netip.AddrPortFrom(addr, port), h.Flags&unix.MSG_TRUNC == 0
}
