package forward

import (
	"math"
	"slices"
	"time"
)

// An encoder on the box follows what the slowest tenth of a layer's viewers can
// take, so that their picture moves; the others see it a little coarser.
const (
	followEvery  = time.Second
	followTenth  = 10               // one in so many viewers may be slower than the bitrate is made for …
	followLeast  = 2                // … and one always: a bitrate is never lowered for one viewer alone
	followFloor  = 4                // never below the configured bitrate divided by this …
	followLowest = 150e3            // … nor, unless that is configured, below this, in bits/s
	followShare  = 0.8              // of what they can take: layers need upMargin more than their rate
	followSlack  = 0.05             // differences below this are none
	followDown   = 0.7              // a second, at most
	followUp     = 1.08             // a second, at most
	followShort  = 2 * time.Second  // too little for so long, and the bitrate goes down
	followLong   = 3 * time.Second  // enough for so long, and it goes up; doubles where that did not last …
	followMost   = 48 * time.Second // … to this
	followLasts  = 20 * time.Second // a rise after which it did not go down for so long has lasted
	spareFactor  = 1.4              // an estimate this far above the rate is not the path's limit but the estimator's
)

// follower is the bitrate of one layer's encoder. It is pure.
type follower struct {
	target   float64       // bits/s; 0: as configured
	short    time.Time     // since when the viewers take less; zero: they do not
	enough   time.Time     // since when they take more
	rose     time.Time     // when it went up last
	patience time.Duration // instead of followLong; 0: that
}

// next gives the bitrate for the next second. takes is what each viewer of the
// layer can take, in bits/s; +Inf: all that there is. It sorts takes. With
// fewer viewers than two, or a configured bitrate of 0, it is the configured
// one.
func (f *follower) next(now time.Time, configured float64, takes []float64) float64 {
	if f.target == 0 || f.target > configured {
		f.target = configured
	}
	want := math.Inf(1)
	if k := max(followLeast, (len(takes)+followTenth-1)/followTenth); k <= len(takes) {
		slices.Sort(takes)
		want = takes[k-1] * followShare
	}
	floor := min(configured, max(configured/followFloor, followLowest))
	want = min(max(want, floor), configured)
	switch {
	case want < f.target*(1-followSlack):
		f.enough = time.Time{}
		if since(&f.short, now) >= followShort {
			f.lower(now, want)
		}
	case want > f.target*(1+followSlack) || want == configured && f.target < configured:
		f.short = time.Time{}
		if since(&f.enough, now) >= max(followLong, f.patience) {
			f.target, f.rose = min(want, f.target*followUp), now
		}
	default:
		f.short, f.enough = time.Time{}, time.Time{}
	}
	if !f.rose.IsZero() && now.Sub(f.rose) >= followLasts {
		f.patience, f.rose = 0, time.Time{}
	}
	return f.target
}

// lower goes down; a rise that did not last makes the next wait longer.
func (f *follower) lower(now time.Time, want float64) {
	if !f.rose.IsZero() {
		f.patience, f.rose = min(followMost, 2*max(f.patience, followLong)), time.Time{}
	}
	f.target = max(want, f.target*followDown)
}

// since is for how long what began at t lasts; it begins now if t is zero.
func since(t *time.Time, now time.Time) time.Duration {
	if t.IsZero() {
		*t = now
	}
	return now.Sub(*t)
}

// takes is what the viewer's path takes of a ring's layer, in bits/s; +Inf
// where it was not found full lately, so that its limit is not known. Not ok:
// the viewer does not get that layer.
func (v *Viewer) takes(r *ring, now time.Time) (bits float64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.lanes, func(l *lane) bool { return l.ring == r && l.rings[l.want] == r && l.started })
	if i < 0 || v.quality == Off {
		return 0, false
	}
	l, estimate := v.lanes[i], v.estimate()
	if estimate == 0 || l.rung == rungAll && (!v.bandwidth.Narrow(now) || estimate > spareFactor*l.rates[l.layer]) {
		return math.Inf(1), true
	}
	return estimate, true
}

// OnBitrate has follow called, from any goroutine, when the bitrate of a layer
// whose track says that it can be set should change: to what its slowest
// viewers can take, at most what the track says. Set it before the first
// Describe.
func (st *Stream) OnBitrate(follow func(layer, bits int)) { st.follow = follow }

// followViewers tells the source what bitrate suits the viewers of each layer.
// It takes the viewers' locks, and none of the stream's meanwhile.
func (st *Stream) followViewers(viewers []*Viewer, now time.Time) {
	if st.follow == nil {
		return
	}
	st.mu.Lock()
	tracks, feeds := st.tracks, st.feeds // neither slice is changed after it was stored
	st.mu.Unlock()
	for i, f := range feeds {
		most := tracks[i].Bitrate
		if most == 0 {
			continue
		}
		f.takes = f.takes[:0]
		for _, v := range viewers {
			if bits, ok := v.takes(f.ring, now); ok {
				f.takes = append(f.takes, bits)
			}
		}
		before := f.follower.target
		if target := f.follower.next(now, float64(most), f.takes); target != before && (before > 0 || target < float64(most)) {
			st.follow(tracks[i].Layer, int(math.Round(target)))
		}
	}
}
