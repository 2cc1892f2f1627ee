package forward

import (
	"slices"
	"time"
)

// deadAfter is how long a layer that is needed may go without a frame before
// it counts as one that delivers nothing.
const deadAfter = 3 * time.Second

// SetQuality says which layer the viewer gets; Off stops the media, and
// nothing else: the path stays open. A viewer that was off goes on at a
// keyframe. It returns at once; the change comes with the next keyframe of
// the layer.
func (v *Viewer) SetQuality(q Quality) {
	v.mu.Lock()
	if v.quality == Off && q != Off {
		for _, l := range v.lanes {
			l.wait(time.Now())
		}
	}
	v.quality = q
	v.mu.Unlock()
	v.stream.signal()
}

// needs tells whether a ring's frames are sent to the viewer, or shall be.
func (v *Viewer) needs(r *ring) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.quality != Off && slices.ContainsFunc(v.lanes, func(l *lane) bool { return l.ring == r || l.rings[l.want] == r })
}

// chooseLayers lets each lane's layer follow what the viewer asks for and
// what its path takes; v.mu is held.
func (v *Viewer) chooseLayers(now time.Time) {
	for _, l := range v.lanes {
		if len(l.rings) < 2 {
			continue
		}
		for i, r := range l.rings {
			bits, newest := r.delivers()
			if (i == l.layer || i == l.want && now.Sub(l.wanted) > deadAfter) && now.Sub(newest) > deadAfter {
				bits = 0
			}
			l.rates[i] = bits
		}
		if want := l.chooser.next(now, v.quality, l.layer, l.rates, v.estimate); want != l.want {
			l.want, l.wanted = want, now
		}
	}
}
