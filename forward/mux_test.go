package forward

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4/packetio"
)

// bindingRequest is a STUN request with a USERNAME.
func bindingRequest(t testing.TB, username string) []byte {
	t.Helper()
	m, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername(username), stun.NewShortTermIntegrity("password"), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func bindingSuccess(t testing.TB) []byte {
	t.Helper()
	m, err := stun.Build(stun.BindingSuccess, stun.TransactionID, stun.NewShortTermIntegrity("password"), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// Datagrams are told apart by their first byte (RFC 7983 §7), and by what else
// must be there.
func TestClassify(t *testing.T) {
	for first := range 256 {
		p := make([]byte, 60)
		p[0], p[1] = byte(first), 200
		want := unknown
		switch {
		case first >= 20 && first <= 63:
			want = dtlsRecord
		case first >= 128 && first <= 191:
			want = rtcpPacket
		}
		if got := classify(p); got != want {
			t.Errorf("first byte %d: %d, want %d", first, got, want)
		}
	}
	request, success := bindingRequest(t, "box:viewer"), bindingSuccess(t)
	change := func(i int, to byte) []byte {
		p := slices.Clone(request)
		p[i] = to
		return p
	}
	for name, c := range map[string]struct {
		p    []byte
		want content
	}{
		"nothing":               {nil, unknown},
		"request":               {request, stunRequest},
		"response":              {success, stunOther},
		"cut short":             {request[:len(request)-4], unknown},
		"cut in the header":     {request[:19], unknown},
		"something behind it":   {append(slices.Clone(request), 0, 0, 0, 0), unknown},
		"wrong magic":           {change(5, 0), unknown},
		"another method":        {change(1, 3), unknown},
		"no record":             {make([]byte, 12), unknown},
		"media":                 {append([]byte{0x80, 96}, make([]byte, 20)...), rtpPacket},
		"media cut short":       {append([]byte{0x80, 96}, make([]byte, 9)...), unknown},
		"RTCP cut short":        {[]byte{0x80, 200, 0, 1, 0, 0, 0}, unknown},
		"one byte":              {[]byte{0x16}, unknown},
		"one byte, ChannelData": {[]byte{0x40}, unknown},
	} {
		if got := classify(c.p); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestRequestUfrag(t *testing.T) {
	attributes := func(p ...byte) []byte { return append(make([]byte, stunHeader), p...) }
	for name, c := range map[string]struct {
		p    []byte
		want string
	}{
		"of pion":         {bindingRequest(t, "boxufrag:viewer"), "boxufrag"},
		"none":            {bindingSuccess(t), ""},
		"no colon":        {bindingRequest(t, "boxufrag"), ""},
		"colon first":     {bindingRequest(t, ":viewer"), ""},
		"after another":   {attributes(0, 0x24, 0, 1, 1, 0, 0, 0, 0, 6, 0, 3, 'a', ':', 'b', 0), "a"},
		"longer than all": {attributes(0, 6, 0xff, 0xff, 'a', ':', 'b', 0), ""},
		"padding missing": {attributes(0, 6, 0, 3, 'a', ':', 'b'), ""},
		"half a header":   {attributes(0, 6), ""},
		"empty":           {attributes(), ""},
	} {
		if got := string(requestUfrag(c.p)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// bareMux is a mux with viewers that have no agent.
func bareMux(t testing.TB) (*mux, func() (*Viewer, *muxConn)) {
	s := &SFU{log: slog.New(slog.DiscardHandler), joinTime: newHistogram(1), delay: newHistogram(1)}
	s.egress, _ = socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	s.udp = s.egress.conn
	m, err := newMux(s)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	return m, func() (*Viewer, *muxConn) {
		n++
		v, _ := bareViewer(t)
		v.sfu, v.dtls = s, packetio.NewBuffer()
		v.share = &muxShare{mux: m, owner: &v.link}
		c, err := v.share.GetConn(fmt.Sprintf("ufrag%d", n), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return v, c.(*muxConn)
	}
}

var (
	here  = netip.MustParseAddrPort("192.0.2.1:5000")
	there = netip.MustParseAddrPort("192.0.2.2:5000")
)

func TestMuxDelivers(t *testing.T) {
	m, viewer := bareMux(t)
	v, c := viewer()
	w, d := viewer()
	record := append([]byte{22}, make([]byte, 20)...)
	success := bindingSuccess(t)
	now := testTime
	for _, p := range [][]byte{record, success, bindingRequest(t, "nobody:x"), append([]byte{0x80, 200}, make([]byte, 20)...), {1}, nil} {
		if m.deliver(p, here, now) {
			t.Fatalf("%x was taken from a stranger", p)
		}
	}
	if !m.deliver(bindingRequest(t, "ufrag2:x"), here, now) || len(d.in) != 1 || len(c.in) != 0 {
		t.Error("a request does not go to whose ufrag it names")
	}
	if m.deliver(bindingRequest(t, "ufrag2:x"), netip.MustParseAddrPort("[2001:db8::1]:5000"), now) {
		t.Error("a request by IPv6 was taken for an agent that has no such candidate")
	}
	m.wrote(c, here)
	if !m.deliver(record, here, now) || v.dtls.Count() != 1 || !m.deliver(success, here, now) || len(c.in) != 1 {
		t.Error("what comes from where the agent wrote to does not reach the viewer")
	}
	// Another that writes there gets the responses too, and the media only
	// while nobody is proved to be there.
	remote := here
	v.remote.Store(&remote)
	m.wrote(d, here)
	if m.deliver(record, here, now); v.dtls.Count() != 2 || w.dtls.Count() != 0 {
		t.Error("a viewer's records went to another")
	}
	if m.deliver(success, here, now); len(c.in) != 2 || len(d.in) != 2 {
		t.Error("a response did not go to both")
	}
	m.moved(w.share, here) // the NAT has given the address to another
	if m.deliver(record, here, now); w.dtls.Count() != 1 {
		t.Error("the one who has proved to be there does not get what comes from there")
	}
	if m.deliver(success, here, now); len(d.in) != 3 || len(c.in) != 2 {
		t.Error("responses do not go to the one who is there")
	}
	_ = v.share.Close()
	if !m.deliver(record, here, now) {
		t.Error("one viewer's end has cut another off")
	}
	_ = w.share.Close()
	_ = c.Close()
	_ = d.Close()
	if m.deliver(record, here, now) || m.deliver(bindingRequest(t, "ufrag2:x"), here, now) || len(m.homes)+len(m.conns) != 0 {
		t.Errorf("%d addresses, %d ufrags after the end", len(m.homes), len(m.conns))
	}
}

// What a viewer makes the mux remember and hold is bounded.
func TestMuxIsBounded(t *testing.T) {
	m, viewer := bareMux(t)
	v, c := viewer()
	m.wrote(c, here)
	remote := here
	v.remote.Store(&remote)
	for port := range uint16(1000) {
		m.wrote(c, netip.AddrPortFrom(there.Addr(), port))
	}
	if len(m.homes) > viewerHomes || len(v.share.at) != len(m.homes) || m.homes[here] == nil {
		t.Errorf("%d addresses; the viewer's own among them: %v", len(m.homes), m.homes[here] != nil)
	}
	request := bindingRequest(t, "ufrag1:x")
	taken := 0
	for range 1000 {
		if m.deliver(request, there, testTime) {
			taken++
		}
	}
	if taken != stunQueue {
		t.Errorf("%d requests wait", taken)
	}
	record := append([]byte{22}, make([]byte, 20)...)
	v.dtls.SetLimitCount(dtlsQueue)
	for range 1000 {
		m.deliver(record, here, testTime)
	}
	if n := v.dtls.Count(); n != dtlsQueue {
		t.Errorf("%d records wait", n)
	}
}

// A storm of RTCP of one viewer is read up to a rate.
func TestInboundRate(t *testing.T) {
	m, viewer := bareMux(t)
	v, c := viewer()
	m.wrote(c, here)
	in, out := srtpContext(t), srtpContext(t)
	v.in.open(in)
	taken := 0
	for i := range 3 * inboundRate {
		if m.deliver(sealed(t, out, &rtcp.PictureLossIndication{MediaSSRC: v.lanes[0].ssrc}), here, testTime.Add(time.Duration(i)*time.Microsecond)) {
			taken++
		}
	}
	if taken != inboundRate || v.sfu.counters.plis.Load() != inboundRate {
		t.Errorf("%d packets of RTCP taken in a second, %d requests", taken, v.sfu.counters.plis.Load())
	}
	if !m.deliver(sealed(t, out, &rtcp.PictureLossIndication{}), here, testTime.Add(time.Second)) {
		t.Error("nothing is read a second later")
	}
}

// Reading, and finding out for whom a datagram is, makes no garbage, whoever
// sends it.
func TestReceivingAllocatesNothing(t *testing.T) {
	m, viewer := bareMux(t)
	_, c := viewer()
	_, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	raw, err := m.sfu.udp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	at, in := addressOf(m.sfu.udp), newArrivals()
	buf := make([]byte, receiveMTU)
	for name, p := range map[string][]byte{
		"a check": bindingRequest(t, "ufrag1:x"), "a stranger's check": bindingRequest(t, "nobody:x"),
		"a stranger's record": append([]byte{22}, make([]byte, 20)...), "garbage": make([]byte, 1400),
	} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := to.WriteToUDPAddrPort(p, at); err != nil {
				t.Fatal(err)
			}
			n, err := in.read(raw)
			if err != nil || n != 1 {
				t.Fatal(n, err)
			}
			got, from, whole := in.datagram(0)
			if m.deliver(got, from, testTime) {
				_, _, _ = c.ReadFromAddrPort(buf)
			}
			if len(got) != len(p) || from != addressOf(to) || !whole {
				t.Fatalf("%d bytes from %s", len(got), from)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Datagrams are read in batches, or one by one where that is refused; each
// with its address, in order; those that are too long are marked.
func TestArrivals(t *testing.T) {
	for _, sockets := range [][2]string{{"127.0.0.1:0", "127.0.0.1:0"}, {"[::]:0", "127.0.0.1:0"}, {"[::]:0", "[::1]:0"}} {
		for _, call := range []uintptr{newArrivals().recvmmsg, 1 << 20} { // the latter is none: ENOSYS
			t.Run(fmt.Sprintf("%s/%d", sockets, call), func(t *testing.T) {
				e, peer := socketPair(t, sockets[0], sockets[1])
				in := newArrivals()
				in.recvmmsg = call
				to := netip.AddrPortFrom(addressOf(peer).Addr(), addressOf(e.conn).Port())
				const all = 3*arrivalsRound + 1
				for i := range all {
					p := make([]byte, 10+i)
					if i == 7 {
						p = make([]byte, receiveMTU+1)
					}
					p[0] = byte(i)
					if _, err := peer.WriteToUDPAddrPort(p, to); err != nil {
						t.Fatal(err)
					}
				}
				for i := 0; i < all; {
					n, err := in.read(e.raw)
					if err != nil || n < 1 || call != newArrivals().recvmmsg && n != 1 {
						t.Fatal(n, err)
					}
					for k := range n {
						p, from, whole := in.datagram(k)
						if p[0] != byte(i) || from != addressOf(peer) || whole == (i == 7) || whole && len(p) != 10+i {
							t.Fatalf("datagram %d: %d bytes, first %d, from %s, whole %v", i, len(p), p[0], from, whole)
						}
						i++
					}
				}
			})
		}
	}
	e, _ := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	_ = e.conn.Close()
	if _, err := newArrivals().read(e.raw); err == nil {
		t.Error("a closed socket was read")
	}
}

// The agent gets one address a family; the answer has the others.
func TestFurtherAddresses(t *testing.T) {
	s := &SFU{log: slog.New(slog.DiscardHandler), bound: netip.MustParseAddrPort("0.0.0.0:8189")}
	s.shared.read = time.Now().Add(time.Hour)
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"} {
		s.shared.addrs = append(s.shared.addrs, netip.MustParseAddr(a))
	}
	share := &muxShare{mux: &mux{sfu: s}}
	if got := fmt.Sprint(share.GetListenAddresses()); got != "[192.0.2.1:8189 [2001:db8::1]:8189]" {
		t.Error(got)
	}
	want := []string{"candidate:host0 1 udp 2130706175 192.0.2.2 8189 typ host", "candidate:host1 1 udp 2130705919 2001:db8::2 8189 typ host"}
	if got := s.furtherCandidates(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzMux: whatever arrives from wherever, nothing breaks, and only what is
// for a viewer is taken.
func FuzzMux(f *testing.F) {
	f.Add(bindingRequest(f, "ufrag1:x"), true)
	f.Add(bindingRequest(f, "ufrag"), false)
	f.Add(bindingSuccess(f), true)
	f.Add(append([]byte{22}, make([]byte, 20)...), true)
	f.Add(sealed(f, srtpContext(f), &rtcp.PictureLossIndication{}), true)
	f.Add(binary.BigEndian.AppendUint32([]byte{0, 1, 0, 8}, stunCookie), false)
	f.Fuzz(func(t *testing.T, p []byte, known bool) {
		m, viewer := bareMux(t)
		v, c := viewer()
		v.in.open(srtpContext(t))
		from := here
		if known {
			m.wrote(c, here)
		}
		kind := classify(p)
		if kind == stunRequest {
			_ = requestUfrag(p)
		}
		if taken := m.deliver(p, from, testTime); taken && (kind == unknown || !known && kind != stunRequest) {
			t.Errorf("%x was taken", p)
		}
	})
}

// sealed is a packet of RTCP as SRTCP.
func sealed(t testing.TB, out *srtp.Context, p rtcp.Packet) []byte {
	t.Helper()
	plain, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := out.EncryptRTCP(nil, plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
