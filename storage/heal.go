package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// contents is what a database holds.
type contents struct {
	records []record // oldest first
	conn    uint64
	bad     error // the first value that cannot be trusted; the rest was read on
}

// heal walks down the ladder: database, its readable part, mirror, nothing.
// On return the store has a database, or is degraded. An error means that
// the directory is not ours to use.
func (s *Store) heal() error {
	path := filepath.Join(s.dir, dbFile)
	c, mirror := contents{}, s.readMirror()
	fresh := false

	db, err := openDB(path, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fresh = true
	case errors.Is(err, ErrDamaged), errors.Is(err, unix.EIO):
		s.condemn(path, err)
	case err != nil: // too many open files, a lock, a permission: no reason to give up the file
		return fmt.Errorf("%s: %w", dbFile, err)
	}
	s.db = db
	if s.db == nil && s.fault == nil {
		if s.db, err = createDB(path); err != nil {
			s.degradeLocked(fmt.Errorf("%s: %w", dbFile, err))
		}
	}
	s.choose(c, mirror, fresh)
	s.conn = c.conn
	if len(s.report) > 0 || s.fault != nil {
		s.conn = healedConn(c.conn, mirror.conn, time.Now())
	}
	s.restore(c, mirror)
	s.sizeLocked()
	return nil
}

// condemn puts the bad database aside.
func (s *Store) condemn(path string, why error) {
	name, err := setAside(path)
	if err != nil {
		s.report = append(s.report, fmt.Sprintf("%s: %v", dbFile, why))
		s.degradeLocked(fmt.Errorf("%s: set aside: %w", dbFile, err))
		return
	}
	s.report = append(s.report, fmt.Sprintf("%s: %v; kept as %s", dbFile, why, filepath.Base(name)))
}

// choose takes the newest configuration that can be trusted.
func (s *Store) choose(c contents, mirror record, fresh bool) {
	if n := len(c.records); n > 0 {
		s.last, s.have = c.records[n-1], true
	}
	healed := len(s.report) > 0
	switch {
	case mirror.seq > s.last.seq:
		if !healed && fresh {
			s.report = append(s.report, dbFile+": missing")
		} else if !healed {
			s.report = append(s.report, fmt.Sprintf("%s: save %d is missing", dbFile, mirror.seq))
		}
		s.last, s.have = mirror, true
		s.report = append(s.report, fmt.Sprintf("configuration (%s, rev %d) taken from its mirror", mirror.Source, mirror.Rev))
	case s.have && healed && c.bad != nil:
		s.report = append(s.report, fmt.Sprintf("configuration (%s, rev %d) taken from the readable part", s.last.Source, s.last.Rev))
	case !s.have && healed:
		s.report = append(s.report, "no configuration could be read")
	}
}

// restore writes back what the database or the mirror lacks.
func (s *Store) restore(c contents, mirror record) {
	if s.fault == nil && len(s.report) > 0 {
		s.writeLocked(func(tx *bolt.Tx) error { // a failure degrades, and Health tells
			for _, r := range c.records {
				if err := putRecord(tx, r); err != nil {
					return err
				}
			}
			if s.have {
				if err := putRecord(tx, s.last); err != nil {
					return err
				}
			}
			return putConn(tx, s.conn)
		})
	}
	if s.have && mirror.seq != s.last.seq {
		s.mirrorLocked()
	}
}

// healedConn continues the connection counter where the true one is lost: its
// number must be above every number given out before. Nobody connects once a
// second for ever, so the time serves, and where the clock is wrong the
// mirror's count and a wide step.
func healedConn(found, mirror uint64, now time.Time) uint64 {
	return max(found, mirror+1_000_000, uint64(max(now.Unix(), 0)))
}

// readMirror returns the mirrored record; its seq is 0 where there is none.
func (s *Store) readMirror() record {
	raw, err := readBounded(filepath.Join(s.dir, mirrorFile), int64(MaxDocument+frameHead+4096))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}
	}
	var r record
	if err == nil {
		var payload []byte
		if payload, err = unseal(mirrorFile, "", raw); err == nil {
			r, err = decodeRecord(payload)
		}
	}
	if err != nil {
		s.report = append(s.report, fmt.Sprintf("%s: %v", mirrorFile, reason(err)))
		return record{}
	}
	return r
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: larger than %d bytes", ErrDamaged, limit)
	}
	return data, err
}

func options() *bolt.Options {
	return &bolt.Options{
		Timeout:         lockWait,
		PageSize:        pageSize,
		InitialMmapSize: mmapSize,
		MaxSize:         maxSize,
		NoStatistics:    true,
	}
}

// openDB opens a database that is whole and reads it; with an error there is
// no database, but c has what could be read.
func openDB(path string, c *contents) (*bolt.DB, error) {
	raw, err := readBounded(path, maxSize)
	if err != nil {
		return nil, reason(err)
	}
	if err := verify(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var db *bolt.DB
	err = guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, options())
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	db.AllocSize = allocSize // else the first growth asks for 16 MiB and meets MaxSize
	err = guard(func() error { return db.View(check) })
	if err == nil {
		err = guard(func() error { return db.View(c.read) })
	}
	if err == nil {
		err = c.bad
	}
	if err != nil {
		if !errors.Is(err, errPanicked) {
			err = errors.Join(err, guard(db.Close))
		}
		return nil, err
	}
	return db, nil
}

// check asks bbolt itself for its opinion: order of keys, free pages.
func check(tx *bolt.Tx) error {
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = fmt.Errorf("%w: check: %w", ErrDamaged, err)
		}
	}
	return first
}

// read takes in every value whose checksum is right.
func (c *contents) read(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if err := c.value(string(name), string(k), v); err != nil && c.bad == nil {
				c.bad = fmt.Errorf("%w: %s[%x]: %w", ErrDamaged, name, k, err)
			}
			return nil
		})
	})
}

func (c *contents) value(bucket, key string, v []byte) error {
	payload, err := unseal(bucket, key, v)
	if err != nil {
		return err
	}
	switch {
	case bucket == configBucket:
		r, err := decodeRecord(payload)
		if err != nil {
			return err
		}
		c.records = append(c.records, r)
	case bucket == counterBucket && key == connKey:
		if c.conn, err = strconv.ParseUint(string(payload), 10, 64); err != nil {
			return err
		}
	}
	return nil // buckets and counters of a later version are none of our business
}

// createDB makes an empty database under a temporary name, with a first
// commit, and puts it in place only when it is on the disk: a power cut
// during bbolt's own creation can leave a file that never opens.
func createDB(path string) (db *bolt.DB, err error) {
	tmp := path + asideMark + "new"
	os.Remove(tmp)
	defer os.Remove(tmp)
	err = guard(func() error {
		db, err := bolt.Open(tmp, 0o600, options())
		if err != nil {
			return err
		}
		db.AllocSize = allocSize
		err = db.Update(func(tx *bolt.Tx) error { return putConn(tx, 0) })
		if err == nil {
			err = db.Sync()
		}
		return errors.Join(err, db.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openDB(path, &contents{})
}
