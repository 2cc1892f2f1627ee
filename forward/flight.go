package forward

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flightMessages is how many messages go by one sendmmsg.
const flightMessages = 32

// message is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type message struct {
	unix.Msghdr
	size uint32 // bytes sent or received
}

// flight is the memory of the system calls that send a batch. It is used again
// for the next, so that sending allocates nothing.
type flight struct {
	names   [flightMessages]unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is shorter
	headers [flightMessages]message
	data    [flightMessages]unix.Iovec
	control [flightMessages][3]uint64 // a control message each, aligned
	packets [flightMessages]int       // in each message
	parcels [flightMessages]*parcel   // of each message

	count, done int     // messages loaded; of these, sent
	call        uintptr // which system call sends
	errno       unix.Errno
	sys         func(fd uintptr)
}

// address sets where a message goes.
func (f *flight) address(message int, to netip.AddrPort, v6 bool) {
	name, h := &f.names[message], &f.headers[message]
	h.Name = (*byte)(unsafe.Pointer(name))
	networkOrder(&name.Port, to.Port()) // at the same place in both
	if v6 {
		name.Family, name.Addr, name.Scope_id = unix.AF_INET6, to.Addr().As16(), zoneIndex(to.Addr().Zone())
		h.Namelen = unix.SizeofSockaddrInet6
		return
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	v4.Family, v4.Addr = unix.AF_INET, to.Addr().Unmap().As4()
	h.Namelen = unix.SizeofSockaddrInet4
}

// networkOrder stores a port as socket addresses have it.
func networkOrder(to *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(to))[:], port)
}

// zoneIndex is the interface that a zone names, by number or name; 0: none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}

// load makes messages of the packets from index i on, as many as there is
// room for: of runs of equal packets where whole, else of one each. They point
// into the batch's buffer.
func (f *flight) load(b *batch, i int, whole, v6 bool) {
	p, first, base := 0, 0, 0 // a parcel, its first packet, where its bytes begin
	f.count, f.done = 0, 0
	for ; i < len(b.ends) && f.count < flightMessages; f.count++ {
		for b.parcels[p].packets <= i {
			first, base = b.parcels[p].packets, b.parcels[p].bytes
			p++
		}
		to, from := &b.parcels[p], 0
		if i > first {
			from = b.ends[i-1]
		}
		n, end := 1, b.ends[i]
		if whole && !to.single {
			n, end = alike(b.ends[i:to.packets], from)
		}
		h, data := &f.headers[f.count], &f.data[f.count]
		data.Base = unsafe.SliceData(b.buf[base+from : base+end])
		data.SetLen(end - from)
		h.Iov, h.Control = data, nil
		h.SetIovlen(1)
		h.SetControllen(0)
		f.address(f.count, to.to, v6)
		if n > 1 {
			f.segment(f.count, b.ends[i]-from)
		}
		f.packets[f.count], f.parcels[f.count] = n, to
		i += n
	}
}

// segment has the kernel cut a message into packets of size bytes.
func (f *flight) segment(message, size int) {
	control := (*byte)(unsafe.Pointer(&f.control[message]))
	h := (*unix.Cmsghdr)(unsafe.Pointer(control))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Add(unsafe.Pointer(control), unix.CmsgLen(0))) = uint16(size)
	f.headers[message].Control = control
	f.headers[message].SetControllen(unix.CmsgSpace(2))
}

// do makes one system call. It never waits: on a full socket buffer the error
// is EAGAIN. It does not keep others from sending either, as RawConn.Write
// would.
func (f *flight) do(raw syscall.RawConn) error {
	if f.sys == nil {
		f.sys = f.send
	}
	if err := raw.Control(f.sys); err != nil {
		return err // the socket is closed
	}
	if f.errno != 0 {
		return f.errno
	}
	return nil
}

// send is called with the socket.
func (f *flight) send(fd uintptr) {
	first := unsafe.Pointer(&f.headers[f.done])
	for {
		n := uintptr(1)
		if f.call == unix.SYS_SENDMSG {
			_, _, f.errno = unix.Syscall6(f.call, fd, uintptr(first), unix.MSG_DONTWAIT, 0, 0, 0)
		} else {
			n, _, f.errno = unix.Syscall6(f.call, fd, uintptr(first), uintptr(f.count-f.done), unix.MSG_DONTWAIT, 0, 0)
		}
		switch f.errno {
		case unix.EINTR:
			continue
		case 0:
			f.done += int(n)
		}
		return
	}
}

// forget lets go of the buffer that was sent.
func (f *flight) forget() { clear(f.data[:]) }

// alike measures how many packets, which begin at from and end at ends, may
// share a segmented send, and where the last of them ends.
func alike(ends []int, from int) (n, end int) {
	size := ends[0] - from
	for n, end = 1, ends[0]; n < len(ends) && n < maxSegments; n++ {
		next := ends[n] - end
		if next > size || ends[n]-from > maxSegmented {
			break
		}
		end = ends[n]
		if next < size {
			return n + 1, end // only the last may be shorter
		}
	}
	return n, end
}
