package storage

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// pages returns a database's bytes up to its high-water mark.
func pages(t testing.TB, name string, fillIn func(*bolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	db, err := bolt.Open(path, 0o600, options())
	if err != nil {
		t.Fatal(err)
	}
	db.AllocSize = allocSize
	if err := db.Update(fillIn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newestMeta(raw)
	if err != nil {
		t.Fatal(err)
	}
	return raw[:m.pages*pageSize]
}

func small(tx *bolt.Tx) error {
	if err := putConn(tx, 7); err != nil {
		return err
	}
	return putRecord(tx, record{Document: doc(1), seq: 1})
}

// bigTree has branch pages, overflow pages and nested buckets.
func bigTree(tx *bolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte("many"))
	if err != nil {
		return err
	}
	for i := range uint64(400) {
		if err := b.Put(binary.BigEndian.AppendUint64(nil, i), bytes.Repeat([]byte{1}, 200)); err != nil {
			return err
		}
	}
	n, err := b.CreateBucketIfNotExists([]byte("nested"))
	if err != nil {
		return err
	}
	return n.Put([]byte("large"), make([]byte, 3*pageSize))
}

// reseal makes a changed meta page valid again.
func reseal(page []byte) {
	sum := fnv.New64a()
	sum.Write(page[pageHeader : pageHeader+56])
	binary.LittleEndian.PutUint64(page[pageHeader+56:], sum.Sum64())
}

func TestVerify(t *testing.T) {
	le := binary.LittleEndian
	whole := pages(t, "big", bigTree)
	m, err := newestMeta(whole)
	if err != nil {
		t.Fatal(err)
	}
	newest := whole[m.txid%2*pageSize:]
	rootAt := int(m.root) * pageSize
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
		want string
	}{
		{"whole", func(b []byte) []byte { return b }, ""},
		{"short", func(b []byte) []byte { return b[:pageSize] }, "too short"},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, "truncated"},
		{"no metas", func(b []byte) []byte { clear(b[:2*pageSize]); return b }, "no valid meta"},
		{"root zeroed", func(b []byte) []byte { clear(b[rootAt : rootAt+pageSize]); return b }, "says it is 0"},
		{"root is a freelist", func(b []byte) []byte { le.PutUint16(b[rootAt+8:], freelistPage); return b }, "flags 0x10"},
		{"count", func(b []byte) []byte { le.PutUint16(b[rootAt+10:], 60000); return b }, "outside"},
		{"overflow", func(b []byte) []byte { le.PutUint32(b[rootAt+12:], 1<<30); return b }, "runs over the end"},
		{"value length", func(b []byte) []byte { le.PutUint32(b[rootAt+pageHeader+12:], 1<<31); return b }, "outside"},
		{"freelist", func(b []byte) []byte { le.PutUint16(b[int(m.freelist)*pageSize+10:], 5000); return b }, "freelist"},
		{"other page size", func(b []byte) []byte {
			p := b[m.txid%2*pageSize:]
			le.PutUint32(p[pageHeader+8:], 16384)
			reseal(p)
			return b
		}, "page size 16384"},
		{"root far away", func(b []byte) []byte {
			p := b[m.txid%2*pageSize:]
			le.PutUint64(p[pageHeader+16:], 1<<60)
			reseal(p)
			return b
		}, "is not in"},
		{"root is the freelist", func(b []byte) []byte {
			p := b[m.txid%2*pageSize:]
			le.PutUint64(p[pageHeader+16:], m.freelist)
			reseal(p)
			return b
		}, "used twice"},
	} {
		err := verify(c.edit(bytes.Clone(whole)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if got, ok := readMeta(newest[pageHeader:]); !ok || got != m {
		t.Errorf("newest meta %+v (%v), want %+v", got, ok, m)
	}
}

// FuzzVerify: what passes, bbolt opens, checks and reads without a fault; a
// fault on one of its goroutines would end the fuzzer.
func FuzzVerify(f *testing.F) {
	f.Add(pages(f, "small", small), uint16(0), uint16(0))
	f.Add(pages(f, "small", small), uint16(3*pageSize+10), uint16(1))
	f.Add([]byte(nil), uint16(1), uint16(1))
	path := filepath.Join(f.TempDir(), "fuzzed.db")
	f.Fuzz(func(t *testing.T, file []byte, at, to uint16) {
		if len(file) > 64*pageSize {
			return
		}
		if int(at)+2 <= len(file) {
			binary.LittleEndian.PutUint16(file[at:], to)
		}
		for i := 0; i < 2 && len(file) >= (i+1)*pageSize; i++ {
			reseal(file[i*pageSize:]) // else nothing gets past the metas
		}
		if verify(file) != nil {
			return
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		var c contents
		if db, err := openDB(path, &c); err == nil {
			db.Close()
		}
	})
}
