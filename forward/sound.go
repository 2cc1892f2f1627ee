package forward

import (
	"slices"

	"edged/capture"
)

// wants tells whether an offer asks for a kind of media at all.
func (o *offer) wants(kind capture.Kind) bool {
	return slices.ContainsFunc(o.media, func(m offeredMedia) bool {
		return capture.Kind(m.kind) == kind && m.receives && !m.rejected
	})
}

// soundFirst puts sound before pictures: in what a viewer is sent at once, a
// packet of sound must not wait behind a keyframe.
func soundFirst(chosen []selection, o *offer) []selection {
	slices.SortStableFunc(chosen, func(a, b selection) int { return o.rank(a) - o.rank(b) })
	return chosen
}

func (o *offer) rank(s selection) int {
	if o.media[s.media].kind == string(capture.Audio) {
		return 0
	}
	return 1
}

// leading is the lane by which the viewer is judged: that of its picture, or
// of its sound where it has no picture.
func (v *Viewer) leading() *lane {
	if len(v.lanes) == 0 {
		return nil
	}
	return v.lanes[len(v.lanes)-1] // sound comes first
}

// soundRate is what the viewer's sound takes, in bits/s. v.mu is held.
func (v *Viewer) soundRate() (bits float64) {
	for _, l := range v.lanes {
		if l.ring.audio {
			rate, _ := l.ring.delivers()
			bits += rate
		}
	}
	return bits
}
