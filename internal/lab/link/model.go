// Package link is a network path that is as bad as it is told to be: between
// one client and one UDP server, on a machine whose kernel cannot delay
// packets and for a user who may not ask it to.
package link

import (
	"math/rand/v2"
	"time"
)

// Shape is what one direction of a path does to datagrams. The zero value
// passes all at once.
type Shape struct {
	Rate   int64         // bits/s that its bottleneck takes; 0: no limit
	Queue  time.Duration // in front of the bottleneck: what would wait longer is dropped
	Delay  time.Duration // on the way
	Jitter time.Duration // at most this besides, for each group of packets anew; order is kept, as on a radio link
	Loss   float64       // chance of each packet to be lost, 0 to 1
	Burst  Burst         // losses in a row, besides
}

// Burst is Gilbert's model: a path that is good or bad, and loses everything
// while it is bad. The chances are those of each packet.
type Burst struct {
	Enter float64 // to turn a good path bad
	Leave float64 // to turn a bad path good: bursts are 1/Leave packets long
}

// groupGap parts packets into groups: those of one frame come together, and
// travel together.
const groupGap = 5 * time.Millisecond

// model is one direction: a pure function of what it has passed and of its
// seed. Each packet takes the same number of random values whatever happens to
// it, so that what is lost depends on the packet's number and the seed alone.
type model struct {
	random *rand.Rand

	bad      bool
	arrived  time.Time // the last packet
	extra    time.Duration
	free     time.Time // when the bottleneck has served all that it took
	delivers time.Time // the last packet
}

// fate is what becomes of a packet.
type fate uint8

const (
	passes  fate = iota
	lost         // on the way
	dropped      // by a full queue
)

func newModel(seed uint64) *model { return &model{random: rand.New(rand.NewPCG(seed, seed))} }

// pass says when a packet of so many bytes that arrives now is delivered.
func (m *model) pass(now time.Time, bytes int, s Shape) (at time.Time, f fate) {
	chance, turn, share := m.random.Float64(), m.random.Float64(), m.random.Float64()
	if m.bad {
		m.bad = turn >= s.Burst.Leave
	} else {
		m.bad = turn < s.Burst.Enter
	}
	if now.Sub(m.arrived) > groupGap {
		m.extra = time.Duration(share * float64(s.Jitter))
	}
	m.arrived = now
	at = now
	if s.Rate > 0 {
		if m.free.Before(now) {
			m.free = now
		}
		if m.free.Sub(now) > s.Queue {
			return at, dropped
		}
		m.free = m.free.Add(time.Duration(bytes) * 8 * time.Second / time.Duration(s.Rate))
		at = m.free
	}
	if m.bad || chance < s.Loss {
		return at, lost // it took its share of the bottleneck
	}
	at = at.Add(s.Delay + min(m.extra, s.Jitter))
	if at.Before(m.delivers) {
		at = m.delivers
	}
	m.delivers = at
	return at, passes
}
