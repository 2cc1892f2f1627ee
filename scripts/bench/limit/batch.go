package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch gathers messages of several segments each for one sendmmsg.
type batch struct {
	raw      syscall.RawConn
	n        int
	messages [64]message
	vectors  [64]unix.Iovec
	names    [64]unix.RawSockaddrInet4
	controls [64][controlLen]byte
}

// message is struct mmsghdr of sendmmsg(2); Go pads it as C does.
type message struct {
	header unix.Msghdr
	sent   uint32
}

// controlLen holds one UDP_SEGMENT of 16 bits; CMSG_SPACE(2) on 64-bit machines.
const controlLen = 24

func newBatch(socket *net.UDPConn) (*batch, error) {
	if unix.CmsgSpace(2) > controlLen {
		return nil, errors.New("batch: the control message does not fit")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	_ = socket.SetWriteBuffer(4 << 20)
	return &batch{raw: raw}, nil
}

// add appends a message; its bytes must stay until the next flush. A full
// batch is flushed first.
func (b *batch) add(to netip.AddrPort, data []byte, segment int) error {
	if b.n == len(b.messages) {
		if err := b.flush(); err != nil {
			return err
		}
	}
	i := b.n
	b.n++
	name := &b.names[i]
	name.Family = unix.AF_INET
	name.Addr = to.Addr().As4()
	port := to.Port()
	name.Port = port<<8 | port>>8 // network order on a little-endian machine
	b.vectors[i].Base = unsafe.SliceData(data)
	b.vectors[i].SetLen(len(data))
	control := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i]))
	control.Level, control.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	control.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&b.controls[i][unix.CmsgLen(0)])) = uint16(segment)
	h := &b.messages[i].header
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(name)), unix.SizeofSockaddrInet4
	h.Iov, h.Iovlen = &b.vectors[i], 1
	h.Control = &b.controls[i][0]
	h.SetControllen(unix.CmsgSpace(2))
	return nil
}

// flush sends what is there.
func (b *batch) flush() error {
	for from := 0; from < b.n; {
		var sent uintptr
		var errno syscall.Errno
		err := b.raw.Write(func(fd uintptr) bool {
			sent, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.messages[from])), uintptr(b.n-from), 0, 0, 0)
			return errno != unix.EAGAIN
		})
		if err != nil {
			return err
		}
		if errno != 0 {
			b.n = 0
			return fmt.Errorf("sendmmsg: %w", errno)
		}
		from += int(sent)
	}
	b.n = 0
	return nil
}
