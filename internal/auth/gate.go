package auth

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Gate decides about one request: by its token, or without one where
// anybody may view.
type Gate struct {
	*Verifier
	open atomic.Bool
}

// NewGate makes a Gate; open is the configuration's auth.open.
func NewGate(v *Verifier, open bool) *Gate {
	g := &Gate{Verifier: v}
	g.open.Store(open)
	return g
}

// SetOpen follows a change of the configuration's auth.open.
func (g *Gate) SetOpen(open bool) { g.open.Store(open) }

// Grant is what a request with this token may do; an empty token is one
// without. A bad token is refused also where anybody may view, so that its
// owner learns of it. Every error wraps [ErrToken].
func (g *Gate) Grant(token string, now time.Time) (Grant, error) {
	open := g.open.Load()
	if token == "" && open {
		return OpenGrant(), nil
	}
	grant, err := g.Verify(token, now)
	if err != nil {
		return Grant{}, err
	}
	grant.Open = open
	return grant, nil
}

// Bounds of a Throttle.
const (
	throttleBurst  = 20              // refusals at once
	throttleRefill = 3 * time.Second // one more
	throttleMax    = 4096            // addresses remembered
)

// Throttle bounds how often one address is refused before it is told to wait.
// It bounds refusals only: who has a good token never waits for a neighbour
// behind the same address. The zero value is ready.
type Throttle struct {
	mu   sync.Mutex
	full map[netip.Addr]time.Time // when the address will have its whole burst again
}

// Refuse counts a refusal of an address and returns how long it has to wait:
// 0 while within bounds.
func (t *Throttle) Refuse(addr netip.Addr, now time.Time) (wait time.Duration) {
	addr = site(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full == nil {
		t.full = map[netip.Addr]time.Time{}
	}
	full, known := t.full[addr]
	if full.Before(now) {
		full = now
	}
	if !known && len(t.full) >= throttleMax {
		t.forget(now)
	}
	if debt := full.Sub(now) + throttleRefill - throttleBurst*throttleRefill; debt > 0 {
		return debt
	}
	t.full[addr] = full.Add(throttleRefill)
	return 0
}

// forget drops the addresses that have their whole burst again, or all: an
// attacker with many addresses gains what he would have gained anyway.
func (t *Throttle) forget(now time.Time) {
	for a, full := range t.full {
		if !full.After(now) {
			delete(t.full, a)
		}
	}
	if len(t.full) >= throttleMax {
		clear(t.full)
	}
}

// site is the address for IPv4 and the /64 for IPv6, where one host commands
// a whole subnet.
func site(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
