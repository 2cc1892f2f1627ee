package file

import "encoding/binary"

// fragment holds what a track fragment says once for all its samples.
type fragment struct {
	duration, size uint32
}

// trex reads the defaults of a track's fragments (ISO/IEC 14496-12, 8.8.3).
func (r *mp4) trex(b box) error {
	if b.kind != "trex" {
		return nil
	}
	id, _ := b.u32(4)
	duration, _ := b.u32(12)
	size, ok := b.u32(16)
	if !ok {
		return b.fault("too short")
	}
	if id == r.id {
		r.defaults = fragment{duration: duration, size: size}
	}
	return nil
}

// moof reads one movie fragment (8.8.4). clock is the track's time, of the
// file's scale, where the fragment before ended.
func (r *mp4) moof(b box, clock *int64) error {
	begin := b.at - 8 // data offsets count from the box's first byte
	return b.children(0, func(c box) error {
		if c.kind != "traf" {
			return nil
		}
		tfhd, err := c.path("tfhd")
		if err != nil {
			return err
		}
		id, ok := tfhd.u32(4)
		if !ok {
			return tfhd.fault("too short")
		}
		if id != r.id {
			return nil
		}
		f, base, err := r.tfhd(tfhd, begin)
		if err != nil {
			return err
		}
		if err := tfdt(c, clock); err != nil {
			return err
		}
		data := base
		return c.children(0, func(t box) error {
			if t.kind != "trun" {
				return nil
			}
			return r.trun(t, f, base, &data, clock)
		})
	})
}

// tfhd reads a track fragment's header (8.8.7) and gives the place that data
// offsets count from.
func (r *mp4) tfhd(b box, moof int64) (fragment, int64, error) {
	f, base := r.defaults, moof
	flags, _ := b.u32(0)
	at := 8
	if flags&1 != 0 {
		if len(b.body) < at+8 {
			return f, 0, b.fault("too short")
		}
		base = int64(binary.BigEndian.Uint64(b.body[at:]))
		at += 8
	}
	if flags&2 != 0 {
		at += 4
	}
	ok := true
	if flags&8 != 0 {
		f.duration, ok = b.u32(at)
		at += 4
	}
	if flags&0x10 != 0 && ok {
		f.size, ok = b.u32(at)
	}
	if !ok || base < 0 || base > r.size {
		return f, 0, b.fault("cut off, or points outside the file")
	}
	return f, base, nil
}

// tfdt sets the clock (8.8.12), where the fragment says it.
func tfdt(traf box, clock *int64) error {
	b, ok, err := traf.child("tfdt")
	if err != nil || !ok {
		return err
	}
	switch {
	case len(b.body) >= 12 && b.body[0] == 1:
		*clock = int64(binary.BigEndian.Uint64(b.body[4:]))
	case len(b.body) >= 8:
		*clock = int64(binary.BigEndian.Uint32(b.body[4:]))
	default:
		return b.fault("too short")
	}
	if *clock < 0 {
		return b.fault("time out of range")
	}
	return nil
}

// trun reads a run of samples (8.8.8).
func (r *mp4) trun(b box, f fragment, base int64, data, clock *int64) error {
	flags, _ := b.u32(0)
	count, ok := b.u32(4)
	if !ok {
		return b.fault("too short")
	}
	at := 8
	if flags&1 != 0 {
		v, ok := b.u32(at)
		if !ok {
			return b.fault("too short")
		}
		*data = base + int64(int32(v))
		at += 4
	}
	if flags&4 != 0 {
		at += 4
	}
	record := 0
	for _, f := range []uint32{0x100, 0x200, 0x400, 0x800} { // duration, size, flags, composition offset
		if flags&f != 0 {
			record += 4
		}
	}
	if int64(count)*int64(record) > int64(max(0, len(b.body)-at)) {
		return b.fault("%d records do not fit in %d bytes", count, len(b.body))
	}
	if int64(len(r.index))+int64(count) > maxSamples { // int may have 32 bits
		return b.fault("more than %d samples", maxSamples)
	}
	for range count {
		p, duration, next := place{offset: *data, size: f.size}, f.duration, at
		if flags&0x100 != 0 {
			duration, _ = b.u32(next)
			next += 4
		}
		if flags&0x200 != 0 {
			p.size, _ = b.u32(next)
		}
		var err error
		if p.at, err = r.ticks(uint64(*clock)); err != nil {
			return b.fault("%w", err)
		}
		r.index = append(r.index, p)
		*data += int64(p.size)
		*clock += int64(duration)
		at += record
	}
	return nil
}
