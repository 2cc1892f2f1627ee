package guest

import (
	"bytes"
	"fmt"
)

// archive is an initramfs in the making: cpio's "newc" format
// (Linux's Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	b     bytes.Buffer
	inode int
}

func (a *archive) folders(names ...string) {
	for _, n := range names {
		a.entry(n, nil, 0o040755)
	}
}

func (a *archive) file(name string, b []byte, mode int) { a.entry(name, b, 0o100000|mode) }

func (a *archive) entry(name string, b []byte, mode int) {
	a.inode++
	// magic, ino, mode, uid, gid, nlink, mtime, size, dev, rdev, name's size, checksum
	fmt.Fprintf(&a.b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, len(b), 0, 0, 0, 0, len(name)+1, 0)
	a.b.WriteString(name)
	a.b.WriteByte(0)
	a.pad()
	a.b.Write(b)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", nil, 0)
	return a.b.Bytes()
}
