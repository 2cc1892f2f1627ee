package forward

import (
	"time"

	"edged/capture"
)

// Where a viewer's path takes less than even the lowest layer, frames are left
// out: first those that nothing refers to and the higher temporal layers, then
// all but keyframes, at a pace that the path carries. Sequence numbers and the
// pace of the times stay as if there had been no more frames.
//
// A frame's rank says how much depends on it. A frame refers to none of a
// higher rank, and one of the highest rank that is sent may be missed.
const (
	rankKey  = 0 // keyframes
	rankBase = 1 // the lowest temporal layer
	rankMost = 3 // all of this or a higher rank, which are left out together
)

// The rungs of the ladder down.
const (
	rungAll  = iota // every frame
	_               // ranks below rankMost
	_               // ranks below rankMost-1: the base
	rungKeys        // keyframes only
	rungs
)

// The times of thinning.
const (
	thinEvery  = 100 * time.Millisecond // decided so often at most
	keyLeast   = time.Second            // between keyframes of a viewer that gets nothing else
	keyAsk     = 2 * time.Second        // one is asked for, for all such viewers, when the newest is so old
	keyShare   = 0.8                    // of the estimate is what they may take
	thinMargin = 1.05                   // of the rate of more frames must be estimated: rather a picture that moves
	keyBits    = leastEstimate / 2      // counts as the rate of keyframes only: their pace is made to fit
	drainFrom  = 600 * time.Millisecond // of backlog in the path, and nothing is sent until …
	drainTo    = 150 * time.Millisecond // … it is no more than this, and then a keyframe
	drainMost  = 5 * time.Second        // … or so much later: somebody has to ask the path
	drainRest  = 10 * time.Second       // so often at most
)

// rankOf gives a frame's rank: each temporal layer has its own, and what is
// discardable in one is missed by no layer but the next, whose rank it has.
func rankOf(f *capture.Frame) uint8 {
	if f.Keyframe {
		return rankKey
	}
	rank := rankBase + min(f.Temporal, rankMost)
	if f.Discardable {
		rank++
	}
	return min(rank, rankMost)
}

// ranks is how the bytes of a track fall to the ranks, lately.
type ranks [rankMost + 1]float64

// ranksSpan is "lately", in bytes: some seconds of a camera.
const ranksSpan = 1 << 20

func (r *ranks) add(f frame) {
	r[f.rank] += float64(f.size)
	var sum float64
	for _, n := range r {
		sum += n
	}
	if sum > ranksSpan {
		for i := range r {
			r[i] /= 2
		}
	}
}

// rates is what each rung needs of a track that delivers bits a second; 0 is a
// rung that leaves out no more than the one above.
func (r *ranks) rates(bits float64) (out [rungs]float64) {
	var sum float64
	for _, n := range r {
		sum += n
	}
	left := sum
	out[rungAll] = bits
	for rung := rungAll + 1; rung < rungKeys; rung++ {
		if n := r[rankMost+1-rung]; n > 0 {
			left -= n
			out[rung] = bits * left / sum
		}
	}
	out[rungKeys] = min(keyBits, bits)
	return out
}

// thinner says which rung a viewer's path takes. It is pure, as the chooser is
// by whose rules it goes up. A path must not only be estimated too narrow but
// also be found full before frames are left out: an estimate of a path that is
// not used in full says little.
type thinner struct {
	chooser
	drained  time.Time // when it began to last
	draining bool      // nothing shall be sent
}

// next chooses the rung; rates are those of the rungs, full and backlog what is
// known of the path.
func (t *thinner) next(now time.Time, rung int, rates []float64, estimate float64, full bool, backlog time.Duration) int {
	if rates[rungAll] <= 0 {
		return rung
	}
	switch {
	case t.draining:
		t.draining = backlog > drainTo && now.Sub(t.drained) < drainMost
	case full && backlog > drainFrom && (t.drained.IsZero() || now.Sub(t.drained) >= drainRest):
		t.draining, t.drained = true, now
	}
	t.margin = thinMargin
	want := t.chooser.next(now, Auto, rung, rates, estimate)
	if want > rung && rates[rung] > 0 && !full {
		return rung
	}
	return want
}

// thin lets the frames that are left out follow the viewer's path; v.mu is held.
func (v *Viewer) thin(l *lane, now time.Time) {
	estimate := v.estimate()
	if l.ring.audio || estimate <= 0 || now.Sub(l.thinned) < thinEvery {
		return
	}
	l.thinned = now
	full := v.bandwidth.Full(now)
	if l.leaving = l.want > l.layer && full; l.leaving {
		l.broken = rankBase // the keyframe of the lower layer is asked for: no more of this one
		return
	}
	if l.want != l.layer || v.quality == Auto && l.want < l.lowest() {
		l.rung, l.thinner = rungAll, thinner{}
		return
	}
	l.ring.mu.RLock()
	rates := l.ring.ranks.rates(l.ring.rate.bits)
	l.ring.mu.RUnlock()
	l.rung = l.thinner.next(now, l.rung, rates[:], estimate, full, v.bandwidth.Backlog())
	l.keyRate = keyShare * estimate
	if l.thinner.draining {
		l.broken = rankBase
	}
}

// lowest is the lowest layer that delivers.
func (l *lane) lowest() int {
	for i := len(l.rings) - 1; i > 0; i-- {
		if l.rates[i] > 0 {
			return i
		}
	}
	return 0
}

// leaveOut passes over the frames that are not for this viewer, up to the next
// that is. Not ok: that has to wait. The caller holds the ring's lock.
func (l *lane) leaveOut(newest uint64, now time.Time) (ok bool) {
	for l.part == 0 && l.next <= newest {
		f, held := l.ring.frameLocked(l.next)
		switch {
		case !held:
			return true
		case !f.keyframe && f.rank < l.broken && int(f.rank) <= rankMost-l.rung:
			return true
		case f.keyframe && l.rung != rungKeys && l.mayKey(now):
			return true
		case f.keyframe && f.number == l.ring.keyframe && now.Sub(f.arrived) < behindLimit:
			return l.mayKey(now) // not yet, but its turn may come
		}
		l.pass(f)
	}
	return true
}

// pass passes over one frame; what refers to it will be too, until the next
// keyframe.
func (l *lane) pass(f frame) {
	l.endRun()
	l.next++
	l.left++
	l.gap = true
	if !f.free {
		l.broken = min(l.broken, max(f.rank, rankBase))
	}
}

// resume begins a run behind frames that were passed over, in which time goes
// on as before.
func (l *lane) resume(f frame) {
	if l.gap {
		l.addRun(run{seq: l.seq, packet: f.first, ring: l.ring, stamp: l.runs[l.nruns-1].stamp})
	}
}

// mayKey tells whether the path has room for a keyframe again.
func (l *lane) mayKey(now time.Time) bool {
	return !l.thinner.draining && !now.Before(l.keyAt) && !(l.leaving && l.want > l.layer)
}

// tookKey notes that a keyframe is sent: the next waits until the path can have
// taken this one.
func (l *lane) tookKey(f frame, now time.Time) {
	if l.rung == rungKeys {
		l.keyAt = now.Add(max(keyLeast, time.Duration(float64(f.size)*8/l.keyRate*float64(time.Second))))
	}
}

// wantsKey tells whether the camera should be asked for a keyframe: by a
// viewer that gets nothing else and could take one, if the newest is old, so
// that all such viewers together ask no more often than one would; and by one
// whose path takes more again.
func (l *lane) wantsKey(now time.Time) bool {
	if l.ring.audio || !l.started || l.waiting || l.part > 0 || !l.mayKey(now) {
		return false
	}
	if l.rung != rungKeys {
		return l.broken == rankBase
	}
	l.ring.mu.RLock()
	defer l.ring.mu.RUnlock()
	key, ok := l.ring.frameLocked(l.ring.keyframe)
	return !ok || now.Sub(key.arrived) >= keyAsk
}
