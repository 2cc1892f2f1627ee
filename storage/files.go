package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CheckDir makes dir (mode 0700) where it is missing and says whether files
// can be made in it. The error names the directory and the reason. A full
// disk is no fault of the directory and passes: [Open] copes with that.
func CheckDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory %s: %w", dir, reason(err))
	}
	f, err := os.CreateTemp(dir, ".probe"+asideMark)
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data directory %s: not writable: %w", dir, reason(err))
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("data directory %s: not writable: %w", dir, reason(err))
	}
	return nil
}

// reason strips operation and path, which the caller names better.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// asideMark is in the name of every file that is not finished; such files are
// swept when the directory is opened.
const asideMark = ".aside-"

// aside writes a finished, synced file of mode 0600 beside path, under a
// temporary name. The caller renames or removes it.
func aside(path string, data []byte) (tmp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+asideMark)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return f.Name(), err
}

// replace puts data at path such that a power cut leaves the old file or the
// new one, never a mixture.
func replace(path string, data []byte) error {
	tmp, err := aside(path, data)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// place is replace for a file that must not exist yet: where another process
// was first, the error is fs.ErrExist and its file stays.
func place(path string, data []byte) error {
	tmp, err := aside(path, data)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // still there after link(2), or after a failure
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Link(tmp, path) // file systems without RENAME_NOREPLACE
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// sweep removes what an interrupted process left unfinished more than a
// minute ago; younger files may belong to a process at work.
func sweep(dir string, now time.Time) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"+asideMark+"*"))
	for _, name := range names {
		if fi, err := os.Stat(name); err == nil && now.Sub(fi.ModTime()).Abs() > time.Minute {
			os.Remove(name)
		}
	}
}

// lockWait is how long an opener waits for the one before it to end.
const lockWait = time.Second

// lockDir takes the exclusive lock of a data directory; closing the file
// frees it, as does the death of the process. The lock is on the directory
// itself, so that no file must be written for it.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, reason(err))
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(50 * time.Millisecond) {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return d, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	d.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("data directory %s: %w", dir, ErrInUse)
	}
	return nil, fmt.Errorf("data directory %s: lock: %w", dir, err)
}

// keepCorrupt is how many bad databases are kept for people to look at.
const keepCorrupt = 3

// setAside renames a bad file to the next free "NAME.corrupt-N" and removes
// all but the newest.
func setAside(path string) (name string, err error) {
	olds, err := filepath.Glob(path + ".corrupt-*")
	if err != nil {
		return "", err
	}
	byN := map[int]string{}
	last := 0
	for _, old := range olds {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(old, path), ".corrupt-%d", &n); err == nil {
			byN[n] = old
			last = max(last, n)
		}
	}
	name = fmt.Sprintf("%s.corrupt-%d", path, last+1)
	if err := os.Rename(path, name); err != nil {
		return "", err
	}
	for n, old := range byN {
		if n <= last+1-keepCorrupt {
			os.RemoveAll(old)
		}
	}
	return name, syncDir(filepath.Dir(path))
}
