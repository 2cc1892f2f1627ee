package v4l2

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// node is an open device node: all that is asked of the kernel. One goroutine
// uses it; interrupt may be called by any.
type node interface {
	// ioctl does one request; errors are a [unix.Errno]. The argument
	// escapes: who wants no allocations keeps it.
	ioctl(request uintptr, arg unsafe.Pointer) error
	// await does a request, and again whenever the driver may have something,
	// until the answer is not EAGAIN; or, after interrupt, errInterrupted.
	await(request uintptr, arg unsafe.Pointer) error
	// mmap maps memory of the driver to be read.
	mmap(offset uintptr, length int) ([]byte, error)
	munmap(memory []byte) error
	// interrupt ends a waiting await and all later ones.
	interrupt()
	close() error
}

// errInterrupted is a wait that was ended from elsewhere.
var errInterrupted = errors.New("interrupted")

// kernelNode is a node of this machine. It waits by poll(2) and not by Go's
// poller, which is epoll: some drivers wake only those that ask anew each
// time, and some take who asks before there are buffers for a read() to come.
type kernelNode struct {
	fds [2]unix.PollFd // the node; an eventfd that interrupts

	mu     sync.Mutex // held to interrupt and to close
	closed bool
}

func openNode(path string) (node, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(fd))
	}
	return &kernelNode{fds: [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}}, nil
}

// ioctl does one request, again where a signal came between.
func ioctl(fd, request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg))
		runtime.KeepAlive(arg)
		if errno != unix.EINTR {
			return errno
		}
	}
}

func (n *kernelNode) ioctl(request uintptr, arg unsafe.Pointer) error {
	if errno := ioctl(uintptr(n.fds[0].Fd), request, arg); errno != 0 {
		return errno
	}
	return nil
}

func (n *kernelNode) await(request uintptr, arg unsafe.Pointer) error {
	n.fds[0].Revents = 0
	for {
		err := n.ioctl(request, arg)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if n.fds[0].Revents&^unix.POLLIN != 0 {
			return unix.EIO // there is an error, and the request does not tell
		}
		if _, err := unix.Poll(n.fds[:], -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n.fds[1].Revents != 0 {
			return errInterrupted
		}
	}
}

func (n *kernelNode) mmap(offset uintptr, length int) ([]byte, error) {
	return unix.Mmap(int(n.fds[0].Fd), int64(offset), length, unix.PROT_READ, unix.MAP_SHARED)
}

func (n *kernelNode) munmap(memory []byte) error { return unix.Munmap(memory) }

func (n *kernelNode) interrupt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		// A counter that is full wakes as well as one that is not.
		_, _ = unix.Write(int(n.fds[1].Fd), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (n *kernelNode) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return errors.Join(unix.Close(int(n.fds[0].Fd)), unix.Close(int(n.fds[1].Fd)))
}
