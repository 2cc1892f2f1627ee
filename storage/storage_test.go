package storage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("EDGED_STORAGE_VICTIM"); dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// open opens a store and, when the test ends, checks that its file is whole.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if s.Health() != nil {
			return
		}
		var c contents
		db, err := openDB(filepath.Join(dir, dbFile), &c)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err != nil {
			t.Errorf("after the test: %v", err)
			return
		}
		db.Close()
	})
	return s
}

func doc(rev uint64) Document {
	return Document{
		Bytes:  fmt.Appendf(nil, "name: rev-%d\n# %s\n", rev, strings.Repeat("x", int(rev%7)*900)),
		Source: "console", Epoch: 1, Rev: rev,
	}
}

func save(t *testing.T, s *Store, rev uint64) {
	t.Helper()
	if err := s.SaveConfig(doc(rev)); err != nil {
		t.Fatal(err)
	}
}

// wantRev checks the configuration, its bytes included.
func wantRev(t *testing.T, s *Store, rev uint64) {
	t.Helper()
	got, ok, err := s.Config()
	if err != nil || !ok {
		t.Fatalf("Config: ok %v, err %v; report %q", ok, err, s.Report())
	}
	if got.Rev != rev || !bytes.Equal(got.Bytes, doc(rev).Bytes) {
		t.Fatalf("configuration is rev %d %.20q, want rev %d", got.Rev, got.Bytes, rev)
	}
}

func TestStoreKeepsConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	s := open(t, dir)
	if _, ok, err := s.Config(); ok || err != nil {
		t.Fatalf("a new store has a configuration: %v %v", ok, err)
	}
	if r := s.Report(); len(r) != 0 {
		t.Fatalf("a new store healed %q", r)
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	d := Document{Bytes: []byte("name: a\n"), Source: "page", Epoch: 3, Rev: 9, Saved: when}
	if err := s.SaveConfig(d); err != nil {
		t.Fatal(err)
	}
	d.Bytes[0] = '!' // the store keeps its own copy
	s.Close()

	s = open(t, dir)
	got, ok, err := s.Config()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want := Document{Bytes: []byte("name: a\n"), Source: "page", Epoch: 3, Rev: 9, Saved: when, Hash: sha256.Sum256([]byte("name: a\n"))}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if r := s.Report(); len(r) != 0 {
		t.Errorf("a good store healed %q", r)
	}
	if s.Bytes() < 4*pageSize {
		t.Errorf("Bytes() = %d", s.Bytes())
	}
	for _, name := range []string{dbFile, mirrorFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: mode %v, err %v", name, fi.Mode(), err)
		}
	}
}

func TestStoreKeepsLastFive(t *testing.T) {
	s := open(t, t.TempDir())
	for rev := uint64(1); rev <= 8; rev++ {
		save(t, s, rev)
	}
	h, err := s.History()
	if err != nil {
		t.Fatal(err)
	}
	var revs []uint64
	for _, d := range h {
		revs = append(revs, d.Rev)
	}
	if fmt.Sprint(revs) != "[8 7 6 5 4]" {
		t.Errorf("history %v", revs)
	}
}

func TestSavingTheSameWritesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	save(t, s, 1)
	n := s.Commits()
	save(t, s, 1)
	if s.Commits() != n {
		t.Errorf("%d commits for the same document", s.Commits()-n)
	}
	save(t, s, 2)
	if s.Commits() != n+1 {
		t.Errorf("%d commits for another", s.Commits()-n)
	}
}

func TestDocumentTooLarge(t *testing.T) {
	s := open(t, t.TempDir())
	save(t, s, 1)
	err := s.SaveConfig(Document{Bytes: make([]byte, MaxDocument+1)})
	if !errors.Is(err, ErrTooLarge) || s.Health() != nil {
		t.Errorf("err %v, health %v", err, s.Health())
	}
	if err := s.SaveConfig(Document{Bytes: bytes.Repeat([]byte("y"), MaxDocument)}); err != nil {
		t.Error(err)
	}
	wantLen, _, _ := s.Config()
	if len(wantLen.Bytes) != MaxDocument {
		t.Errorf("%d bytes", len(wantLen.Bytes))
	}
}

func TestImpossibleTime(t *testing.T) {
	s := open(t, t.TempDir())
	d := doc(1)
	d.Saved = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := s.SaveConfig(d); err == nil || errors.Is(err, ErrDegraded) || s.Health() != nil {
		t.Errorf("err %v, health %v", err, s.Health())
	}
	save(t, s, 2)
}

func TestFileStaysSmall(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 40 {
		if err := s.SaveConfig(Document{Bytes: bytes.Repeat([]byte{byte(i)}, 96<<10), Rev: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if s.Bytes() > mmapSize {
		t.Errorf("%d bytes after 40 large documents", s.Bytes())
	}
}

func TestNextConn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for want := uint64(1); want <= 3; want++ {
		if n, err := s.NextConn(); n != want || err != nil {
			t.Fatalf("%d, %v; want %d", n, err, want)
		}
	}
	s.Close()
	s = open(t, dir)
	if n, err := s.NextConn(); n != 4 || err != nil {
		t.Errorf("%d, %v; want 4", n, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	seen := make(chan uint64, 40)
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				n, err := s.NextConn()
				if err != nil {
					t.Error(err)
				}
				seen <- n
				if err := s.SaveConfig(doc(uint64(100*i + j))); err != nil {
					t.Error(err)
				}
				if _, _, err := s.Config(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(seen)
	once := map[uint64]bool{}
	for n := range seen {
		if once[n] {
			t.Errorf("connection %d given out twice", n)
		}
		once[n] = true
	}
}

func TestTwoOpeners(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	save(t, s, 1)
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second opener: %v", err)
	}
	save(t, s, 2) // the first is unharmed
	s.Close()
	s = open(t, dir)
	wantRev(t, s, 2)
}

// The database's own lock may be held by a tool: no reason to condemn it.
func TestDatabaseLockedByOther(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	save(t, s, 1)
	s.Close()
	db, err := bolt.Open(filepath.Join(dir, dbFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrInUse) {
		t.Errorf("err %v", err)
	}
	db.Close()
	s = open(t, dir)
	wantRev(t, s, 1)
	if len(s.Report()) != 0 {
		t.Errorf("healed %q", s.Report())
	}
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir())
	save(t, s, 1)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveConfig(doc(2)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("SaveConfig: %v", err)
	}
	if _, _, err := s.Config(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Config: %v", err)
	}
	if _, err := s.NextConn(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("NextConn: %v", err)
	}
	if _, err := s.History(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("History: %v", err)
	}
}

func FuzzUnseal(f *testing.F) {
	r := record{Document: doc(7), seq: 3, conn: 9}
	payload, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seal("config", "\x00\x01", payload))
	f.Add(seal("config", "\x00\x01", nil))
	f.Add([]byte("e1 00000000\n{}"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, frame []byte) {
		payload, err := unseal("config", "\x00\x01", frame)
		if err != nil {
			return
		}
		if again := seal("config", "\x00\x01", payload); !bytes.Equal(again, frame) {
			t.Fatalf("two frames for one payload: %q, %q", frame, again)
		}
		if _, err := unseal("config", "\x00\x02", frame); err == nil {
			t.Fatal("readable under another key")
		}
		r, err := decodeRecord(payload)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			return // years that JSON cannot write
		}
		r2, err := decodeRecord(again)
		if err != nil || r2.seq != r.seq || r2.conn != r.conn || !same(r2.Document, r.Document) || !r2.Saved.Equal(r.Saved) {
			t.Fatalf("round trip: %+v, %+v, %v", r, r2, err)
		}
	})
}

// FuzzRecord feeds the decoder behind the checksum.
func FuzzRecord(f *testing.F) {
	payload, _ := record{Document: doc(7), seq: 3}.encode()
	f.Add(payload)
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"seq":1,"hash":"00"}` + "\n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := decodeRecord(payload)
		if err == nil && !bytes.HasSuffix(payload, r.Bytes) {
			t.Fatalf("bytes %q from %q", r.Bytes, payload)
		}
	})
}
