package turn

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
)

var (
	errNoPeer   = errors.New("the SFU has no address of this family")
	errUDPRelay = errors.New("relays are UDP only")
)

// generator makes the relay sockets. A relay socket is bound to the wildcard
// address, so that what it sends to an address of the box leaves from that same
// address and what the SFU answers comes back from it; and a socket filter lets
// in only what came over the loopback device, which is nothing but the box
// itself. It is called from the read loop.
type generator struct {
	guard    *guard
	publicIP netip.Addr
}

// Validate implements turn.RelayAddressGenerator.
func (g *generator) Validate() error { return nil }

// AllocatePacketConn implements turn.RelayAddressGenerator. The server always
// asks for "udp4"; the family is the request's (RFC 8656 §7.2).
func (g *generator) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	v6 := g.guard.cur.family == familyIPv6
	ip, ok := g.address(v6)
	if !ok {
		return nil, nil, errNoPeer
	}
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
	if err != nil {
		g.guard.count.add(failSocket)
		return nil, nil, errors.New("relay port " + strconv.Itoa(port) + ": " + err.Error())
	}
	if err := onlyLoopback(conn, v6); err != nil {
		conn.Close()
		g.guard.count.add(failSocket)
		return nil, nil, err
	}
	r := &relayConn{UDPConn: conn, policy: g.guard.policy, count: g.guard.count, closed: make(chan struct{})}
	bound := conn.LocalAddr().(*net.UDPAddr).Port // by the network's name
	return r, &net.UDPAddr{IP: ip.AsSlice(), Port: bound}, nil
}

// AllocateConn implements turn.RelayAddressGenerator; RFC 6062 is not offered.
func (g *generator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errUDPRelay
}

// address is what the viewer is told: the configured public address, else the
// one it used, else one of the SFU's.
func (g *generator) address(v6 bool) (netip.Addr, bool) {
	first, ok := g.guard.policy.first(v6)
	if !ok {
		return netip.Addr{}, false
	}
	if p := g.publicIP.Unmap(); p.IsValid() && p.Is6() == v6 {
		return p, true
	}
	if l := g.guard.cur.local.Unmap(); l.IsValid() && l.Is6() == v6 && g.guard.policy.allowsIP(l) {
		return l.WithZone(""), true
	}
	return first, true
}

// relayConn is the relay socket of one allocation. Whatever the server has
// permitted, it sends to the SFU's exact addresses and ports only and takes
// nothing from anyone else.
type relayConn struct {
	*net.UDPConn
	policy *policy
	count  *counters
	once   sync.Once
	closed chan struct{}

	// owned by the allocation's goroutine
	peer     netip.AddrPort
	peerAddr *net.UDPAddr
}

// ReadFrom returns an error only when the socket was closed: any other would
// make the server delete the allocation beside its read loop, which is the race
// that the guard keeps away.
func (r *relayConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for bad := 0; ; {
		n, src, err := r.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return 0, nil, err
		}
		if err != nil {
			r.count.add(failSocket)
			if bad++; bad >= maxReadErrors {
				<-r.closed
				return 0, nil, net.ErrClosed
			}
			continue
		}
		src = unmapped(src)
		if !r.policy.allows(src) {
			r.count.add(failStranger)
			continue
		}
		if src != r.peer {
			r.peer, r.peerAddr = src, net.UDPAddrFromAddrPort(src)
		}
		r.count.out.Add(uint64(n))
		return n, r.peerAddr, nil
	}
}

// WriteTo sends to the SFU; for anyone else it drops and counts, as a relay
// does with what it has no permission for (RFC 8656 §10.2).
func (r *relayConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	dst := unmapped(u.AddrPort())
	if !r.policy.allows(dst) {
		r.count.denied.Add(1)
		return len(b), nil
	}
	r.count.in.Add(uint64(len(b))) // before the SFU can have answered
	if _, err := r.WriteToUDPAddrPort(b, dst); err != nil && !errors.Is(err, net.ErrClosed) {
		r.count.add(failSocket)
	}
	return len(b), nil
}

// Close never fails: the server gives up closing the others where one fails.
func (r *relayConn) Close() error {
	r.once.Do(func() {
		r.UDPConn.Close()
		close(r.closed)
	})
	return nil
}
