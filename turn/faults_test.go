package turn

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
	pion "github.com/pion/turn/v4"
)

// memory is a socket, and memory relays stand behind it: time can be jumped over.
type memory struct {
	in     chan memoryDatagram
	out    chan memoryDatagram
	closed chan struct{}
	once   sync.Once
}

type memoryDatagram struct {
	b    []byte
	peer netip.AddrPort
}

func newMemory() *memory {
	return &memory{in: make(chan memoryDatagram), out: make(chan memoryDatagram, 1024), closed: make(chan struct{})}
}

func (m *memory) read(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	select {
	case d := <-m.in:
		return copy(b, d.b), d.peer, netip.MustParseAddr("127.0.0.1"), nil
	case <-m.closed:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (m *memory) write(b []byte, dst netip.AddrPort, _ []byte) error {
	m.out <- memoryDatagram{append([]byte(nil), b...), dst}
	return nil
}

func (m *memory) control(netip.Addr) []byte { return nil }
func (m *memory) LocalAddr() net.Addr       { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }
func (m *memory) Close() error              { m.once.Do(func() { close(m.closed) }); return nil }

type memoryRelays struct{ port int }

func (m *memoryRelays) Validate() error { return nil }

func (m *memoryRelays) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	m.port++
	return &memoryRelay{closed: make(chan struct{})}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: m.port}, nil
}

func (m *memoryRelays) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errUDPRelay
}

type memoryRelay struct {
	net.PacketConn
	once   sync.Once
	closed chan struct{}
}

func (m *memoryRelay) ReadFrom([]byte) (int, net.Addr, error) {
	<-m.closed
	return 0, nil, net.ErrClosed
}
func (m *memoryRelay) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (m *memoryRelay) LocalAddr() net.Addr                       { return &net.UDPAddr{} }
func (m *memoryRelay) Close() error                              { m.once.Do(func() { close(m.closed) }); return nil }

// TestPermissionWhileTheAllocationExpires: the server dies of a permission that
// is added while the allocation's timer fires. Here hundreds of allocations end
// at one instant, while permissions arrive for them at that very instant; the
// guard must not let one through.
func TestPermissionWhileTheAllocationExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		cfg := config()
		cfg.MaxAllocations, cfg.PerUser = n, n
		sfu := netip.MustParseAddrPort("127.0.0.1:8189")
		r, err := New(cfg, secret, func() []netip.AddrPort { return []netip.AddrPort{sfu} }, quiet())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m := newMemory()
		ended := make(chan error, 1)
		go func() {
			ended <- r.serve(ctx, m, func(*guard) pion.RelayAddressGenerator { return &memoryRelays{} })
		}()
		<-r.Ready()

		user, pass, _ := r.Credentials("viewer", time.Hour)
		src := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 5000)
		}
		send := func(i int, method stun.Method, attrs ...stun.Setter) {
			b, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)...)
			if err != nil {
				t.Fatal(err)
			}
			m.in <- memoryDatagram{b.Raw, src(i)}
		}
		answer := func() *stun.Message {
			a := &stun.Message{Raw: (<-m.out).b}
			if err := a.Decode(); err != nil {
				t.Fatal(err)
			}
			return a
		}
		send(0, stun.MethodAllocate, transport(transUDP))
		var nonce stun.Nonce
		if err := nonce.GetFrom(answer()); err != nil {
			t.Fatal(err)
		}
		sign := []stun.Setter{stun.NewUsername(user), stun.NewRealm("edged"), nonce, stun.NewLongTermIntegrity(user, "edged", pass)}
		begin := time.Now()
		for i := range n {
			send(i, stun.MethodAllocate, append([]stun.Setter{transport(transUDP), lifetime(60)}, sign...)...)
			if got := code(answer()); got != 0 {
				t.Fatalf("allocate %d: %d", i, got)
			}
		}
		time.Sleep(time.Until(begin.Add(60 * time.Second))) // virtual; the timers fire now
		for i := range n {
			send(i, stun.MethodCreatePermission, append([]stun.Setter{peer(sfu)}, sign...)...)
		}
		synctest.Wait()
		s := r.Stats()
		for len(m.out) > 0 { // where the allocation had gone already
			if got := code(answer()); got != stun.CodeAllocMismatch {
				t.Errorf("permission at the expiry: %d", got)
			}
		}
		if s.Allocations != 0 || s.Failures["lapsing"]+s.Failures["no_allocation"] != n {
			t.Errorf("%d allocations live, failures %v", s.Allocations, s.Failures)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// TestShortPeerAddress: the decoder behind the guard slices an XOR-PEER-ADDRESS
// before it looks at its length.
func TestShortPeerAddress(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	c := dial(t, "127.0.0.1", r)
	if got := code(c.allocate()); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	bad := uint64(0)
	for _, v := range [][]byte{{}, {0}, {0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3, 4, 5, 6}, make([]byte, 20), {0, 2, 1, 1, 1, 1, 1, 1}} {
		for pad := range 20 { // some length is the capacity of the copy that the server makes
			m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication),
				raw(stun.AttrData, make([]byte, 4*pad)...), raw(stun.AttrXORPeerAddress, v...))
			if err != nil {
				t.Fatal(err)
			}
			c.send(m.Raw)
			bad++
		}
		c.send(c.signed(stun.MethodCreatePermission, peer(sfu), raw(stun.AttrXORPeerAddress, v...)).Raw)
		bad++
	}
	eventually(t, func() bool { return r.Stats().Failures["malformed"] == bad })
	roundTrip(t, c, sfu)
}

// vectors are RFC 5769's sample request (§2.1), response (§2.2) and long-term
// authentication request (§2.4).
var vectors = [][]byte{
	[]byte("\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae" +
		"\x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36" +
		"\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20" +
		"\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2" +
		"\x80\x28\x00\x04\xe5\x7a\x3b\xcf"),
	[]byte("\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae" +
		"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20" +
		"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43" +
		"\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7" +
		"\x80\x28\x00\x04\xc0\x7d\x4c\x96"),
	[]byte("\x00\x01\x00\x60\x21\x12\xa4\x42\x78\xad\x34\x33\xc6\xad\x72\xc0\x29\xda\x41\x2e" +
		"\x00\x06\x00\x12\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9\x00\x00" +
		"\x00\x15\x00\x1c\x66\x2f\x2f\x34\x39\x39\x6b\x39\x35\x34\x64\x36\x4f\x4c\x33\x34\x6f\x4c\x39\x46\x53\x54\x76\x79\x36\x34\x73\x41" +
		"\x00\x14\x00\x0b\x65\x78\x61\x6d\x70\x6c\x65\x2e\x6f\x72\x67\x00" +
		"\x00\x08\x00\x14\xf6\x70\x24\x65\x6d\xd6\x4a\x3e\x02\xb8\xe0\x71\x2e\x85\xc9\xa2\x8c\xa8\x96\x66"),
}

func TestParseVectors(t *testing.T) {
	for i, v := range vectors {
		if m, ok := parse(v); !ok || m.method != stun.MethodBinding || !m.integrity {
			t.Errorf("vector %d: %+v, %v", i, m, ok)
		}
		for n := range v {
			if _, ok := parse(v[:n]); ok {
				t.Errorf("vector %d: the first %d bytes are a message", i, n)
			}
		}
	}
	if m, _ := parse(vectors[2]); string(m.username) != "マトリックス" || string(m.nonce) != "f//499k954d6OL34oL9FSTvy64sA" {
		t.Errorf("username %q, nonce %q", m.username, m.nonce)
	}
	after := append(append([]byte(nil), vectors[2]...), 0, 0x0D, 0, 4, 0, 0, 0, 1) // LIFETIME, unsigned
	after[3] += 8
	if _, ok := parse(after); ok {
		t.Error("an attribute after MESSAGE-INTEGRITY is taken")
	}
}

// FuzzGuard sends foreign datagrams through the guard into a real server: from
// a stranger, and from the owner of an allocation.
func FuzzGuard(f *testing.F) {
	for _, v := range vectors {
		f.Add(v)
	}
	add := func(t stun.MessageType, attrs ...stun.Setter) {
		m, err := stun.Build(append([]stun.Setter{stun.TransactionID, t}, attrs...)...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw)
	}
	sfu := netip.MustParseAddrPort("127.0.0.1:8189")
	add(stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport(transUDP), lifetime(1))
	add(stun.NewType(stun.MethodCreatePermission, stun.ClassRequest), peer(sfu), raw(stun.AttrXORPeerAddress))
	add(stun.NewType(stun.MethodChannelBind, stun.ClassRequest), channel(0x4000), peer(sfu))
	add(stun.NewType(stun.MethodSend, stun.ClassIndication), peer(sfu), raw(stun.AttrData, 1, 2, 3))
	f.Add([]byte{0x40, 0, 0xFF, 0xFC, 0, 0, 0, 0, 0})
	f.Add([]byte{0x40, 0, 0, 4, 1, 2, 3, 4})

	r, err := New(config(), secret, func() []netip.AddrPort { return []netip.AddrPort{sfu} }, quiet())
	if err != nil {
		f.Fatal(err)
	}
	m := newMemory()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- r.serve(ctx, m, func(*guard) pion.RelayAddressGenerator { return &memoryRelays{} })
	}()
	go func() { // what it says is of no interest
		for {
			select {
			case <-m.out:
			case <-m.closed:
				return
			}
		}
	}()
	f.Cleanup(func() { cancel(); <-ended })
	<-r.Ready()
	owner := netip.MustParseAddrPort("10.0.0.1:5000")
	username, _, _ := r.Credentials("viewer", time.Hour)
	r.guard.created(net.UDPAddrFromAddrPort(owner), username)
	f.Cleanup(func() { r.guard.deleted(net.UDPAddrFromAddrPort(owner)) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxDatagram {
			return
		}
		for _, src := range []netip.AddrPort{owner, netip.MustParseAddrPort("10.0.0.2:5000")} {
			m.in <- memoryDatagram{b, src}
		}
		m.in <- memoryDatagram{nil, owner} // taken when the server has done with the others
		if req, ok := parse(b); ok {
			agree(t, b, &req)
		}
	})
}

// agree checks that the server's decoder reads what the guard has judged.
func agree(t *testing.T, b []byte, req *request) {
	m := &stun.Message{Raw: append(make([]byte, 0, len(b)), b...)} // no spare capacity
	if err := m.Decode(); err != nil {
		return // the server drops it
	}
	if m.Type.Method != req.method || m.Type.Class != req.class || m.TransactionID != req.id {
		t.Fatalf("header: %v, %+v", m, req)
	}
	var p stun.XORMappedAddress
	if err := p.GetFromAs(m, stun.AttrXORPeerAddress); (err == nil) != req.peer.IsValid() {
		t.Fatalf("peer: %v, %v", err, req.peer)
	} else if err == nil && (p.Port != int(req.peer.Port()) || !p.IP.Equal(req.peer.Addr().AsSlice())) {
		t.Fatalf("peer: %v, %v", p, req.peer)
	}
	if v, err := m.Get(stun.AttrLifetime); (err == nil) != req.hasLifetime ||
		err == nil && uint32(v[0])<<24|uint32(v[1])<<16|uint32(v[2])<<8|uint32(v[3]) != req.lifetime {
		t.Fatalf("lifetime: %x, %d", v, req.lifetime)
	}
	if v, err := m.Get(stun.AttrUsername); (err == nil) != (req.username != nil) || string(v) != string(req.username) {
		t.Fatalf("username: %q, %q", v, req.username)
	}
}
