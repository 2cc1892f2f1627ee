package forward

import (
	"math"
	"time"
)

// A viewer's packets are repaired before it asks for them where it loses some
// and would wait long for each. Nearer than repairRTT that gains nothing, not
// even where several are lost in a row (README.md has figures).
const (
	repairLoss  = .015                  // from this loss on …
	stopLoss    = .007                  // … down to this
	repairRTT   = 70 * time.Millisecond // and from this round trip on …
	stopRTT     = 55 * time.Millisecond // … down to this
	leastShare  = .05                   // of repair packets: fewer are not worth their bytes
	mostShare   = 1. / 3                // of repair packets
	blindShare  = .2                    // … where it is not known what the path takes
	spareMargin = .05                   // of the estimate stays free
	inBursts    = 1.5                   // packets lost in a row, in the mean, that are no chance
	mostDepth   = 4                     // packets lost in a row that it is tried to survive
	lossMemory  = .25                   // weight of the newest report
)

// losses is what is known of how a path loses packets.
type losses struct {
	share float64 // lost, smoothed
	run   float64 // packets lost in a row, in the mean, smoothed; 0: none were lost yet

	newest     uint16 // sequence number of the last that was asked for
	begun      bool   // one was
	lost, runs int    // since the last report
}

// missing notes a packet that the viewer asks for.
func (s *losses) missing(seq uint16) {
	ahead := int16(seq - s.newest)
	if s.begun && ahead <= 0 {
		return // asked for before
	}
	if !s.begun || ahead > 1 {
		s.runs++
	}
	s.lost++
	s.newest, s.begun = seq, true
}

// reported takes the share that a receiver report says was lost.
func (s *losses) reported(share float64) {
	s.share += (share - s.share) * lossMemory
	if s.runs > 0 {
		run := float64(s.lost) / float64(s.runs)
		if s.run == 0 {
			s.run = run
		}
		s.run += (run - s.run) * lossMemory
	}
	s.lost, s.runs = 0, 0
}

// repairPlan says how many repair packets a lane sends.
type repairPlan struct {
	share float64 // for each packet of a frame; 0: none at all
	most  float64 // likewise, but in the mean: small frames have one at the least
	depth int     // lost packets in a row that a large frame should survive; small ones at least one
}

// next is the plan that follows on this one. spare is how much more than
// the pictures the path takes, as a share of them. It is pure.
func (p repairPlan) next(s losses, rtt time.Duration, spare float64) repairPlan {
	loss, slow := repairLoss, repairRTT
	if p.share > 0 {
		loss, slow = stopLoss, stopRTT
	}
	most := min(spare, 2*mostShare)
	if s.share < loss || rtt < slow || most < leastShare {
		return repairPlan{}
	}
	depth := 1
	if s.run >= inBursts {
		depth = min(mostDepth, int(math.Ceil(s.run)))
	}
	return repairPlan{share: min(leastShare+3*s.share, mostShare, most), most: most, depth: depth}
}

// planRepairs chooses the plan of a lane, after a report on it. v.mu is held.
func (v *Viewer) planRepairs(l *lane) {
	l.losses.reported(v.counts.Loss)
	if l.repairs.pt == 0 {
		return
	}
	l.repairs.plan = l.repairs.plan.next(l.losses, v.counts.RTT, v.spare(l))
}

// spare is how much more than a lane's pictures the path takes, as a share of
// them.
func (v *Viewer) spare(l *lane) float64 {
	bits, _ := l.ring.delivers()
	switch estimate := v.forPictures(); {
	case v.remote.Load() == nil || l.rung != rungAll: // nothing is lost on TCP
		return 0
	case estimate == 0 || bits == 0:
		return blindShare
	default:
		return estimate*(1-spareMargin)/(bits*wireShare) - 1
	}
}

// countRepairs counts the repair packets that a lane has made; v.mu is held.
func (v *Viewer) countRepairs(l *lane) {
	if l.repairs.made == 0 {
		return
	}
	v.counts.FEC += l.repairs.made
	v.sfu.counters.fec.Add(l.repairs.made)
	l.repairs.made = 0
}
