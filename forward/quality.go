package forward

import (
	"slices"
	"time"

	"edged/forward/bwe"
)

// deadAfter is how long a layer that is needed may go without a frame before
// it counts as one that delivers nothing.
const deadAfter = 3 * time.Second

// SetQuality says which layer the viewer gets; Off stops the media, and
// nothing else: the path stays open. A viewer that was off goes on at a
// keyframe. It returns at once; the change comes with the next keyframe of
// the layer.
func (v *Viewer) SetQuality(q Quality) {
	now := time.Now()
	v.mu.Lock()
	for _, l := range v.lanes {
		if v.quality == Off && q != Off && !l.ring.audio { // sound goes on with the next of it
			l.rejoin(now)
		}
		if v.quality != q {
			l.chooser.asked(now)
		}
	}
	v.quality = q
	if c := v.data.Load(); c != nil {
		c.Quality(string(q))
	}
	v.bookLayers()
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
		if len(l.rings) < 2 && v.bandwidth == nil || l.ring.audio {
			continue
		}
		for i, r := range l.rings {
			bits, newest := r.delivers()
			if (i == l.layer || i == l.want && now.Sub(l.wanted) > deadAfter) && now.Sub(newest) > deadAfter {
				bits = 0
			}
			l.rates[i] = bits
		}
		v.sfu.budget.afford(l)
		takes := v.forPictures()
		if l.rung != rungAll && l.rates[l.want] > 0 {
			takes = min(takes, l.rates[l.want]) // no better layer before this one is sent in full
		}
		if want := l.chooser.next(now, v.quality, l.want, l.rates, takes); want != l.want {
			l.why = v.why(l)
			l.want, l.wanted = want, now
		}
		v.thin(l, now)
		v.want(l)
	}
	v.bookLayers()
}

// The bounds of an estimate, in bits/s. It starts high: the first feedback
// comes within a tenth of a second, and on a LAN the best layer is right.
const (
	leastEstimate = 50e3
	firstEstimate = 5e6
	mostEstimate  = 50e6
	wantHeadroom  = 1.2 // what is proved once fades while the proof is awaited
)

// measure has packets numbered and the path estimated from what the viewer
// says of them, where it does so of the picture's; before run. A lane whose packets may be sent again just as they were is not
// numbered: a packet must not differ from itself.
func (v *Viewer) measure() {
	numbered := func(i int) bool {
		c, l := v.chosen[i], v.lanes[i]
		return v.offer.media[c.media].ids.number != 0 && slices.Contains(c.feedback, "transport-cc") && (l.rtxPT != 0 || !l.nacks)
	}
	pictures := false
	for i, l := range v.lanes {
		pictures = pictures || !l.ring.audio && l.rtxPT != 0 && numbered(i)
	}
	if !pictures {
		return
	}
	e, err := bwe.New(bwe.Config{Min: leastEstimate, Start: firstEstimate, Max: mostEstimate, Lost: v.repair.miss})
	if err != nil {
		v.log.Error("bandwidth estimate", "err", err)
		return
	}
	v.bandwidth = e
	for i, l := range v.lanes {
		if numbered(i) {
			l.number = func(size int, p packet) uint16 {
				n := e.Sent(v.at, size, v.kind)
				if v.kind == bwe.Media {
					v.repair.note(n, p)
				}
				return n
			}
		}
	}
}

// measured takes a transport-wide feedback packet.
func (v *Viewer) measured(b []byte, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bandwidth != nil && v.bandwidth.FeedbackBytes(now, b) == nil {
		v.heard = true
		v.mend(now)
		v.setPlayout(now)
	}
}

// estimate is what the viewer's path takes, in bits/s; 0: not known. v.mu is
// held.
func (v *Viewer) estimate() float64 {
	if v.bandwidth == nil || !v.heard {
		return 0
	}
	return v.bandwidth.Estimate()
}

// forPictures is what of the estimate the sound leaves; 0: not known. v.mu is
// held.
func (v *Viewer) forPictures() float64 {
	if e := v.estimate(); e > 0 {
		return max(1, e-v.soundRate())
	}
	return 0
}

// want tells the estimator how much would be of use: enough for the next
// better layer, where the viewer has not the best.
func (v *Viewer) want(l *lane) {
	if v.bandwidth == nil {
		return
	}
	bits := l.rates[l.layer]
	if l.rung != rungAll {
		bits *= upMargin
	} else if v.quality == Auto {
		for i := l.want - 1; i >= 0; i-- {
			if l.rates[i] > 0 {
				bits = l.rates[i] * upMargin
				break
			}
		}
	}
	v.bandwidth.Want((bits*(1+l.repairs.plan.share) + v.soundRate()) * wantHeadroom)
}

// probe sends what the estimator asks for to find out whether the path takes
// more: packets that were sent lately, once more as RTX, which viewers drop.
// v.mu is held.
func (v *Viewer) probe(b *batch, now time.Time) {
	if v.bandwidth == nil || !v.heard {
		return
	}
	bytes, _, ok := v.bandwidth.Probe(now)
	remote := v.remote.Load()
	if !ok || remote == nil {
		return
	}
	i := slices.IndexFunc(v.lanes, func(l *lane) bool { return l.number != nil && l.rtxPT != 0 && l.started })
	if i < 0 {
		return
	}
	l := v.lanes[i]
	if l.layer > 0 { // evenly: what leaves in bursts of a frame shows less than the path takes
		v.partial = true
	}
	v.begin(b)
	v.at, v.kind = now, bwe.Padding
	for seq := uint16(l.seq) - 1; ; seq-- {
		if _, built := b.built(); built >= bytes || !l.resend(seq, b) {
			break // enough, or no more is held
		}
	}
	if v.seal(b) {
		v.send(remote, b, time.Time{})
	}
}
