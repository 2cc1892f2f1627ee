package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// bbolt maps its file into memory, believes what it finds there, and checks
// it on goroutines of its own, where a bad page number is a fault that nobody
// can recover. So the pages are walked here first, in plain memory, with
// every offset checked. The layout is bbolt's version 2, little endian.
const (
	pageSize    = 4096
	pageHeader  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementSize = 16 // leaf: flags, pos, ksize, vsize uint32; branch: pos, ksize uint32, pgid uint64
	bucketSize  = 16 // root uint64, sequence uint64

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	bucketFlag = 0x01

	maxDepth = 32 // of pages and buckets; a real file has five
)

// verify says whether file is a database that bbolt can open and read
// without a fault. It does not look at values.
func verify(file []byte) error {
	m, err := newestMeta(file)
	if err != nil {
		return err
	}
	if m.pages > uint64(len(file)/pageSize) {
		return fmt.Errorf("truncated: %d pages of %d", len(file)/pageSize, m.pages)
	}
	w := walker{file: file, pages: m.pages, seen: map[uint64]bool{0: true, 1: true}}
	if err := w.freelist(m.freelist); err != nil {
		return err
	}
	return w.tree(m.root, 0)
}

type meta struct {
	root, freelist, pages, txid uint64
}

// newestMeta picks the meta page that bbolt will pick.
func newestMeta(file []byte) (best meta, err error) {
	if len(file) < 2*pageSize {
		return meta{}, fmt.Errorf("too short: %d bytes", len(file))
	}
	found := false
	for i := range 2 {
		p := file[i*pageSize : (i+1)*pageSize]
		m, ok := readMeta(p[pageHeader:])
		if !ok {
			continue
		}
		if size := binary.LittleEndian.Uint32(p[pageHeader+8:]); size != pageSize {
			return meta{}, fmt.Errorf("page size %d", size)
		}
		if !found || m.txid > best.txid {
			best, found = m, true
		}
	}
	if !found {
		return meta{}, errors.New("no valid meta page")
	}
	return best, nil
}

func readMeta(b []byte) (meta, bool) {
	le := binary.LittleEndian
	sum := fnv.New64a()
	sum.Write(b[:56])
	ok := le.Uint32(b) == metaMagic && le.Uint32(b[4:]) == metaVersion && le.Uint64(b[56:]) == sum.Sum64()
	return meta{
		root:     le.Uint64(b[16:]),
		freelist: le.Uint64(b[32:]),
		pages:    le.Uint64(b[40:]),
		txid:     le.Uint64(b[48:]),
	}, ok
}

type walker struct {
	file  []byte
	pages uint64          // high-water mark
	seen  map[uint64]bool // pages that belong to something
}

// page returns a page with its overflow and claims it.
func (w *walker) page(id uint64) (body []byte, flags, count int, err error) {
	if id < 2 || id >= w.pages {
		return nil, 0, 0, fmt.Errorf("page %d is not in 2..%d", id, w.pages-1)
	}
	le := binary.LittleEndian
	head := w.file[id*pageSize:]
	if got := le.Uint64(head); got != id {
		return nil, 0, 0, fmt.Errorf("page %d says it is %d", id, got)
	}
	overflow := uint64(le.Uint32(head[12:]))
	if overflow >= w.pages-id {
		return nil, 0, 0, fmt.Errorf("page %d: runs over the end", id)
	}
	for p := id; p <= id+overflow; p++ {
		if w.seen[p] {
			return nil, 0, 0, fmt.Errorf("page %d: used twice", p)
		}
		w.seen[p] = true
	}
	return head[:(overflow+1)*pageSize], int(le.Uint16(head[8:])), int(le.Uint16(head[10:])), nil
}

func (w *walker) freelist(id uint64) error {
	body, flags, count, err := w.page(id)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	// A count of 0xFFFF says that the first entry is the count; a file as
	// small as ours has no such list.
	if flags != freelistPage || count == 0xFFFF || pageHeader+8*count > len(body) {
		return fmt.Errorf("freelist: page %d: flags %#x, %d entries", id, flags, count)
	}
	for i := range count {
		free := binary.LittleEndian.Uint64(body[pageHeader+8*i:])
		if free < 2 || free >= w.pages {
			return fmt.Errorf("freelist: page %d is not in 2..%d", free, w.pages-1)
		}
		if w.seen[free] {
			return fmt.Errorf("freelist: page %d is in use", free)
		}
		w.seen[free] = true
	}
	return nil
}

// tree walks the pages of one bucket.
func (w *walker) tree(id uint64, depth int) error {
	if depth > maxDepth {
		return errors.New("too deep")
	}
	body, flags, count, err := w.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case branchPage:
		err = w.branch(body, count, depth)
	case leafPage:
		err = w.leaf(body, count, depth)
	default:
		err = fmt.Errorf("flags %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *walker) branch(body []byte, count, depth int) error {
	if count == 0 {
		return errors.New("empty branch")
	}
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(body) {
			return fmt.Errorf("element %d is outside", i)
		}
		e := body[at:]
		pos, ksize := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		if uint64(pos)+uint64(ksize) > uint64(len(e)) {
			return fmt.Errorf("key %d is outside", i)
		}
		if err := w.tree(binary.LittleEndian.Uint64(e[8:]), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) leaf(body []byte, count, depth int) error {
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(body) {
			return fmt.Errorf("element %d is outside", i)
		}
		e := body[at:]
		le := binary.LittleEndian
		pos, ksize, vsize := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		if ksize == 0 || pos < elementSize || pos+ksize+vsize > uint64(len(e)) {
			return fmt.Errorf("value %d is outside", i)
		}
		if le.Uint32(e)&bucketFlag == 0 {
			continue
		}
		if err := w.bucket(e[pos+ksize:pos+ksize+vsize], depth+1); err != nil {
			return fmt.Errorf("bucket %q: %w", e[pos:pos+ksize], err)
		}
	}
	return nil
}

// bucket walks a nested bucket: a tree of its own, or one leaf held inline.
func (w *walker) bucket(value []byte, depth int) error {
	if depth > maxDepth {
		return errors.New("too deep")
	}
	if len(value) < bucketSize {
		return errors.New("too short")
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return w.tree(root, depth)
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeader {
		return errors.New("too short for an inline page")
	}
	le := binary.LittleEndian
	if flags := le.Uint16(inline[8:]); flags != leafPage {
		return fmt.Errorf("inline page: flags %#x", flags)
	}
	return w.leaf(inline, int(le.Uint16(inline[10:])), depth)
}
