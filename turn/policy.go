package turn

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// peerAge is how long a list of the SFU's addresses is believed.
const peerAge = time.Second

// policy knows the only peers that anything may be relayed to: the addresses
// of the box's own SFU. It is an allow-list of exact address and port, so no
// spelling of any other address can pass. Safe for concurrent use.
type policy struct {
	source func() []netip.AddrPort
	now    func() time.Time
	peers  atomic.Pointer[peerList]
}

type peerList struct {
	at   time.Time
	list []netip.AddrPort
	set  map[netip.AddrPort]struct{}
	ips  map[netip.Addr]struct{}
}

func (p *policy) current() *peerList {
	now := p.now()
	if l := p.peers.Load(); l != nil && now.Sub(l.at) < peerAge {
		return l
	}
	l := &peerList{at: now, set: map[netip.AddrPort]struct{}{}, ips: map[netip.Addr]struct{}{}}
	for _, ap := range p.source() {
		a := ap.Addr().Unmap().WithZone("")
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || ap.Port() == 0 {
			continue
		}
		ap = netip.AddrPortFrom(a, ap.Port())
		l.list = append(l.list, ap)
		l.set[ap] = struct{}{}
		l.ips[a] = struct{}{}
	}
	p.peers.Store(l)
	return l
}

// allows reports whether ap is the SFU. An IPv4 address mapped into IPv6 is
// not the same spelling and is refused.
func (p *policy) allows(ap netip.AddrPort) bool {
	_, ok := p.current().set[ap]
	return ok
}

// allowsIP reports whether a is an address of the SFU, whatever the port:
// permissions know no ports (RFC 8656 §9).
func (p *policy) allowsIP(a netip.Addr) bool {
	_, ok := p.current().ips[a]
	return ok
}

// first gives an address of the SFU of the family.
func (p *policy) first(v6 bool) (netip.Addr, bool) {
	for _, ap := range p.current().list {
		if ap.Addr().Is6() == v6 {
			return ap.Addr(), true
		}
	}
	return netip.Addr{}, false
}
