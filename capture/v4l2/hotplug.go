package v4l2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Who tells of devices: the kernel, and udev when it has made the links and
// set the rights. Both are heard, for not every system has udev.
const ueventGroups = 1 | 2

// maxUevent bounds a message, in bytes: the kernel's have 2 KiB of variables.
const maxUevent = 8 << 10

// settle is how long after one message others about the same device come:
// udev's after the kernel's, the second node of a camera after its first.
const settle = 500 * time.Millisecond

// watcher hears of video devices that come and go.
type watcher struct {
	file *os.File
	conn syscall.RawConn
	buf  [maxUevent]byte
}

// watch begins to listen: what happens from now on is heard.
func watch() (*watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevents: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: ueventGroups}); err != nil {
		return nil, errors.Join(fmt.Errorf("uevents: %w", err), unix.Close(fd))
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "uevents")}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("uevents: %w", err), w.file.Close())
	}
	return w, nil
}

func (w *watcher) close() { _ = w.file.Close() } // a socket: nothing to lose

// next waits for a message about a video device. Where messages were lost it
// returns one that says neither what nor which.
func (w *watcher) next() (uevent, error) {
	for {
		n, err := w.receive()
		if errors.Is(err, unix.ENOBUFS) {
			return uevent{}, nil
		}
		if err != nil {
			return uevent{}, err
		}
		if e := parseUevent(w.buf[:n]); e.subsystem == "video4linux" {
			return e, nil
		}
	}
}

// receive reads a message of the kernel or of a process of root: nobody
// else's count, though all may send to this socket.
func (w *watcher) receive() (n int, err error) {
	failed := w.conn.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		n, from, err = unix.Recvfrom(int(fd), w.buf[:], 0)
		if sender, ok := from.(*unix.SockaddrNetlink); err == nil && (!ok || sender.Groups == 0) {
			n = 0 // to us alone, not to a group, which takes privileges
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// uevent is what is used of a message.
type uevent struct {
	action    string // "add", "remove", "change" …
	subsystem string
	node      string // name below /dev
	kernel    bool   // not from udev, who is later
}

// parseUevent reads a message of the kernel ("add@/devices/…" and variables)
// or of udev ("libudev", a binary header, variables). Each variable ends with
// a zero byte; what is none is skipped.
func parseUevent(b []byte) (e uevent) {
	e.kernel = !bytes.HasPrefix(b, []byte("libudev\x00"))
	if !e.kernel && len(b) >= 20 { // sd-device's monitor_netlink_header
		from := binary.NativeEndian.Uint32(b[16:])
		b = b[min(int64(from), int64(len(b))):]
	}
	for field := range bytes.SplitSeq(b, []byte{0}) {
		name, value, ok := bytes.Cut(field, []byte{'='})
		if !ok {
			continue
		}
		switch string(name) {
		case "ACTION":
			e.action = string(value)
		case "SUBSYSTEM":
			e.subsystem = string(value)
		case "DEVNAME":
			e.node = string(bytes.TrimPrefix(value, []byte("/dev/")))
		}
	}
	return e
}

// mayAppear tells whether there may be a device now that was not there.
func (e uevent) mayAppear() bool { return e.action != "remove" }

// await blocks until ctx is done, then it is ctx's error, or until a message
// that found accepts.
func (w *watcher) await(ctx context.Context, found func(uevent) bool) error {
	defer context.AfterFunc(ctx, w.interrupt)()
	for {
		e, err := w.next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("uevents: %w", err)
		}
		if found(e) {
			return nil
		}
	}
}

// Watch calls changed, from this goroutine, whenever a capture device may have
// come, once for all that come together. It blocks until ctx is done, then it
// returns nil, or until the kernel tells no more.
func Watch(ctx context.Context, changed func()) error {
	w, err := watch()
	if err != nil {
		return fmt.Errorf("v4l2: %w", err)
	}
	defer w.close()
	defer context.AfterFunc(ctx, w.interrupt)()
	for {
		e, err := w.next()
		if err == nil && e.mayAppear() {
			err = w.settle()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("v4l2: uevents: %w", err)
		case e.mayAppear():
			changed()
		}
	}
}

// settle waits until nothing has been told for a while.
func (w *watcher) settle() error {
	for {
		if err := w.file.SetReadDeadline(time.Now().Add(settle)); err != nil {
			return err
		}
		if _, err := w.next(); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			// The caller looks at its context after this, whose end may have
			// been what the deadline was for.
			return w.file.SetReadDeadline(time.Time{})
		}
	}
}

// interrupt ends waiting.
func (w *watcher) interrupt() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }
