package file

import "math"

// edit reads where a track begins on the movie's time (ISO/IEC 14496-12,
// 8.6.6): after what is empty, with the first piece of media that is shown.
// What an edit list then leaves out or repeats is played as it was recorded.
func (r *mp4) edit(moov, trak box) error {
	edts, ok, err := trak.child("edts")
	if err != nil || !ok {
		return err
	}
	elst, ok, err := edts.child("elst")
	if err != nil || !ok {
		return err
	}
	mvhd, err := moov.path("mvhd")
	if err != nil {
		return err
	}
	at := 12
	if len(mvhd.body) > 0 && mvhd.body[0] == 1 {
		at = 20
	}
	movie, ok := mvhd.u32(at)
	if !ok || movie == 0 {
		return mvhd.fault("no time scale")
	}
	return r.elst(elst, uint64(movie))
}

// elst reads the list itself; movie is the units a second of what is empty.
func (r *mp4) elst(b box, movie uint64) error {
	count, ok := b.u32(4)
	size, wide := 12, len(b.body) > 0 && b.body[0] == 1
	if wide {
		size = 20
	}
	if !ok || int64(count)*int64(size) > int64(len(b.body)-8) {
		return b.fault("%d edits do not fit in %d bytes", count, len(b.body))
	}
	for i := range int(count) {
		duration, media := b.edit(8+size*i, wide)
		if media < 0 { // empty
			delay, ok := scale(duration, clockRate, movie)
			if r.begin += delay; !ok || r.begin > math.MaxInt64/4 {
				return b.fault("time out of range")
			}
			continue
		}
		from, err := r.ticks(uint64(media))
		if err != nil || from > math.MaxInt64/4 {
			return b.fault("time out of range")
		}
		r.begin -= from
		return nil
	}
	return nil
}

// edit reads one entry, which is there.
func (b box) edit(at int, wide bool) (duration uint64, media int64) {
	first, _ := b.u32(at)
	second, _ := b.u32(at + 4)
	if !wide {
		return uint64(first), int64(int32(second))
	}
	third, _ := b.u32(at + 8)
	fourth, _ := b.u32(at + 12)
	return uint64(first)<<32 | uint64(second), int64(uint64(third)<<32 | uint64(fourth))
}
