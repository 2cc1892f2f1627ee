package turn

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

const patience = 10 * time.Second

var secret = []byte("0123456789abcdef0123456789abcdef")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() Config {
	return Config{Enabled: true, Listen: "127.0.0.1:0", Realm: "edged", MaxAllocations: 64, PerUser: 8}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start runs a relay until the test ends, and then demands a clean end.
func start(t *testing.T, cfg Config, peers []netip.AddrPort, with ...func(*Relay)) *Relay {
	t.Helper()
	r, err := New(cfg, secret, func() []netip.AddrPort { return peers }, quiet())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range with {
		f(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-r.Ready():
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	}
	return r
}

// echo plays the SFU on address: it sends back what comes.
func echo(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, src, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(b[:n], src); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// client speaks TURN by hand, to say what a library would not.
type rawClient struct {
	t                        testing.TB
	conn                     *net.UDPConn
	user, pass, realm, nonce string
}

func dial(t testing.TB, host string, r *Relay) *rawClient {
	t.Helper()
	ip := net.ParseIP(host)
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: ip, Port: int(r.Port())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{t: t, conn: conn}
	c.user, c.pass, _ = r.Credentials("viewer", time.Hour)
	return c
}

func (c *rawClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) receive() []byte {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, err := c.conn.Read(b)
	if err != nil {
		c.t.Fatal(err)
	}
	return b[:n]
}

// ask sends a request without credentials and waits for its answer.
func (c *rawClient) ask(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	m := c.build(method, attrs...)
	c.send(m.Raw)
	return c.answer(m)
}

func (c *rawClient) build(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *rawClient) answer(to *stun.Message) *stun.Message {
	c.t.Helper()
	for {
		m := &stun.Message{Raw: c.receive()}
		if err := m.Decode(); err == nil && m.TransactionID == to.TransactionID {
			return m
		}
	}
}

// signed builds a request with the client's credentials.
func (c *rawClient) signed(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	if c.nonce == "" {
		m := c.ask(stun.MethodAllocate, transport(transUDP))
		var nonce stun.Nonce
		var realm stun.Realm
		if code(m) != stun.CodeUnauthorized || nonce.GetFrom(m) != nil || realm.GetFrom(m) != nil {
			c.t.Fatalf("no challenge: %v", m)
		}
		c.nonce, c.realm = nonce.String(), realm.String()
	}
	attrs = append(attrs, stun.NewUsername(c.user), stun.NewRealm(c.realm), stun.NewNonce(c.nonce),
		stun.NewLongTermIntegrity(c.user, c.realm, c.pass))
	return c.build(method, attrs...)
}

func (c *rawClient) request(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	m := c.signed(method, attrs...)
	c.send(m.Raw)
	return c.answer(m)
}

func (c *rawClient) allocate(attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	return c.request(stun.MethodAllocate, append([]stun.Setter{transport(transUDP)}, attrs...)...)
}

// code is the error code of an answer, 0 for success, -1 for an error without one.
func code(m *stun.Message) stun.ErrorCode {
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var e stun.ErrorCodeAttribute
	if e.GetFrom(m) != nil {
		return -1
	}
	return e.Code
}

func raw(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

func transport(p byte) stun.Setter { return raw(stun.AttrRequestedTransport, p, 0, 0, 0) }

func lifetime(sec byte) stun.Setter { return raw(stun.AttrLifetime, 0, 0, 0, sec) }

func channel(n uint16) stun.Setter {
	return raw(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0)
}

// peer spells an address as it is given: a mapped one stays IPv6.
type peer netip.AddrPort

func (p peer) AddTo(m *stun.Message) error {
	ap := netip.AddrPort(p)
	v := []byte{0, familyIPv4, byte(ap.Port()>>8) ^ 0x21, byte(ap.Port()) ^ 0x12}
	if ap.Addr().Is6() {
		v[1] = familyIPv6
	}
	mask := append([]byte{0x21, 0x12, 0xA4, 0x42}, m.TransactionID[:]...)
	for i, b := range ap.Addr().AsSlice() {
		v = append(v, b^mask[i])
	}
	m.Add(stun.AttrXORPeerAddress, v)
	return nil
}
