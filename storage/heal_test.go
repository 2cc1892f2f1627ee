package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// filled makes a directory with revs 1..n and returns it closed.
func filled(t *testing.T, n uint64) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	for rev := uint64(1); rev <= n; rev++ {
		save(t, s, rev)
		if _, err := s.NextConn(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, data []byte, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func corrupts(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, dbFile+".corrupt-*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func TestHealFromMirror(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":        func(b []byte) []byte { return nil },
		"one byte":     func(b []byte) []byte { return b[:1] },
		"half a page":  func(b []byte) []byte { return b[:pageSize/2] },
		"metas only":   func(b []byte) []byte { return b[:2*pageSize] },
		"three pages":  func(b []byte) []byte { return b[:3*pageSize] },
		"zeroed":       func(b []byte) []byte { clear(b); return b },
		"zeroed pages": func(b []byte) []byte { clear(b[2*pageSize:]); return b },
		"random":       func(b []byte) []byte { fill(b); return b },
		"text":         func(b []byte) []byte { return []byte(strings.Repeat("not a database\n", 1000)) },
		"too large":    func(b []byte) []byte { return append(b, make([]byte, maxSize)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t, 3)
			write(t, damage(read(t, dir, dbFile)), dir, dbFile)
			s := open(t, dir)
			wantRev(t, s, 3)
			report := strings.Join(s.Report(), "\n")
			if !strings.Contains(report, "config.db.corrupt-1") || !strings.Contains(report, "mirror") {
				t.Errorf("report %q", report)
			}
			if n, err := s.NextConn(); err != nil || n <= 3 {
				t.Errorf("connection %d, %v: not above those given out", n, err)
			}
			save(t, s, 4) // a healed store takes writes
			s.Close()
			s = open(t, dir)
			wantRev(t, s, 4)
			if len(s.Report()) != 0 {
				t.Errorf("healed twice: %q", s.Report())
			}
		})
	}
}

func fill(b []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func TestBothBad(t *testing.T) {
	dir := filled(t, 3)
	write(t, read(t, dir, dbFile)[:5000], dir, dbFile)
	write(t, read(t, dir, mirrorFile)[:50], dir, mirrorFile)
	s := open(t, dir)
	if _, ok, err := s.Config(); ok || err != nil {
		t.Errorf("a configuration out of nothing: %v %v", ok, err)
	}
	report := strings.Join(s.Report(), "\n")
	for _, want := range []string{"config.mirror", "config.db.corrupt-1", "no configuration"} {
		if !strings.Contains(report, want) {
			t.Errorf("report %q lacks %q", report, want)
		}
	}
	if s.Health() != nil {
		t.Error(s.Health())
	}
	save(t, s, 9)
}

// One bad value: the rest of the file is read, and the mirror is better.
func TestBadValue(t *testing.T) {
	for _, mirror := range []bool{true, false} {
		dir := filled(t, 3)
		raw := read(t, dir, dbFile)
		// Older copies of the page do not matter, but flip them all.
		raw = bytes.ReplaceAll(raw, []byte("name: rev-3"), []byte("name: rev-4"))
		write(t, raw, dir, dbFile)
		want := uint64(3)
		if !mirror {
			os.Remove(filepath.Join(dir, mirrorFile))
			want = 2
		}
		s := open(t, dir)
		wantRev(t, s, want)
		if r := s.Report(); len(r) != 2 || !strings.Contains(r[0], "checksum") {
			t.Errorf("report %q", r)
		}
		s.Close()
		s = open(t, dir)
		wantRev(t, s, want)
	}
}

func TestMirrorLost(t *testing.T) {
	dir := filled(t, 2)
	good := read(t, dir, mirrorFile)
	os.Remove(filepath.Join(dir, mirrorFile))
	s := open(t, dir)
	wantRev(t, s, 2)
	if string(read(t, dir, mirrorFile)) == "" || len(good) == 0 {
		t.Error("mirror not written again")
	}
	s.Close()
	write(t, good[:len(good)-1], dir, mirrorFile)
	s = open(t, dir)
	wantRev(t, s, 2)
	if r := s.Report(); len(r) != 1 || !strings.HasPrefix(r[0], "config.mirror: ") {
		t.Errorf("report %q", r)
	}
}

func TestMirrorNewer(t *testing.T) {
	dir := filled(t, 2)
	old := read(t, dir, dbFile)
	s := open(t, dir)
	save(t, s, 3)
	s.Close()
	write(t, old, dir, dbFile)
	s = open(t, dir)
	wantRev(t, s, 3)
	h, err := s.History()
	if err != nil || len(h) != 3 {
		t.Errorf("history %d, %v", len(h), err)
	}
}

func TestDatabaseMissing(t *testing.T) {
	dir := filled(t, 2)
	os.Remove(filepath.Join(dir, dbFile))
	s := open(t, dir)
	wantRev(t, s, 2)
	if r := s.Report(); len(r) != 2 || r[0] != "config.db: missing" {
		t.Errorf("report %q", r)
	}
}

func TestCorruptFilesBounded(t *testing.T) {
	dir := filled(t, 1)
	for i := range 12 {
		write(t, fmt.Appendf(nil, "garbage %d", i), dir, dbFile)
		s := open(t, dir)
		wantRev(t, s, 1)
		s.Close()
	}
	if got := fmt.Sprint(corrupts(t, dir)); got != "[config.db.corrupt-10 config.db.corrupt-11 config.db.corrupt-12]" {
		t.Errorf("kept %s", got)
	}
}

// Random damage anywhere: never a crash, never a wrong configuration, never a
// lost one while the mirror is good.
func TestRandomDamage(t *testing.T) {
	dir := filled(t, 5)
	db, mirror := read(t, dir, dbFile), read(t, dir, mirrorFile)
	used := db[:min(len(db), 40*pageSize)]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rounds := 200
	if testing.Short() {
		rounds = 60
	}
	for i := range rounds {
		bad := append([]byte(nil), db...)
		switch i % 4 {
		case 0: // flipped bits
			for range 1 + r.IntN(8) {
				bad[r.IntN(len(used))] ^= 1 << r.IntN(8)
			}
		case 1: // a zeroed stretch
			at := r.IntN(len(used))
			clear(bad[at:min(len(bad), at+1+r.IntN(2*pageSize))])
		case 2: // cut short
			bad = bad[:r.IntN(len(used))]
		case 3: // a page in another's place
			from, to := r.IntN(len(used)/pageSize), r.IntN(len(used)/pageSize)
			copy(bad[to*pageSize:(to+1)*pageSize], db[from*pageSize:])
		}
		write(t, bad, dir, dbFile)
		write(t, mirror, dir, mirrorFile)
		s, err := Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		wantRev(t, s, 5)
		if err := s.Health(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		save(t, s, 6)
		s.Close()
	}
}

// The pages go away under the running process: an error, no crash.
func TestFileCutWhileRunning(t *testing.T) {
	dir := filled(t, 3)
	s := open(t, dir)
	if err := os.Truncate(filepath.Join(dir, dbFile), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveConfig(doc(4)); !errors.Is(err, ErrDegraded) {
		t.Errorf("SaveConfig: %v", err)
	}
	wantRev(t, s, 3)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, dir)
	wantRev(t, s, 3)
	save(t, s, 4)
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := filled(t, 1)
	mount(t, "", dir, "", unix.MS_BIND, "")
	mount(t, "", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "not writable") {
		t.Errorf("Open: %v", err)
	}
}

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	write(t, nil, dir, "file")
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "file"), "not a directory"},
		{filepath.Join(dir, "file", "below"), "not a directory"},
		{"/proc/here", "no such file or directory"},
	} {
		err := CheckDir(c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("CheckDir(%s): %v", c.path, err)
		}
	}
	if err := CheckDir(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	if es, _ := os.ReadDir(filepath.Join(dir, "new")); len(es) != 0 {
		t.Errorf("left behind: %v", es)
	}
}

// mount mounts for the length of a test, or skips where one may not.
func mount(t *testing.T, fstype, dir, source string, flags uintptr, data string) {
	t.Helper()
	if source == "" {
		source = dir
	}
	if err := unix.Mount(source, dir, fstype, flags, data); errors.Is(err, unix.EPERM) {
		t.Skipf("needs the right to mount: %v", err)
	} else if err != nil {
		t.Fatalf("mount %s: %v", dir, err)
	}
	if flags&unix.MS_REMOUNT == 0 {
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	}
}

// fullDisk gives a small file system, already holding rev 1.
func fullDisk(t *testing.T) (dir string, fillUp func()) {
	t.Helper()
	dir = t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=320k")
	return dir, func() {
		f, err := os.Create(filepath.Join(dir, "ballast"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, pageSize))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func TestDiskFullWhileRunning(t *testing.T) {
	dir, fillUp := fullDisk(t)
	s := open(t, dir)
	save(t, s, 1)
	fillUp()
	var err error
	for rev := uint64(2); err == nil && rev < 50; rev++ {
		err = s.SaveConfig(Document{Bytes: []byte(strings.Repeat("z", 64<<10)), Rev: rev})
	}
	if !errors.Is(err, ErrDegraded) {
		t.Fatalf("a full disk took it: %v", err)
	}
	if !errors.Is(s.Health(), ErrDegraded) {
		t.Errorf("health %v", s.Health())
	}
	before, ok, err := s.Config()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	// The fault is final, though there is room again.
	os.Remove(filepath.Join(dir, "ballast"))
	if err := s.SaveConfig(doc(99)); !errors.Is(err, ErrDegraded) {
		t.Errorf("wrote after a failed write: %v", err)
	}
	a, err1 := s.NextConn()
	b, err2 := s.NextConn()
	if b <= a || !errors.Is(err1, ErrDegraded) || !errors.Is(err2, ErrDegraded) {
		t.Errorf("connections %d (%v), %d (%v)", a, err1, b, err2)
	}
	if h, err := s.History(); err != nil || len(h) != 1 || h[0].Rev != before.Rev {
		t.Errorf("history %v, %v", h, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, dir)
	if after, ok, _ := s.Config(); !ok || after.Rev != before.Rev {
		t.Errorf("after: rev %d (%v), before: %d", after.Rev, ok, before.Rev)
	}
	save(t, s, 99)
}

func TestDiskFullAtOpen(t *testing.T) {
	dir, fillUp := fullDisk(t)
	fillUp()
	s := open(t, dir) // nothing there, nothing can be made: the box runs all the same
	if !errors.Is(s.Health(), ErrDegraded) || !errors.Is(s.Health(), unix.ENOSPC) {
		t.Errorf("health %v", s.Health())
	}
	if _, ok, err := s.Config(); ok || err != nil {
		t.Error(ok, err)
	}
	s.Close()

	os.Remove(filepath.Join(dir, "ballast"))
	s = open(t, dir)
	save(t, s, 1)
	s.Close()
	fillUp()
	s = open(t, dir)
	wantRev(t, s, 1)
	s.Close()

	write(t, []byte("garbage in place"), dir, dbFile) // full, and unreadable too
	fillUp()
	s = open(t, dir)
	wantRev(t, s, 1)
	if len(s.Report()) == 0 {
		t.Error("nothing reported")
	}
}
