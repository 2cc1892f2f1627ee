package capture

import "time"

const (
	bucketTime = 500 * time.Millisecond
	buckets    = 8
)

// window counts over the last seconds, in buckets of half a second.
type window struct {
	origin time.Time
	newest int64 // index of the bucket being filled, from origin
	first  int64 // index of the first bucket that ever counted, after a silence again
	frames [buckets]int
	bytes  [buckets]int
}

func (w *window) add(now time.Time, size int) {
	if w.origin.IsZero() {
		w.origin = now
	}
	w.advance(now)
	w.frames[w.newest%buckets]++
	w.bytes[w.newest%buckets] += size
}

// advance empties the buckets that time has passed over.
func (w *window) advance(now time.Time) {
	i := int64(now.Sub(w.origin) / bucketTime)
	if i <= w.newest {
		return
	}
	if i-w.newest >= buckets {
		w.first = i
	}
	for n := max(w.newest+1, i-buckets+1); n <= i; n++ {
		w.frames[n%buckets], w.bytes[n%buckets] = 0, 0
	}
	w.newest = i
}

// rates are frames and bits a second over the full buckets of the last 3.5 s,
// or since the first frame; 0 in the first half second.
func (w *window) rates(now time.Time) (fps, bitrate float64) {
	if w.origin.IsZero() {
		return 0, 0
	}
	w.advance(now)
	from := max(w.first, w.newest-buckets+1)
	if from == w.newest {
		return 0, 0
	}
	var frames, bytes int
	for n := from; n < w.newest; n++ {
		frames += w.frames[n%buckets]
		bytes += w.bytes[n%buckets]
	}
	seconds := (time.Duration(w.newest-from) * bucketTime).Seconds()
	return float64(frames) / seconds, float64(8*bytes) / seconds
}
