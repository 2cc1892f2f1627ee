package file

import (
	"errors"

	"edged/capture"
)

// moov reads the movie's header: the first track that can be forwarded and
// the defaults of its fragments.
func (r *mp4) moov(b box) error {
	var others []string
	err := b.children(0, func(c box) error {
		if c.kind != "trak" || r.timescale != 0 {
			return nil
		}
		other, err := r.trak(c)
		if other != "" {
			others = append(others, other)
		}
		if err != nil || r.timescale == 0 {
			return err
		}
		return r.edit(b, c)
	})
	if err != nil {
		return err
	}
	if r.timescale == 0 && r.handler == "soun" {
		return noSound(others)
	}
	if r.timescale == 0 {
		return capture.Errorf(capture.CodeCodec, "no track of H.264, H.265, VP8, VP9 or AV1; the file holds %q", others)
	}
	return b.children(0, func(c box) error {
		if c.kind != "mvex" {
			return nil
		}
		return c.children(0, r.trex)
	})
}

// trak reads one track, or names what it is when it cannot be forwarded.
func (r *mp4) trak(b box) (other string, err error) {
	mdia, err := b.path("mdia")
	if err != nil {
		return "", err
	}
	hdlr, err := mdia.path("hdlr")
	if err != nil {
		return "", err
	}
	if len(hdlr.body) < 12 {
		return "", hdlr.fault("too short")
	}
	if kind := string(hdlr.body[8:12]); kind != r.handler {
		return kind, nil
	}
	stbl, err := mdia.path("minf", "stbl")
	if err != nil {
		return "", err
	}
	other, err = r.stsd(stbl)
	if other != "" || err != nil {
		return other, err
	}
	tkhd, err := b.path("tkhd")
	if err != nil {
		return "", err
	}
	id, ok := tkhd.u32(12)
	if len(tkhd.body) > 0 && tkhd.body[0] == 1 {
		id, ok = tkhd.u32(20)
	}
	if !ok {
		return "", tkhd.fault("too short")
	}
	mdhd, err := mdia.path("mdhd")
	if err != nil {
		return "", err
	}
	scale, ok := mdhd.u32(12)
	if len(mdhd.body) > 0 && mdhd.body[0] == 1 {
		scale, ok = mdhd.u32(20)
	}
	if !ok || scale == 0 {
		return "", mdhd.fault("no time scale")
	}
	r.id, r.timescale = id, scale
	return "", r.stbl(stbl)
}

// stsd reads the sample description (ISO/IEC 14496-12, 8.5.2).
func (r *mp4) stsd(stbl box) (other string, err error) {
	stsd, err := stbl.path("stsd")
	if err != nil {
		return "", err
	}
	if len(stsd.body) < 8 {
		return "", stsd.fault("too short")
	}
	var entry box
	if err := stsd.children(8, func(c box) error {
		if entry.kind == "" {
			entry = c
		}
		return nil
	}); err != nil {
		return "", err
	}
	if entry.kind == "" {
		return "", stsd.fault("no entry")
	}
	if r.handler == "soun" {
		return r.soundEntry(entry), nil
	}
	return r.entry(entry)
}

// table is one of the sample tables: a count, then records of equal size.
type table struct {
	box
	count, size, from int
}

func (t table) get(record, column int) uint32 {
	v, _ := t.u32(t.from + record*t.size + 4*column)
	return v
}

// records opens a table whose records, of some bytes each, begin at a place.
func records(stbl box, kind string, from, size int) (table, error) {
	b, err := stbl.path(kind)
	if err != nil {
		return table{}, err
	}
	n, ok := b.u32(from - 4)
	if !ok || int64(n)*int64(size) > int64(len(b.body)-from) {
		return table{}, b.fault("%d records do not fit in %d bytes", n, len(b.body))
	}
	return table{box: b, count: int(n), size: size, from: from}, nil
}

// stbl makes the index out of the sample tables (ISO/IEC 14496-12, 8.6 and
// 8.7). Those of a fragmented file are empty.
func (r *mp4) stbl(b box) error {
	if err := r.sizes(b); err != nil {
		return err
	}
	if len(r.index) == 0 {
		return nil
	}
	if err := r.times(b); err != nil {
		return err
	}
	return r.offsets(b)
}

func (r *mp4) sizes(b box) error {
	stsz, err := b.path("stsz")
	if err != nil {
		return err
	}
	same, _ := stsz.u32(4)
	count, ok := stsz.u32(8)
	if !ok {
		return stsz.fault("too short")
	}
	if count > maxSamples {
		return stsz.fault("%d samples, at most %d are read", count, maxSamples)
	}
	if same == 0 && int64(count)*4 > int64(len(stsz.body)-12) {
		return stsz.fault("%d records do not fit in %d bytes", count, len(stsz.body))
	}
	if same != 0 && int64(same)*int64(count) > r.size {
		return stsz.fault("%d samples of %d bytes do not fit in the file", count, same)
	}
	r.index = make([]place, count)
	for i := range r.index {
		r.index[i].size = same
		if same == 0 {
			r.index[i].size, _ = stsz.u32(12 + 4*i)
		}
	}
	return nil
}

func (r *mp4) times(b box) error {
	stts, err := records(b, "stts", 8, 8)
	if err != nil {
		return err
	}
	i, clock := 0, uint64(0)
	for e := range stts.count {
		for range stts.get(e, 0) {
			if i == len(r.index) {
				return nil
			}
			if r.index[i].at, err = r.ticks(clock); err != nil {
				return stts.fault("%w", err)
			}
			clock += uint64(stts.get(e, 1))
			i++
		}
	}
	if i < len(r.index) {
		return stts.fault("times for %d samples of %d", i, len(r.index))
	}
	return nil
}

// ticks converts the track's time.
func (r *mp4) ticks(t uint64) (int64, error) {
	v, ok := scale(t, clockRate, uint64(r.timescale))
	if !ok {
		return 0, errors.New("time out of range")
	}
	return v, nil
}

func (r *mp4) offsets(b box) error {
	stsc, err := records(b, "stsc", 8, 12)
	if err != nil {
		return err
	}
	wide := 4
	stco, err := records(b, "stco", 8, 4)
	if err != nil {
		var wideErr error
		if stco, wideErr = records(b, "co64", 8, 8); wideErr != nil {
			return err
		}
		wide = 8
	}
	i, run := 0, -1
	for chunk := range stco.count {
		for run+1 < stsc.count && uint32(chunk+1) >= stsc.get(run+1, 0) {
			run++
		}
		if run < 0 {
			return stsc.fault("says nothing of the first chunk")
		}
		at := int64(stco.get(chunk, 0))
		if wide == 8 {
			at = at<<32 | int64(stco.get(chunk, 1))
		}
		for range stsc.get(run, 1) {
			if i == len(r.index) {
				return nil
			}
			r.index[i].offset = at
			at += int64(r.index[i].size)
			i++
		}
	}
	if i < len(r.index) {
		return stco.fault("places for %d samples of %d", i, len(r.index))
	}
	return nil
}
