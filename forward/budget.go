package forward

import "sync"

const (
	// A track's rate is that of its payloads. On the wire come RTP, SRTP, UDP
	// and IP: 56 bytes and more with each packet of 1.2 kB.
	wireShare = 1.05

	// What is free must be so much more than a better layer needs, as a share
	// of all, or viewers would go up and down in turns.
	budgetSlack = .05
)

// budget is what the box may send to all viewers together: each lane has
// booked what its layer takes, in bits/s.
type budget struct {
	most float64 // 0: no bound

	mu     sync.Mutex
	booked float64
}

// book changes a lane's booking.
func (b *budget) book(l *lane, bits float64) {
	if b.most == 0 {
		return
	}
	b.mu.Lock()
	b.booked += bits - l.booked
	b.mu.Unlock()
	l.booked = bits
}

func (b *budget) inUse() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.booked
}

// afford makes the layers that the budget does not take beside what all
// others have booked look like layers that deliver nothing. The lowest stays:
// it is what the viewer was admitted for.
func (b *budget) afford(l *lane) {
	if b.most == 0 {
		return
	}
	free := b.most - b.inUse() + l.booked
	lowest := len(l.rates) - 1
	for lowest > 0 && l.rates[lowest] == 0 {
		lowest--
	}
	l.held = false
	for i, bits := range l.rates[:lowest] {
		bits *= wireShare
		if bits > free || i < l.want && bits+budgetSlack*b.most > free {
			l.held = l.held || i == l.want && bits > 0
			l.rates[i] = 0
		}
	}
}

// least is what the viewer takes at the least, in bits/s: the lowest layers of
// all its lanes.
func (v *Viewer) least() (bits float64) {
	for _, l := range v.lanes {
		bits += l.least()
	}
	return bits
}

// least is the rate of the lowest layer that delivers, in bits/s on the wire.
func (l *lane) least() float64 {
	for i := len(l.rings) - 1; i >= 0; i-- {
		if bits, _ := l.rings[i].delivers(); bits > 0 {
			return bits * wireShare
		}
	}
	return 0
}

// bookLowest books what the viewer is admitted for; before it runs.
func (v *Viewer) bookLowest() {
	for _, l := range v.lanes {
		v.sfu.budget.book(l, l.least())
	}
}

// bookLayers books what the lanes take now; v.mu is held. Who has left takes
// nothing any more.
func (v *Viewer) bookLayers() {
	if v.sfu.budget.most == 0 {
		return
	}
	for _, l := range v.lanes {
		bits, _ := l.rings[l.want].delivers()
		if v.quality == Off || v.reason.Load() != nil {
			bits = 0
		}
		v.sfu.budget.book(l, bits*wireShare)
	}
}
