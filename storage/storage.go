// Package storage keeps what a box must not forget: its identity (plain
// files), its configuration and its counters (BoltDB, with a mirror of the
// configuration in a plain file).
//
// A store opens whatever state a power cut, a full disk or a worn card left
// behind; what it had to heal, it reports.
package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Errors that callers branch on.
var (
	// ErrDegraded: an earlier write failed, so nothing is written any more
	// until the process starts again (E_STORAGE).
	ErrDegraded = errors.New("storage degraded")
	// ErrInUse: another process has the data directory open.
	ErrInUse = errors.New("in use by another edged")
	// ErrDamaged: bytes that cannot be what was once written.
	ErrDamaged = errors.New("damaged")
	// ErrTooLarge: a document above MaxDocument.
	ErrTooLarge = errors.New("document too large")
)

const (
	// MaxDocument is the most bytes that a configuration may have.
	MaxDocument = 256 << 10
	// History is how many configurations are kept, the newest included.
	History = 5

	dbFile     = "config.db"
	mirrorFile = "config.mirror"

	configBucket  = "config"  // sequence number, big endian → record
	counterBucket = "counter" // name → decimal
	connKey       = "conn"

	maxSize   = 16 << 20 // of config.db; it stays near 1 MiB
	mmapSize  = 4 << 20
	allocSize = 1 << 20
)

// Document is a configuration as it is kept.
type Document struct {
	Bytes  []byte    // as received
	Source string    // where it came from: file, page, console, default
	Epoch  uint64    // with Rev: the console's order
	Rev    uint64    //
	Hash   [32]byte  // identity; where zero, SaveConfig takes the SHA-256 of Bytes
	Saved  time.Time // where zero, SaveConfig takes the wall clock
}

// Store is an open data directory. Its methods may be called from any
// goroutine; those that write return when the disk has it.
type Store struct {
	dir    string
	log    *slog.Logger
	report []string

	mu      sync.Mutex // guards all below; held while writing
	lock    *os.File   // the directory's lock; nil once closed
	db      *bolt.DB   // nil once degraded or closed
	last    record     // the newest configuration
	have    bool       // whether there is one
	conn    uint64     // the last connection number given out
	commits uint64
	bytes   int64
	fault   error // why writing ended, wraps ErrDegraded; nil while well
	mirror  error // why the last write of the mirror failed
}

// Open opens the data directory dir, makes it where it is missing, and heals
// what is damaged: a database that cannot be trusted is kept as
// config.db.corrupt-N, and the configuration comes from its readable part or
// from its mirror, whichever is newer. It fails only where the directory
// cannot be used at all, or with [ErrInUse] after a second. A disk that takes
// no more gives a degraded store: see [Store.Health]. Open reads all of the
// database; a MiB or so.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, log: log, lock: lock}
	sweep(dir, time.Now())
	if err := s.heal(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	for _, line := range s.report {
		log.Warn("storage healed", "what", line)
	}
	return s, nil
}

// Report says what Open had to heal, a line each, for people.
func (s *Store) Report() []string { return slices.Clone(s.report) }

// Config returns the configuration saved last; ok is false where none ever
// was. It works in a degraded store too.
func (s *Store) Config() (doc Document, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return Document{}, false, os.ErrClosed
	}
	doc = s.last.Document
	doc.Bytes = bytes.Clone(doc.Bytes)
	return doc, s.have, nil
}

// SaveConfig makes doc the configuration. When it returns nil, doc survives a
// power cut. Saving again what is already there writes nothing. A failed
// write degrades the store for good: the error wraps [ErrDegraded], and the
// configuration is the one before.
func (s *Store) SaveConfig(doc Document) error {
	if len(doc.Bytes) > MaxDocument {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(doc.Bytes), MaxDocument)
	}
	doc.Bytes = bytes.Clone(doc.Bytes)
	if doc.Hash == [32]byte{} {
		doc.Hash = sha256.Sum256(doc.Bytes)
	}
	if doc.Saved.IsZero() {
		doc.Saved = time.Now()
	}
	doc.Saved = doc.Saved.Round(0)
	if _, err := doc.Saved.MarshalJSON(); err != nil { // a mistake of the caller must not degrade the store
		return fmt.Errorf("save configuration: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have && s.fault == nil && same(s.last.Document, doc) {
		return nil
	}
	r := record{Document: doc, seq: s.last.seq + 1, conn: s.conn}
	if err := s.writeLocked(func(tx *bolt.Tx) error { return putRecord(tx, r) }); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	s.last, s.have = r, true
	s.mirrorLocked()
	return nil
}

func same(a, b Document) bool {
	return a.Hash == b.Hash && a.Source == b.Source && a.Epoch == b.Epoch && a.Rev == b.Rev && bytes.Equal(a.Bytes, b.Bytes)
}

// NextConn counts MQTT connections: each call gives a number higher than any
// before it on this box, for ever, and it is on disk when NextConn returns.
// With an error the number is still higher than any before it in this
// process, but the next process may give it out again.
func (s *Store) NextConn() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn++
	if err := s.writeLocked(func(tx *bolt.Tx) error { return putConn(tx, s.conn) }); err != nil {
		return s.conn, fmt.Errorf("connection counter: %w", err)
	}
	return s.conn, nil
}

// History returns the configurations that are kept, the newest first; in a
// degraded store only the newest.
func (s *Store) History() ([]Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil, os.ErrClosed
	}
	if s.db == nil {
		if !s.have {
			return nil, nil
		}
		d := s.last.Document
		d.Bytes = bytes.Clone(d.Bytes)
		return []Document{d}, nil
	}
	var c contents
	if err := guard(func() error { return s.db.View(c.read) }); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	slices.Reverse(c.records)
	docs := make([]Document, len(c.records))
	for i, r := range c.records {
		docs[i] = r.Document
	}
	return docs, nil
}

// Health says what is wrong: an error that wraps [ErrDegraded] once writing
// has ended, another while only the mirror cannot be written, nil while all
// is well.
func (s *Store) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	return s.mirror
}

// Commits counts the transactions written since Open.
func (s *Store) Commits() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// Bytes is the size of the database file.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Close waits for a write under way, then frees the directory. Reads and
// writes after it fail with os.ErrClosed. Closing twice does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	var err error
	if s.db != nil {
		err = s.db.Close()
		s.db = nil
	}
	err = errors.Join(err, s.lock.Close())
	s.lock = nil
	return err
}

// writeLocked runs f in a transaction and commits it; the caller holds mu.
func (s *Store) writeLocked(f func(*bolt.Tx) error) error {
	if s.lock == nil {
		return os.ErrClosed
	}
	if s.fault != nil {
		return s.fault
	}
	if err := guard(func() error { return s.db.Update(f) }); err != nil {
		s.degradeLocked(err)
		return s.fault
	}
	s.commits++
	s.sizeLocked()
	return nil
}

// degradeLocked ends writing for this handle. After a failed fsync the kernel
// may have dropped the dirty pages and report the next one as good, so no
// later success would mean anything.
func (s *Store) degradeLocked(cause error) {
	s.fault = fmt.Errorf("%w: %w", ErrDegraded, cause)
	db := s.db
	s.db = nil
	if db == nil || errors.Is(cause, errPanicked) {
		return // after a panic its locks may be held for ever: leave it to the end of the process
	}
	if err := guard(db.Close); err != nil {
		s.log.Warn("storage: close of the failed database", "err", err)
	}
}

// mirrorLocked writes the newest configuration to the plain file. The
// database has it already, so a failure is told by Health and in the log.
func (s *Store) mirrorLocked() {
	payload, err := s.last.encode()
	if err == nil {
		err = replace(filepath.Join(s.dir, mirrorFile), seal(mirrorFile, "", payload))
	}
	if err != nil {
		s.mirror = fmt.Errorf("%s: %w", mirrorFile, err)
		s.log.Warn("storage: mirror not written", "err", err)
		return
	}
	s.mirror = nil
}

func (s *Store) sizeLocked() {
	if fi, err := os.Stat(filepath.Join(s.dir, dbFile)); err == nil {
		s.bytes = fi.Size()
	}
}

// putRecord adds a record and drops the oldest beyond History.
func putRecord(tx *bolt.Tx, r record) error {
	payload, err := r.encode()
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(configBucket))
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(nil, r.seq)
	if err := b.Put(key, seal(configBucket, string(key), payload)); err != nil {
		return err
	}
	var keys [][]byte
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for len(keys) > History {
		if err := b.Delete(keys[0]); err != nil {
			return err
		}
		keys = keys[1:]
	}
	return nil
}

func putConn(tx *bolt.Tx, n uint64) error {
	b, err := tx.CreateBucketIfNotExists([]byte(counterBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(connKey), seal(counterBucket, connKey, strconv.AppendUint(nil, n, 10)))
}

// errPanicked marks a database whose locks nobody may touch any more.
var errPanicked = errors.New("inconsistent pages")

// guard runs f, which touches the mapped file: a page that cannot be read, or
// that makes no sense, becomes an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w: %v", ErrDamaged, errPanicked, r)
		}
	}()
	return f()
}
