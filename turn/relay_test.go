package turn

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	pion "github.com/pion/turn/v4"
)

func TestNewSaysWhatIsWrong(t *testing.T) {
	peers := func() []netip.AddrPort { return nil }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		secret []byte
		peers  func() []netip.AddrPort
		want   string
	}{
		{"secret", func(*Config) {}, []byte("short"), peers, "turn secret"},
		{"peers", func(*Config) {}, secret, nil, "turn peers"},
		{"realm", func(c *Config) { c.Realm = "" }, secret, peers, "turn.realm"},
		{"total", func(c *Config) { c.MaxAllocations = 0 }, secret, peers, "turn.max_allocations"},
		{"user", func(c *Config) { c.PerUser = 0 }, secret, peers, "turn.per_user"},
		{"listen", func(c *Config) { c.Listen = "nonsense" }, secret, peers, "turn.listen"},
	} {
		cfg := config()
		tt.change(&cfg)
		_, err := New(cfg, tt.secret, tt.peers, quiet())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "short") {
			t.Errorf("%s: the error shows the secret: %v", tt.name, err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cfg := config()
	cfg.Listen = conn.LocalAddr().String()
	r, err := New(cfg, secret, func() []netip.AddrPort { return nil }, quiet())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(cfg.Listen)
	if err := r.Run(context.Background()); err == nil ||
		!strings.Contains(err.Error(), "turn.listen") || !strings.Contains(err.Error(), "port "+port+" is in use") {
		t.Errorf("%v: names neither key nor port", err)
	}
}

// TestRelayToTheSFU: a client that nobody here wrote allocates and talks to the SFU, over
// IPv4 and IPv6, on a wildcard listener and on a specific one.
func TestRelayToTheSFU(t *testing.T) {
	for _, tt := range []struct{ name, listen, host, sfu string }{
		{"specific", "127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"},
		{"wildcard", ":0", "127.0.0.1", "127.0.0.1:0"},
		{"other address", ":0", "127.0.0.2", "127.0.0.1:0"},
		{"IPv6 listener", "[::1]:0", "::1", "127.0.0.1:0"},
		{"IPv6 on a wildcard", ":0", "::1", "127.0.0.1:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sfu := echo(t, tt.sfu)
			cfg := config()
			cfg.Listen = tt.listen
			r := start(t, cfg, []netip.AddrPort{sfu})
			relayed, local := pionClient(t, r, tt.host)
			if got := relayed.LocalAddr().(*net.UDPAddr).IP.String(); got != "127.0.0.1" {
				t.Errorf("relayed address %s of a client at %s", got, local)
			}
			exchange(t, relayed, net.UDPAddrFromAddrPort(sfu), 20)
			s := r.Stats()
			if s.Allocations != 1 || s.RelayedIn != 20*1000 || s.RelayedOut != 20*1000 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// pionClient allocates with pion's client and gives the relayed socket.
func pionClient(t *testing.T, r *Relay, host string) (net.PacketConn, net.Addr) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	user, pass, _ := r.Credentials("viewer", time.Hour)
	server := &net.UDPAddr{IP: net.ParseIP(host), Port: int(r.Port())}
	c, err := pion.NewClient(&pion.ClientConfig{
		TURNServerAddr: net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port)),
		Conn:           &redirect{PacketConn: conn, to: server},
		Username:       user, Password: pass, Realm: "edged", LoggerFactory: silence{},
	})
	if err != nil {
		t.Fatal(err)
	}
	listening := make(chan struct{})
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	close(listening)
	relayed, err := c.Allocate()
	if err != nil {
		c.Close()
		conn.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { relayed.Close(); c.Close(); conn.Close() })
	return relayed, conn.LocalAddr()
}

// redirect sends to one server and shows it under the IPv4 address that pion's
// client, which resolves "udp4" only, believes in.
type redirect struct {
	net.PacketConn
	to *net.UDPAddr
}

func (r *redirect) WriteTo(b []byte, _ net.Addr) (int, error) { return r.PacketConn.WriteTo(b, r.to) }

func (r *redirect) ReadFrom(b []byte) (int, net.Addr, error) {
	n, src, err := r.PacketConn.ReadFrom(b)
	if u, ok := src.(*net.UDPAddr); ok && !u.IP.Equal(r.to.IP) {
		return n, src, net.InvalidAddrError("answer from " + u.String() + ", asked " + r.to.String())
	}
	return n, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.to.Port}, err
}

func exchange(t *testing.T, conn net.PacketConn, to net.Addr, n int) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	for i := range n {
		sent := bytes.Repeat([]byte{byte(i)}, 1000)
		if _, err := conn.WriteTo(sent, to); err != nil {
			t.Fatal(err)
		}
		m, _, err := conn.ReadFrom(b)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !bytes.Equal(b[:m], sent) {
			t.Fatalf("message %d: came back different", i)
		}
	}
}

// TestIPv6Relay: REQUESTED-ADDRESS-FAMILY is honoured where the SFU has an IPv6 address.
func TestIPv6Relay(t *testing.T) {
	sfu := echo(t, "[::1]:0")
	cfg := config()
	cfg.Listen = ":0"
	r := start(t, cfg, []netip.AddrPort{sfu})
	c := dial(t, "::1", r)
	if got := code(c.allocate(raw(stun.AttrRequestedAddressFamily, familyIPv4, 0, 0, 0))); got != stun.CodeAddrFamilyNotSupported {
		t.Errorf("IPv4 relay without an IPv4 SFU: %d", got)
	}
	m := c.allocate(raw(stun.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0))
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil || relayed.IP.String() != "::1" {
		t.Fatalf("relayed address %v, %v", relayed, err)
	}
	roundTrip(t, c, sfu)
}

// roundTrip sends through a Send indication and through a channel.
func roundTrip(t *testing.T, c *rawClient, sfu netip.AddrPort) {
	t.Helper()
	if got := code(c.request(stun.MethodCreatePermission, peer(sfu))); got != 0 {
		t.Fatalf("permission: %d", got)
	}
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peer(sfu), raw(stun.AttrData, []byte("ping")...))
	if err != nil {
		t.Fatal(err)
	}
	c.send(m.Raw)
	back := &stun.Message{Raw: c.receive()}
	if err := back.Decode(); err != nil {
		t.Fatal(err)
	}
	if v, _ := back.Get(stun.AttrData); back.Type.Method != stun.MethodData || string(v) != "ping" {
		t.Fatalf("came back: %v", back)
	}
	if got := code(c.request(stun.MethodChannelBind, channel(0x4000), peer(sfu))); got != 0 {
		t.Fatalf("channel: %d", got)
	}
	c.send([]byte{0x40, 0x00, 0, 4, 'p', 'o', 'n', 'g'})
	if got := c.receive(); string(got) != "\x40\x00\x00\x04pong" {
		t.Fatalf("came back: %x", got)
	}
}

func TestPublicIPIsTheRelayedAddress(t *testing.T) {
	cfg := config()
	cfg.PublicIP = netip.MustParseAddr("192.0.2.7")
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, cfg, []netip.AddrPort{sfu})
	c := dial(t, "127.0.0.1", r)
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(c.allocate(), stun.AttrXORRelayedAddress); err != nil || relayed.IP.String() != "192.0.2.7" {
		t.Fatalf("relayed address %v, %v", relayed, err)
	}
	roundTrip(t, c, sfu)
}

// TestStrangersAreDropped: a program on the box that is not the SFU cannot reach a viewer.
func TestStrangersAreDropped(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	c := dial(t, "127.0.0.1", r)
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(c.allocate(), stun.AttrXORRelayedAddress); err != nil {
		t.Fatal(err)
	}
	if got := code(c.request(stun.MethodCreatePermission, peer(sfu))); got != 0 {
		t.Fatalf("permission: %d", got)
	}
	stranger, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: relayed.IP, Port: relayed.Port})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write([]byte("let me in")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return r.Stats().Failures["stranger"] == 1 })
	roundTrip(t, c, sfu) // and nothing of the stranger came before
}

// TestOnlyLoopback: what does not come over the loopback device never reaches the relay socket.
func TestOnlyLoopback(t *testing.T) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := onlyLoopback(conn, false); err != nil {
		t.Fatal(err)
	}
	for _, a := range append(ownIPv4(t), netip.MustParseAddr("127.0.0.1")) {
		to := netip.AddrPortFrom(a, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		if _, err := conn.WriteToUDPAddrPort([]byte("x"), to); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadFromUDPAddrPort(make([]byte, 10)); err != nil {
			t.Errorf("the box cannot reach itself at %s: %v", a, err)
		}
	}
}

func ownIPv4(t *testing.T) (all []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			all = append(all, netip.AddrFrom4([4]byte(n.IP.To4())))
		}
	}
	return all
}

// TestAnswersComeFromWhereTheQuestionWent: on every address of the box.
func TestAnswersComeFromWhereTheQuestionWent(t *testing.T) {
	sfu := echo(t, "0.0.0.0:0")
	var peers []netip.AddrPort
	own := append(ownIPv4(t), netip.MustParseAddr("127.0.0.1"))
	for _, a := range own {
		peers = append(peers, netip.AddrPortFrom(a, sfu.Port()))
	}
	cfg := config()
	cfg.Listen = ":0"
	r := start(t, cfg, peers)
	for _, p := range peers {
		c := dial(t, p.Addr().String(), r) // connected: an answer from elsewhere is not received
		var relayed stun.XORMappedAddress
		if err := relayed.GetFromAs(c.allocate(), stun.AttrXORRelayedAddress); err != nil || relayed.IP.String() != p.Addr().String() {
			t.Fatalf("relayed address %v, %v", relayed, err)
		}
		for _, to := range peers { // the wildcard SFU answers from the address that was asked
			if got := code(c.request(stun.MethodCreatePermission, peer(to))); got != 0 {
				t.Fatalf("permission: %d", got)
			}
		}
		roundTrip(t, c, p)
	}
}

func TestStopEndsAllocations(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r, err := New(config(), secret, func() []netip.AddrPort { return []netip.AddrPort{sfu} }, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Allocations != 0 {
		t.Errorf("before Run: %+v", s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Ready()
	for range 5 {
		if got := code(dial(t, "127.0.0.1", r).allocate()); got != 0 {
			t.Fatalf("allocate: %d", got)
		}
	}
	if s := r.Stats(); s.Allocations != 5 {
		t.Errorf("%d allocations", s.Allocations)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Allocations != 0 {
		t.Errorf("%d allocations after the end", s.Allocations)
	}
}

// eventually polls until ok; the network gives no event for what it drops.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen")
		}
	}
}

// clock is a time that tests set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func (c *clock) use(r *Relay) { r.now = c.now; r.policy.now = c.now }
