package uplink

import (
	"math"
	"slices"

	"edged/uplink/wire"
)

// gauge sums up sampled values.
type gauge struct {
	n             int
	min, max, sum float64
}

func (g *gauge) add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return // not a JSON number
	}
	if g.n == 0 || v < g.min {
		g.min = v
	}
	if g.n == 0 || v > g.max {
		g.max = v
	}
	g.sum += v
	g.n++
}

func (g *gauge) close() *wire.Gauge {
	if g.n == 0 {
		return &wire.Gauge{}
	}
	return &wire.Gauge{Min: round(g.min, 4), Mean: round(g.sum/float64(g.n), 4), Max: round(g.max, 4)}
}

func (g *gauge) orNil() *wire.Gauge {
	if g.n == 0 {
		return nil
	}
	return g.close()
}

// logHistogram counts seconds in buckets of half an octave from 1 ms up, so
// that a bucket's bound is at most 41 % above its values.
type logHistogram struct {
	n      uint64
	sum    float64
	counts map[int]uint64
}

const (
	logFloor = 0.001 // seconds: the bound of bucket 0
	logTop   = 32    // the last bucket, 65.5 s
)

func (h *logHistogram) add(v float64) {
	if math.IsNaN(v) || v < 0 {
		return
	}
	k := 0
	if v > logFloor {
		k = int(min(math.Ceil(2*math.Log2(v/logFloor)-1e-9), logTop+1))
	}
	if h.counts == nil {
		h.counts = map[int]uint64{}
	}
	h.counts[k]++
	h.n++
	h.sum += min(v, 1e6)
}

func (h *logHistogram) close() *wire.Histogram {
	if h.n == 0 {
		return nil
	}
	out := &wire.Histogram{N: h.n, Sum: round(h.sum, 6), Over: h.counts[logTop+1]}
	for k := range logTop + 1 {
		if c := h.counts[k]; c > 0 {
			out.LE = append(out.LE, round(logFloor*math.Exp2(float64(k)/2), 6))
			out.Counts = append(out.Counts, c)
		}
	}
	return out
}

// histogramSum adds up the rises of a histogram that only grows.
type histogramSum struct {
	bounds []float64
	counts []uint64
	sum    float64
}

func (h *histogramSum) add(before, now Histogram) {
	if len(now.Counts) != len(now.Bounds)+1 {
		return
	}
	same := slices.Equal(before.Bounds, now.Bounds) && len(before.Counts) == len(now.Counts)
	if !slices.Equal(h.bounds, now.Bounds) || h.counts == nil {
		*h = histogramSum{bounds: now.Bounds, counts: make([]uint64, len(now.Counts))}
	}
	restarted := !same || now.Sum < before.Sum
	for i, c := range now.Counts {
		if restarted {
			h.counts[i] += c
		} else {
			h.counts[i] += delta(before.Counts[i], c)
		}
	}
	if restarted {
		h.sum += now.Sum
	} else {
		h.sum += now.Sum - before.Sum
	}
}

func (h *histogramSum) close() *wire.Histogram {
	out := &wire.Histogram{Sum: round(h.sum, 6)}
	for i, c := range h.counts {
		out.N += c
		switch {
		case c == 0:
		case i == len(h.bounds):
			out.Over = c
		default:
			out.LE = append(out.LE, h.bounds[i])
			out.Counts = append(out.Counts, c)
		}
	}
	if out.N == 0 {
		return nil
	}
	return out
}
