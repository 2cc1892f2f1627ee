package forward

import (
	"math/rand/v2"
	"testing"
	"time"

	lablink "edged/internal/lab/link"
)

// badness is a link that loses packets both ways and delays those of each frame
// anew, in order. Its viewer asks as Chromium does: at once, and again after
// 100 ms, looked at every 20 ms.
type badness struct {
	random *rand.Rand
	loss   float64
	burst  lablink.Burst
	jitter time.Duration
	deaf   bool // no transport-wide feedback: requests alone

	bad     bool
	since   time.Duration
	extra   time.Duration
	landing []waiting // since: when they land
	asked   map[uint16]time.Duration
	upTo    uint16
}

func (b *badness) loses() bool {
	if b == nil {
		return false
	}
	chance, turn := b.random.Float64(), b.random.Float64()
	if b.bad {
		b.bad = turn >= b.burst.Leave
	} else {
		b.bad = turn < b.burst.Enter
	}
	return b.bad || chance < b.loss
}

// carry takes a packet from the link's queue.
func (b *badness) carry(p waiting) {
	if b == nil {
		p.to.arrive(p.data)
		return
	}
	at := p.to.at
	if at-b.since > 5*time.Millisecond {
		b.extra = time.Duration(b.random.Float64() * float64(b.jitter))
	}
	b.since = at
	if b.loses() {
		return
	}
	p.since = at + b.extra
	if n := len(b.landing); n > 0 {
		p.since = max(p.since, b.landing[n-1].since)
	}
	b.landing = append(b.landing, p)
}

// land brings the viewer what is due, and has it ask.
func (b *badness) land(n *narrow) {
	if b == nil {
		return
	}
	for len(b.landing) > 0 && b.landing[0].since <= n.at {
		n.arrive(b.landing[0].data)
		b.landing = b.landing[1:]
	}
	if !n.began {
		return
	}
	if b.asked == nil {
		b.asked, b.upTo = map[uint16]time.Duration{}, n.highest
	}
	var missing []uint16
	for ; b.upTo != n.highest; b.upTo++ {
		if !n.seqs[b.upTo] {
			b.asked[b.upTo] = n.at
			missing = append(missing, b.upTo)
		}
	}
	for seq, at := range b.asked {
		if n.seqs[seq] || n.highest-seq > 1000 {
			delete(b.asked, seq)
		} else if n.at%(20*time.Millisecond) == 0 && n.at-at >= 100*time.Millisecond {
			b.asked[seq] = n.at
			missing = append(missing, seq)
		}
	}
	n.ask(missing)
}

// late is how many pictures came later than a frame and 100 ms after they were
// captured, and how long the picture stood still for more than that, all in
// all.
func (n *narrow) late(from time.Duration) (pictures int, frozen time.Duration) {
	const hidden = time.Second/30 + 100*time.Millisecond
	last := from
	for _, p := range n.pictures {
		if p.at < from {
			continue
		}
		if p.at-time.Duration(p.id&0xffffff)*time.Second/30 > hidden {
			pictures++
		}
		if gap := p.at - last; gap > hidden {
			frozen += gap
		}
		last = p.at
	}
	return pictures, frozen
}

// A path that loses is mended several times better than by requests alone, and
// is taken for none that is full: no frame is left out, no layer changes.
func TestLossIsMended(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  badness
	}{
		{"2 %", badness{loss: .02}},
		{"5 %", badness{loss: .05}},
		{"10 %", badness{loss: .10}},
		{"bursts of 5, 2.4 %", badness{burst: lablink.Burst{Enter: .005, Leave: .2}}},
		{"jitter of 0 to 80 ms", badness{jitter: 80 * time.Millisecond}},
	} {
		var late [2]int
		var frozen [2]time.Duration
		for i, deaf := range []bool{true, false} {
			n := newNarrow(t, 2.5e6, 500e3)
			n.limit, n.gop, n.rate = 300*time.Millisecond, 300, steps(20e6)
			bad := c.bad
			bad.random, bad.deaf = rand.New(rand.NewPCG(1, 1)), deaf
			n.bad = &bad
			l := n.v.lanes[0]
			for n.at < 2*time.Minute {
				n.run(100 * time.Millisecond)
				if l.want != 0 || l.rung != rungAll {
					t.Fatalf("%s: layer %d, rung %d after %v", c.name, l.want, l.rung, n.at)
				}
			}
			late[i], frozen[i] = n.late(time.Second)
			counts := &n.v.counts
			t.Logf("%s, feedback %v: %d late pictures, frozen %v; %d asked for, %d of %d sent again", c.name, !deaf, late[i], frozen[i],
				counts.NACKs, counts.RTX, counts.Packets)
			if counts.Thinned+counts.Skipped > 0 {
				t.Errorf("%s: %d frames left out, %d skipped", c.name, counts.Thinned, counts.Skipped)
			}
			if counts.RTX > counts.Packets/4 {
				t.Errorf("%s: %d of %d packets sent again", c.name, counts.RTX, counts.Packets)
			}
		}
		if c.bad.jitter == 0 && (late[1] > late[0]*2/3 || frozen[1] > frozen[0]/4) {
			t.Errorf("%s: %d late pictures, frozen %v; by requests alone %d and %v", c.name, late[1], frozen[1], late[0], frozen[0])
		}
	}
}

// What a feedback says to be lost is sent again once, and what was sent again
// and is lost, again; a request for what is on its way is not answered.
func TestMend(t *testing.T) {
	n := newNarrow(t, 2.5e6)
	n.rate, n.limit = steps(20e6), time.Second
	n.bad = &badness{random: rand.New(rand.NewPCG(1, 1))}
	n.run(time.Second)
	v, l := n.v, n.v.lanes[0]
	v.counts.RTT = 2 * resendGapMax
	v.repair.carried = make([]carried, carriedPackets)
	n.run(100 * time.Millisecond)
	sent := func() uint64 { return v.counts.RTX }
	var number, seq uint16
	for _, c := range v.repair.carried {
		if c.packet == (packet{l.ssrc, uint16(l.seq - 1)}) {
			number, seq = c.number, c.seq
		}
	}
	lose := func(number uint16) {
		v.repair.miss(number)
		v.mend(n.now())
	}
	for i, c := range []struct {
		do   func()
		want uint64
	}{
		{func() { lose(number + 1000) }, 0}, // nobody's
		{func() { lose(number) }, 1},
		{func() { lose(number) }, 1},                                                       // the copy is on its way
		{func() { n.ask([]uint16{seq}); n.run(30 * time.Millisecond) }, 1 + 1},             // … and another went with the next frame
		{func() { lose(v.repair.of(packet{l.ssrc, seq}).number) }, 2 + 2},                  // for the second time: two at once
		{func() { v.repair.later = v.repair.later[:0]; n.run(time.Second) }, 4},            // nothing is left to do
		{func() { v.remote.Store(nil); lose(v.repair.of(packet{l.ssrc, seq}).number) }, 4}, // TCP loses nothing
	} {
		if c.do(); sent() != c.want {
			t.Errorf("step %d: %d sent again, want %d", i, sent(), c.want)
		}
	}
}

// A viewer that says it gets nothing is sent no more for it than one that asks
// for everything.
func TestLiesAboutLoss(t *testing.T) {
	n := newNarrow(t, 2.5e6)
	n.rate, n.limit = steps(20e6), time.Second
	n.bad = &badness{random: rand.New(rand.NewPCG(1, 1))}
	n.run(2 * time.Second)
	before := n.v.counts
	for range 20 {
		for number := range uint16(1000) {
			n.v.repair.miss(number)
		}
		n.v.mend(n.now())
		n.run(50 * time.Millisecond)
	}
	again, packets := n.v.counts.RTX-before.RTX, n.v.counts.Packets-before.Packets
	if most := uint64(resendBurst + resendRate + packets/resendShare); again > most {
		t.Errorf("%d of %d packets sent again, want %d at most", again, packets, most)
	}
	if len(n.v.repair.lost) > lostPackets || len(n.v.repair.later) > laterPackets {
		t.Errorf("%d, %d remembered", len(n.v.repair.lost), len(n.v.repair.later))
	}
}
