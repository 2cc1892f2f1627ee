package forward

import (
	"slices"
	"sync/atomic"
	"time"
)

// histogram counts durations; observations are atomic.
type histogram struct {
	bounds []float64 // seconds, rising
	counts []atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func newHistogram(bounds ...float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) value() Histogram {
	v := Histogram{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: time.Duration(h.sum.Load()).Seconds()}
	for i := range h.counts {
		v.Counts[i] = h.counts[i].Load()
	}
	return v
}
