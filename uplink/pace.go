package uplink

import (
	"context"
	"math/rand/v2"
	"time"
)

// How long to wait before the next attempt.
const (
	waitFirst   = 2 * time.Second   // upper bound after the first failure
	waitMin     = time.Second       // lower bound, always
	waitMax     = 120 * time.Second // upper bound
	waitRefused = 300 * time.Second // after a refusal, and up to a tenth more
	settled     = 30 * time.Second  // a connection that lived so long was a good one
)

// outcome is how an attempt, or the connection that came of it, ended.
type outcome struct {
	err     error
	refused bool          // the server knows us and says no: only a person helps
	lived   time.Duration // in service; 0 if it never was
}

// pace decides which server is tried next and when. Servers are tried in
// turn without a pause; after each round comes a back-off with full jitter,
// so that a fleet does not come back as one. It is owned by one goroutine.
type pace struct {
	server  int         // the one to try
	round   int         // rounds without a good connection
	refused []time.Time // by server: not to be tried before
	rand    func() float64
}

func newPace(servers int) *pace {
	return &pace{refused: make([]time.Time, servers), rand: rand.Float64}
}

// after takes the outcome of trying p.server and returns the wait before
// trying p.server, as it is then.
func (p *pace) after(now time.Time, o outcome) time.Duration {
	if o.refused {
		p.refused[p.server] = now.Add(waitRefused + time.Duration(p.rand()*float64(waitRefused)/10))
	}
	if o.lived >= settled {
		p.round = 0 // and begin with the first server
	} else if p.find(p.server+1, now) {
		return 0
	}
	wait := p.backoff()
	p.round++
	if p.find(0, now.Add(wait)) {
		return wait
	}
	p.server = 0
	for i, t := range p.refused {
		if t.Before(p.refused[p.server]) {
			p.server = i
		}
	}
	return p.refused[p.server].Sub(now)
}

// find moves to the first server from index from that may be tried at t.
func (p *pace) find(from int, t time.Time) bool {
	for i := from; i < len(p.refused); i++ {
		if !p.refused[i].After(t) {
			p.server = i
			return true
		}
	}
	return false
}

// backoff is uniform from waitMin to a bound that doubles each round.
func (p *pace) backoff() time.Duration {
	bound := min(waitFirst<<min(p.round, 16), waitMax)
	return waitMin + time.Duration(p.rand()*float64(bound-waitMin))
}

// kicked forgets the past: something changed on the way to the servers.
func (p *pace) kicked() {
	clear(p.refused)
	p.server, p.round = 0, 0
}

// supervise tries servers for ever, as pace says, until ctx is done. report
// is told each failure and the wait that follows; kick ends a wait.
func (p *pace) supervise(ctx context.Context, kick <-chan struct{}, try func(ctx context.Context, server int) outcome, report func(outcome, time.Duration)) {
	for {
		o := try(ctx, p.server)
		if ctx.Err() != nil {
			return
		}
		wait := p.after(time.Now(), o)
		report(o, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-kick:
			timer.Stop()
			p.kicked()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
