package m2m

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// node is an open device node: what is asked of the kernel, and nothing else.
type node interface {
	ioctl(request uint32, arg unsafe.Pointer) error
	mmap(offset int64, length int) ([]byte, error)
	munmap(b []byte) error
	// wait blocks until one of the events of poll(2) has come, for d at most:
	// then it returns [os.ErrDeadlineExceeded].
	wait(events int16, d time.Duration) error
	close() error
}

// file is a node of the kernel.
type file struct {
	fd   int
	poll [1]unix.PollFd
}

func openNode(path string) (node, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &file{fd: fd}, nil
}

func (f *file) ioctl(request uint32, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

func (f *file) mmap(offset int64, length int) ([]byte, error) {
	return unix.Mmap(f.fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (f *file) munmap(b []byte) error { return unix.Munmap(b) }

func (f *file) wait(events int16, d time.Duration) error {
	for until := time.Now().Add(d); ; {
		f.poll[0] = unix.PollFd{Fd: int32(f.fd), Events: events}
		n, err := unix.Poll(f.poll[:], int(max(0, time.Until(until)).Milliseconds())+1)
		switch {
		case err == unix.EINTR: //nolint:errorlint // never wrapped; comparing costs no allocation
			continue
		case err != nil:
			return err
		case n == 0:
			return os.ErrDeadlineExceeded
		case f.poll[0].Revents&events != 0:
			return nil
		}
		return fmt.Errorf("poll says 0x%x", f.poll[0].Revents)
	}
}

func (f *file) close() error { return unix.Close(f.fd) }

// nodes are the paths of all video devices, in the order of their names.
func nodes() ([]string, error) {
	const class = "/sys/class/video4linux"
	entries, err := os.ReadDir(class)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "video") {
			paths = append(paths, filepath.Join("/dev", e.Name()))
		}
	}
	return paths, nil
}
