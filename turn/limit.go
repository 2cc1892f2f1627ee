package turn

import (
	"net/netip"
	"time"
)

const (
	replyRate    = 20  // unauthenticated replies a second and address
	replyBurst   = 100 // at once: a house of viewers behind one NAT
	maxAddresses = 4096
)

// limiter is a token bucket per address, for what anybody can make the server
// say. Its table is bounded: when it is full, strangers share one bucket. It is
// owned by the read loop.
type limiter struct {
	buckets  map[netip.Addr]*bucket
	overflow bucket
	swept    time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter() *limiter {
	return &limiter{buckets: map[netip.Addr]*bucket{}, overflow: bucket{tokens: replyBurst}}
}

// aggregate is whom an address stands for: itself, or its /64 for IPv6, where
// one host has all of them.
func aggregate(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		p, _ := a.WithZone("").Prefix(64) // 64 is a valid length for IPv6
		return p.Addr()
	}
	return a.Unmap()
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(replyBurst, b.tokens+d.Seconds()*replyRate)
		b.at = now
	}
}

// ready reports whether take would succeed.
func (l *limiter) ready(a netip.Addr, now time.Time) bool {
	b := l.buckets[aggregate(a)]
	if b == nil {
		if len(l.buckets) < maxAddresses {
			return true
		}
		b = &l.overflow
	}
	b.fill(now)
	return b.tokens >= 1
}

// take pays for one reply.
func (l *limiter) take(a netip.Addr, now time.Time) bool {
	b := l.bucket(aggregate(a), now)
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (l *limiter) bucket(a netip.Addr, now time.Time) *bucket {
	if b := l.buckets[a]; b != nil {
		return b
	}
	if len(l.buckets) >= maxAddresses {
		l.sweep(now)
	}
	if len(l.buckets) >= maxAddresses {
		return &l.overflow
	}
	b := &bucket{tokens: replyBurst, at: now}
	l.buckets[a] = b
	return b
}

// sweep forgets addresses that have all their tokens back, at most once a second.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for a, b := range l.buckets {
		if b.fill(now); b.tokens >= replyBurst {
			delete(l.buckets, a)
		}
	}
}
