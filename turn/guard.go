package turn

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
)

const (
	minLifetime    = 60 // seconds
	lapseMargin    = time.Second
	maxDatagram    = 1600 // what the server reads; one as long may be cut
	maxPermissions = 16   // per allocation
	maxChannels    = 16   // per allocation
	maxReadErrors  = 100  // in a row, before the listener is given up
)

// guard is the packet layer under the TURN server: a net.PacketConn that hands
// over only what is well-formed, affordable and safe at this moment, and mends
// what goes out. It stands between two known faults of the server above it and
// the network:
//
//   - A permission that is added while its allocation expires ends the process.
//     So lifetimes under a minute are refused, and from one second before an
//     allocation's expiry until the server has said that it is gone, nothing is
//     delivered for its five-tuple.
//   - An XOR-PEER-ADDRESS shorter than its header ends the process. So every
//     message is parsed here first, strictly.
//
// The server reads with one goroutine, which also runs every callback of a
// request and writes every response: the read loop. Relayed data is written
// from other goroutines.
type guard struct {
	socket socket
	realm  string
	now    func() time.Time
	policy *policy
	count  *counters
	keyOf  func(username string) []byte // long-term key

	// owned by the read loop
	limit  *limiter
	cur    current
	errors int

	relays sync.WaitGroup // live allocations
	ended  chan struct{}  // closed when the read loop has met the end of the socket
	once   sync.Once
	err    error // why, where the socket was not closed; valid after ended

	mu      sync.RWMutex // guards what follows
	clients map[netip.AddrPort]*client
	users   map[string]int // allocations by subject
}

// current is the request in the server's hands.
type current struct {
	request
	src    netip.AddrPort
	local  netip.Addr
	at     time.Time
	key    []byte // of the username, once the server has asked for it
	denied bool   // authentication has not passed
}

// client is the owner of a live allocation.
type client struct {
	addr     *net.UDPAddr
	control  []byte
	username string
	subject  string
	lapses   atomic.Int64 // Unix nanoseconds from which nothing is delivered; 0: not known yet

	// guarded by guard.mu
	permissions map[netip.Addr]struct{}
	channels    int
}

func newGuard(s socket, realm string, now func() time.Time, p *policy, count *counters, keyOf func(string) []byte) *guard {
	return &guard{
		socket: s, realm: realm, now: now, policy: p, count: count, keyOf: keyOf,
		limit: newLimiter(), ended: make(chan struct{}),
		clients: map[netip.AddrPort]*client{}, users: map[string]int{},
	}
}

// ReadFrom implements net.PacketConn for the server's read loop.
func (g *guard) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, src, local, err := g.socket.read(p)
		if err != nil {
			g.count.add(failSocket)
			g.errors++
			closed := errors.Is(err, net.ErrClosed)
			if !closed && g.errors < maxReadErrors {
				continue
			}
			g.once.Do(func() {
				if !closed {
					g.err = err
				}
				close(g.ended)
			})
			return 0, nil, err
		}
		g.errors = 0
		if addr := g.admit(p[:n], src, local); addr != nil {
			return n, addr, nil
		}
	}
}

// admit decides whether the server may see a datagram; nil means no.
func (g *guard) admit(b []byte, src netip.AddrPort, local netip.Addr) net.Addr {
	now := g.now()
	c := g.client(src)
	if c != nil {
		if t := c.lapses.Load(); t != 0 && now.UnixNano() >= t {
			g.count.add(failLapse)
			return nil
		}
	} else if !g.limit.ready(src.Addr(), now) {
		g.count.add(failRate)
		return nil
	}
	if len(b) >= maxDatagram {
		g.count.add(failOversize)
		return nil
	}
	if isChannelData(b) {
		if c == nil {
			g.count.add(failNoAllocation)
			return nil
		}
		return c.addr
	}
	m, ok := parse(b)
	if !ok {
		g.count.add(failMalformed)
		return nil
	}
	g.cur = current{request: m, src: src, local: local, at: now}
	if code, why := g.judge(&m, c); why != failNone {
		g.count.add(why)
		if code != 0 {
			g.refuse(b, code)
		}
		return nil
	}
	if c != nil {
		return c.addr
	}
	return net.UDPAddrFromAddrPort(src)
}

// judge gives the error code (0: say nothing) and the reason why a message
// must not reach the server. It answers what the server would leave unanswered
// or get wrong, so that clients need not wait for a timeout (RFC 8656 §7, §9, §12).
func (g *guard) judge(m *request, c *client) (stun.ErrorCode, failure) {
	if m.class == stun.ClassIndication {
		return 0, judgeIndication(m, c)
	}
	if m.class != stun.ClassRequest {
		return 0, failMalformed
	}
	switch m.method {
	case stun.MethodBinding:
		return 0, failNone
	case stun.MethodAllocate:
		return g.judgeAllocate(m)
	case stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
	default:
		return 0, failMalformed
	}
	switch {
	case c == nil:
		return stun.CodeAllocMismatch, failNoAllocation
	case m.integrity && !bytes.Equal(m.username, []byte(c.username)):
		return stun.CodeWrongCredentials, failWrongUser
	case m.method == stun.MethodRefresh && m.hasLifetime && m.lifetime > 0 && m.lifetime < minLifetime:
		return stun.CodeBadRequest, failLifetime
	case m.method == stun.MethodChannelBind && (m.channel < 0x4000 || m.channel > 0x7FFF || !m.peer.IsValid()),
		m.method == stun.MethodCreatePermission && !m.peer.IsValid():
		return stun.CodeBadRequest, failMalformed
	}
	return 0, failNone
}

func judgeIndication(m *request, c *client) failure {
	switch {
	case m.method == stun.MethodBinding:
		return failKeepalive
	case m.method != stun.MethodSend || !m.peer.IsValid() || !m.data:
		return failMalformed
	case c == nil:
		return failNoAllocation
	}
	return failNone
}

func (g *guard) judgeAllocate(m *request) (stun.ErrorCode, failure) {
	switch {
	case m.hasLifetime && m.lifetime < minLifetime:
		return stun.CodeBadRequest, failLifetime
	case m.transport != 0 && m.transport != transUDP:
		return stun.CodeUnsupportedTransProto, failUnsupported
	case m.family != 0 && m.family != familyIPv4 && m.family != familyIPv6:
		return stun.CodeAddrFamilyNotSupported, failUnsupported
	case m.family != 0:
		if _, ok := g.policy.first(m.family == familyIPv6); !ok {
			return stun.CodeAddrFamilyNotSupported, failUnsupported
		}
	}
	return 0, failNone
}

// WriteTo implements net.PacketConn: responses from the read loop, relayed
// data from the allocations' goroutines. What the network would not take is
// counted, not reported: the server could do nothing about it.
func (g *guard) WriteTo(b []byte, addr net.Addr) (int, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	dst := unmapped(u.AddrPort())
	if isResponse(b) {
		g.respond(b, dst)
		return len(b), nil
	}
	c := g.client(dst)
	if c == nil { // it has just gone
		g.count.add(failNoAllocation)
		return len(b), nil
	}
	g.send(b, dst, c.control)
	return len(b), nil
}

func (g *guard) send(b []byte, dst netip.AddrPort, control []byte) {
	if err := g.socket.write(b, dst, control); err != nil && !errors.Is(err, net.ErrClosed) {
		g.count.add(failSocket)
	}
}

func (g *guard) client(src netip.AddrPort) *client {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.clients[src]
}

// Close implements net.PacketConn.
func (g *guard) Close() error { return g.socket.Close() }

// LocalAddr implements net.PacketConn.
func (g *guard) LocalAddr() net.Addr { return g.socket.LocalAddr() }

// SetDeadline implements net.PacketConn; the server sets none.
func (g *guard) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline implements net.PacketConn; the server sets none.
func (g *guard) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline implements net.PacketConn; the server sets none.
func (g *guard) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
