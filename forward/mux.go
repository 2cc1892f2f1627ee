package forward

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pion/ice/v4"
)

const (
	stunQueue    = 32                    // datagrams that wait for a viewer's ICE agent
	viewerHomes  = 2 * maxCandidates     // addresses that are known to be one viewer's
	readPause    = 50 * time.Millisecond // after an error of the socket that is nobody's
	stunHeader   = 20                    // bytes (RFC 8489 §5)
	stunCookie   = 0x2112a442
	stunUsername = 0x0006 // attribute (RFC 8489 §14.3)
)

// mux reads the media socket for all viewers and publishers, in one goroutine that waits for
// none of them:
//
//   - STUN requests go to the ICE agent whose ufrag they name,
//   - other STUN to the agent that has written to where it comes from,
//   - DTLS, RTCP and RTP from there straight to the viewer or publisher, not through
//     the agent.
//
// All else is counted and forgotten.
type mux struct {
	sfu *SFU
	raw syscall.RawConn

	mu    sync.RWMutex
	conns map[connKey]*muxConn
	homes map[netip.AddrPort]*home
}

// connKey names a local candidate: there is one a family and ICE generation.
type connKey struct {
	ufrag string
	v6    bool
}

// home is an address that datagrams come from. The mux's mu guards it.
type home struct {
	owner *link    // whose DTLS, RTCP and RTP comes from there
	conn  *muxConn // the same's, which awaits STUN responses
	guest *muxConn // another one's that does so too; nil: none
}

func newMux(s *SFU) (*mux, error) {
	raw, err := s.udp.SyscallConn()
	return &mux{sfu: s, raw: raw, conns: map[connKey]*muxConn{}, homes: map[netip.AddrPort]*home{}}, err
}

// run reads until the socket is closed.
func (m *mux) run() {
	in := newArrivals()
	for {
		n, err := in.read(m.raw)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(readPause) // of the machine, or of one peer: it must not end the others
			continue
		}
		now := time.Now()
		for i := range n {
			if p, from, whole := in.datagram(i); !whole || !m.deliver(p, from, now) {
				m.sfu.counters.ignored.Add(1)
			}
		}
	}
}

// content is what a datagram says it is.
type content uint8

const (
	unknown content = iota
	stunRequest
	stunOther
	dtlsRecord
	rtcpPacket
	rtpPacket
)

// classify tells datagrams apart by their first bytes (RFC 7983 §7, RFC 5761
// §4). STUN is of the binding method, and as long as it says.
func classify(p []byte) content {
	switch {
	case len(p) >= stunHeader && p[0] < 4 && binary.BigEndian.Uint32(p[4:]) == stunCookie && int(binary.BigEndian.Uint16(p[2:])) == len(p)-stunHeader:
		switch binary.BigEndian.Uint16(p) {
		case 0x0001:
			return stunRequest
		case 0x0011, 0x0101, 0x0111: // indication, success, error
			return stunOther
		}
	case len(p) >= 13 && p[0] >= 20 && p[0] <= 63:
		return dtlsRecord
	case len(p) >= 8 && p[0] >= 128 && p[0] <= 191 && p[1] >= 192 && p[1] <= 223:
		return rtcpPacket
	case len(p) >= headerSize && p[0] >= 128 && p[0] <= 191:
		return rtpPacket
	}
	return unknown
}

// requestUfrag is the part of a STUN request's USERNAME before the colon: the
// ufrag of whom the request is for (RFC 8445 §7.2.2). Nil: there is none.
func requestUfrag(p []byte) []byte {
	for p = p[stunHeader:]; len(p) >= 4; {
		kind, size := binary.BigEndian.Uint16(p), int(binary.BigEndian.Uint16(p[2:]))
		padded := 4 + (size+3)&^3
		if padded > len(p) {
			return nil
		}
		if kind == stunUsername {
			if i := slices.Index(p[4:4+size], ':'); i > 0 {
				return p[4 : 4+i]
			}
			return nil
		}
		p = p[padded:]
	}
	return nil
}

// deliver hands a datagram to whom it is for and reports whether it was taken.
// It does not retain p.
func (m *mux) deliver(p []byte, from netip.AddrPort, now time.Time) bool {
	switch kind := classify(p); kind {
	case stunRequest:
		key := requestUfrag(p)
		m.mu.RLock()
		conn := m.conns[connKey{string(key), from.Addr().Is6()}]
		m.mu.RUnlock()
		return conn.put(p, from)
	case stunOther, dtlsRecord, rtcpPacket, rtpPacket:
		m.mu.RLock()
		var h home
		if at := m.homes[from]; at != nil {
			h = *at
		}
		m.mu.RUnlock()
		if kind == stunOther {
			taken := h.conn.put(p, from)
			return h.guest.put(p, from) || taken
		}
		return h.owner != nil && h.owner.receive(kind, p, now)
	}
	return false
}

// wrote notes that a viewer's agent sends to an address: what comes from there
// is the viewer's, unless the address is proved to be another's.
func (m *mux) wrote(c *muxConn, to netip.AddrPort) {
	m.mu.RLock()
	h := m.homes[to]
	known := h != nil && (h.conn == c || h.guest == c)
	m.mu.RUnlock()
	if known {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch h := m.homeLocked(c.share, to); {
	case h.owner == nil || h.owner == c.share.owner || !h.owner.isAt(to):
		h.owner, h.conn = c.share.owner, c
	default:
		h.guest = c
	}
}

// moved notes that a viewer has proved to be at an address.
func (m *mux) moved(share *muxShare, to netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.homeLocked(share, to)
	if h.owner == share.owner {
		return
	}
	conn := h.guest
	if conn != nil && conn.share != share {
		conn = nil // it becomes known with the agent's next check
	}
	h.owner, h.conn, h.guest = share.owner, conn, nil
}

// homeLocked finds an address or makes it known. Of the addresses of a viewer
// that has too many, the one known longest is forgotten.
func (m *mux) homeLocked(share *muxShare, at netip.AddrPort) *home {
	h := m.homes[at]
	if h == nil {
		h = &home{}
		m.homes[at] = h
	}
	if slices.Contains(share.at, at) {
		return h
	}
	if len(share.at) >= viewerHomes {
		i := 0
		if share.owner.isAt(share.at[0]) {
			i = 1
		}
		m.forgetLocked(share, share.at[i])
		share.at = slices.Delete(share.at, i, i+1)
	}
	share.at = append(share.at, at)
	return h
}

// forgetLocked takes a viewer's name off an address.
func (m *mux) forgetLocked(share *muxShare, at netip.AddrPort) {
	h := m.homes[at]
	switch {
	case h == nil:
	case h.owner == share.owner:
		delete(m.homes, at)
	case h.guest != nil && h.guest.share == share:
		h.guest = nil
	}
}

// muxShare is one viewer's part of the mux. It implements ice.UDPMux.
type muxShare struct {
	*mux
	owner *link
	at    []netip.AddrPort // its homes; the mux's mu guards it
}

// GetListenAddresses implements ice.UDPMux; the agent makes a host candidate
// of each. One a family is enough, for they are all the one socket: what each
// costs a viewer does not rise with the box's addresses. The answer has the
// others (SFU.furtherCandidates).
func (s *muxShare) GetListenAddresses() []net.Addr {
	first, _ := s.sfu.listenAddrs()
	out := make([]net.Addr, len(first))
	for i, a := range first {
		out[i] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, s.sfu.bound.Port()))
	}
	return out
}

// GetConn implements ice.UDPMux.
func (s *muxShare) GetConn(ufrag string, local net.Addr) (net.PacketConn, error) {
	addr, ok := local.(*net.UDPAddr)
	if !ok {
		return nil, errors.New("no UDP address")
	}
	c := &muxConn{share: s, local: addr, key: connKey{ufrag, addr.IP.To4() == nil}, in: make(chan *datagram, stunQueue), closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.key] != nil {
		return nil, errors.New("the ufrag is in use")
	}
	s.conns[c.key] = c
	return c, nil
}

// RemoveConnByUfrag implements ice.UDPMux.
func (s *muxShare) RemoveConnByUfrag(ufrag string) {
	for _, v6 := range []bool{false, true} {
		s.mu.RLock()
		c := s.conns[connKey{ufrag, v6}]
		s.mu.RUnlock()
		if c != nil && c.share == s {
			_ = c.Close()
		}
	}
}

// Close implements ice.UDPMux: the viewer has left.
func (s *muxShare) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.at {
		s.forgetLocked(s, at)
	}
	s.at = nil
	return nil
}

// datagram is one that waits for an agent.
type datagram struct {
	from netip.AddrPort
	size int
	data [receiveMTU]byte
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

// muxConn is the media socket as one local candidate of a viewer sees it: STUN
// comes in; STUN and DTLS go out. It implements net.PacketConn and
// ice.AddrPortReaderWriter. Writes do not wait for long, so that write deadlines
// do nothing; Close ends a read.
type muxConn struct {
	share  *muxShare
	local  *net.UDPAddr
	key    connKey
	in     chan *datagram
	closed chan struct{}
	once   sync.Once
}

var _ ice.AddrPortReaderWriter = (*muxConn)(nil)

// put queues a copy of a datagram and reports whether there was room. On a nil
// muxConn there is none.
func (c *muxConn) put(p []byte, from netip.AddrPort) bool {
	if c == nil {
		return false
	}
	d := datagrams.Get().(*datagram)
	d.from, d.size = from, copy(d.data[:], p)
	select {
	case c.in <- d:
		return true
	default:
		datagrams.Put(d)
		return false
	}
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter.
func (c *muxConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		n, from := copy(b, d.data[:d.size]), d.from
		datagrams.Put(d)
		return n, from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, io.EOF
	}
}

// WriteToAddrPort implements ice.AddrPortReaderWriter.
func (c *muxConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-c.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	c.share.wrote(c, to)
	if !c.share.sfu.egress.sendOne(to, b) {
		return 0, errNotSent
	}
	return len(b), nil
}

var errNotSent = errors.New("not sent")

// ReadFrom implements net.PacketConn.
func (c *muxConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn.
func (c *muxConn) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errNotSent
	}
	return c.WriteToAddrPort(b, addr.AddrPort())
}

// Close implements net.PacketConn.
func (c *muxConn) Close() error {
	c.once.Do(func() {
		c.share.mu.Lock()
		delete(c.share.conns, c.key)
		c.share.mu.Unlock()
		close(c.closed)
	})
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *muxConn) LocalAddr() net.Addr { return c.local }

// SetDeadline implements net.PacketConn.
func (c *muxConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (c *muxConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (c *muxConn) SetWriteDeadline(time.Time) error { return nil }
