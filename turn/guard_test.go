package turn

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pion/stun/v3"
)

// TestPeersRefused: no spelling of any address but the SFU's own is let in, by
// permission, by channel or by data.
func TestPeersRefused(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	other := echo(t, "127.0.0.1:0") // the same address, another port
	r := start(t, config(), []netip.AddrPort{sfu})
	port := strconv.Itoa(int(sfu.Port()))
	for _, s := range []string{
		"127.0.0.2", "0.0.0.0", "0.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
		"192.0.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
		"255.255.255.255", "8.8.8.8", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]", "[ff02::1]", "[::ffff:169.254.169.254]",
	} {
		c := dial(t, "127.0.0.1", r)
		c.user, c.pass, _ = r.Credentials(s, time.Hour)
		if got := code(c.allocate()); got != 0 {
			t.Fatalf("allocate: %d", got)
		}
		p := peer(netip.MustParseAddrPort(s + ":" + port))
		for _, m := range []*stun.Message{
			c.request(stun.MethodCreatePermission, p),
			c.request(stun.MethodChannelBind, channel(0x4000), p),
		} {
			if code(m) != stun.CodeForbidden {
				t.Errorf("%s of %s: %d", m.Type.Method, s, code(m))
			}
			if err := stun.NewLongTermIntegrity(c.user, c.realm, c.pass).Check(m); err != nil {
				t.Errorf("%s of %s: refusal is not signed: %v", m.Type.Method, s, err)
			}
		}
		c.request(stun.MethodRefresh, lifetime(0))
	}

	// The right address with a wrong port has a permission (they know no
	// ports), but no channel, and its data goes nowhere.
	c := dial(t, "127.0.0.1", r)
	if got := code(c.allocate()); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	if got := code(c.request(stun.MethodCreatePermission, peer(other))); got != 0 {
		t.Errorf("permission for the SFU's address: %d", got)
	}
	for _, ap := range []netip.AddrPort{other, netip.AddrPortFrom(sfu.Addr(), 0)} {
		if got := code(c.request(stun.MethodChannelBind, channel(0x4001), peer(ap))); got != stun.CodeForbidden {
			t.Errorf("channel to %s: %d", ap, got)
		}
	}
	denied := r.Stats().DeniedPeers
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peer(other), raw(stun.AttrData, 1))
	if err != nil {
		t.Fatal(err)
	}
	c.send(m.Raw)
	eventually(t, func() bool { return r.Stats().DeniedPeers == denied+1 })
	roundTrip(t, c, sfu)
	if s := r.Stats(); s.RelayedIn != 8 {
		t.Errorf("%d bytes relayed, 8 are the SFU's", s.RelayedIn)
	}
}

func TestCredentials(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	var now clock
	r := start(t, config(), []netip.AddrPort{sfu}, now.use)
	good, pass, expires := r.Credentials("viewer", time.Minute)
	if d := expires.Sub(now.now()); d < 59*time.Second || d > 62*time.Second {
		t.Errorf("expires in %v", d)
	}
	past, pastPass, _ := r.Credentials("viewer", -time.Minute)
	for _, tt := range []struct {
		name, user, pass, realm string
		want                    stun.ErrorCode
	}{
		{"good", good, pass, "edged", 0},
		{"wrong password", good, pass + "x", "edged", stun.CodeUnauthorized},
		{"empty password", good, "", "edged", stun.CodeUnauthorized},
		{"expired", past, pastPass, "edged", stun.CodeUnauthorized},
		{"later expiry, same password", "9" + good, pass, "edged", stun.CodeUnauthorized},
		{"other subject, same password", good + "2", pass, "edged", stun.CodeUnauthorized},
		{"no subject", "99999999999:", password(secret, "99999999999:"), "edged", stun.CodeUnauthorized},
		{"no expiry", "viewer", password(secret, "viewer"), "edged", stun.CodeUnauthorized},
		{"sign", "+99999999999:v", password(secret, "+99999999999:v"), "edged", stun.CodeUnauthorized},
		{"hex", "0xFFFFFFFFF:v", password(secret, "0xFFFFFFFFF:v"), "edged", stun.CodeUnauthorized},
		{"huge", "99999999999999999999:v", password(secret, "99999999999999999999:v"), "edged", stun.CodeUnauthorized},
		{"realm", good, pass, "elsewhere", stun.CodeUnauthorized},
	} {
		c := dial(t, "127.0.0.1", r)
		c.signed(stun.MethodAllocate) // for the nonce
		c.user, c.pass, c.realm = tt.user, tt.pass, tt.realm
		before := r.Stats().AuthFailures
		m := c.allocate()
		if code(m) != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, code(m), tt.want)
		}
		if tt.want == stun.CodeUnauthorized {
			if n := r.Stats().AuthFailures - before; n != 1 {
				t.Errorf("%s: %d failures counted", tt.name, n)
			}
			if !m.Contains(stun.AttrRealm) || !m.Contains(stun.AttrNonce) {
				t.Errorf("%s: 401 without realm or nonce", tt.name)
			}
		}
	}
}

// TestEverySubjectGetsCredentialsThatWork: a token's subject is free text.
func TestEverySubjectGetsCredentialsThatWork(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	for _, subject := range []string{"", ":", "a:b", "日本語", strings.Repeat("é", 1000), strings.Repeat("x", 63) + "é"} {
		c := dial(t, "127.0.0.1", r)
		c.user, c.pass, _ = r.Credentials(subject, time.Hour)
		if !utf8.ValidString(c.user) || len(c.user) > 128 {
			t.Errorf("username %q", c.user)
		}
		if got := code(c.allocate()); got != 0 {
			t.Errorf("subject %.20q: %d", subject, got)
		}
	}
}

// TestLiveAllocationOutlivesItsCredential and nobody else's does.
func TestLiveAllocationOutlivesItsCredential(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	var now clock
	r := start(t, config(), []netip.AddrPort{sfu}, now.use)
	c := dial(t, "127.0.0.1", r)
	c.user, c.pass, _ = r.Credentials("viewer", time.Minute)
	if got := code(c.allocate()); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	now.advance(2 * time.Minute)
	if got := code(c.request(stun.MethodRefresh)); got != 0 {
		t.Errorf("refresh: %d", got)
	}
	roundTrip(t, c, sfu)
	if got := code(c.request(stun.MethodRefresh, lifetime(0))); got != 0 {
		t.Errorf("end: %d", got)
	}
	if got := code(c.allocate()); got != stun.CodeUnauthorized {
		t.Errorf("a new allocation with the expired credential: %d", got)
	}
}

func TestRefusals(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	c := dial(t, "127.0.0.1", r)
	expect := func(what string, m *stun.Message, want stun.ErrorCode) {
		t.Helper()
		if code(m) != want {
			t.Errorf("%s: %d, want %d", what, code(m), want)
		}
	}
	expect("refresh without allocation", c.request(stun.MethodRefresh), stun.CodeAllocMismatch)
	expect("permission without allocation", c.request(stun.MethodCreatePermission, peer(sfu)), stun.CodeAllocMismatch)
	expect("channel without allocation", c.request(stun.MethodChannelBind, channel(0x4000), peer(sfu)), stun.CodeAllocMismatch)
	for _, sec := range []byte{0, 1, 59} {
		expect("allocate for "+strconv.Itoa(int(sec)), c.allocate(lifetime(sec)), stun.CodeBadRequest)
	}
	expect("TCP relay", c.request(stun.MethodAllocate, transport(6)), stun.CodeUnsupportedTransProto)
	expect("IPv6 relay", c.allocate(raw(stun.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0)), stun.CodeAddrFamilyNotSupported)
	expect("family 9", c.allocate(raw(stun.AttrRequestedAddressFamily, 9, 0, 0, 0)), stun.CodeAddrFamilyNotSupported)
	if s := r.Stats(); s.Allocations != 0 {
		t.Fatalf("%d allocations", s.Allocations)
	}

	expect("allocate", c.allocate(lifetime(60)), 0)
	expect("second allocate", c.allocate(), stun.CodeAllocMismatch)
	for _, sec := range []byte{1, 59} {
		m := c.request(stun.MethodRefresh, lifetime(sec))
		expect("refresh for "+strconv.Itoa(int(sec)), m, stun.CodeBadRequest)
		if err := stun.NewLongTermIntegrity(c.user, c.realm, c.pass).Check(m); err != nil {
			t.Errorf("refusal is not signed: %v", err)
		}
	}
	for _, n := range []uint16{0x3FFF, 0x8000, 0xFFFF} {
		expect("channel "+strconv.Itoa(int(n)), c.request(stun.MethodChannelBind, channel(n), peer(sfu)), stun.CodeBadRequest)
	}
	owner, ownerPass := c.user, c.pass
	c.user, c.pass, _ = r.Credentials("another", time.Hour)
	expect("another user's refresh", c.request(stun.MethodRefresh, lifetime(0)), stun.CodeWrongCredentials)
	c.user, c.pass = owner, ownerPass
	expect("refresh", c.request(stun.MethodRefresh), 0)
}

func TestQuotas(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	cfg := config()
	cfg.MaxAllocations, cfg.PerUser = 4, 2
	r := start(t, cfg, []netip.AddrPort{sfu})
	users := map[string][2]string{}
	for _, subject := range []string{"a", "b", "c"} {
		user, pass, _ := r.Credentials("page", time.Hour) // all from one token
		users[subject] = [2]string{user, pass}
	}
	try := func(subject string) (*rawClient, stun.ErrorCode) {
		c := dial(t, "127.0.0.1", r)
		c.user, c.pass = users[subject][0], users[subject][1]
		return c, code(c.allocate())
	}
	var first *rawClient
	var got []stun.ErrorCode
	for i, subject := range []string{"a", "a", "a", "b", "b", "c"} {
		c, code := try(subject)
		if i == 0 {
			first = c
		}
		got = append(got, code)
	}
	const full = stun.CodeAllocQuotaReached
	if want := []stun.ErrorCode{0, 0, full, 0, 0, full}; !slices.Equal(got, want) {
		t.Fatalf("answers %v, want %v", got, want)
	}
	if n := code(first.request(stun.MethodRefresh, lifetime(0))); n != 0 {
		t.Fatalf("end: %d", n)
	}
	if _, n := try("c"); n != 0 {
		t.Errorf("a freed place is not given: %d", n)
	}
	if n := r.Stats().Failures["quota"]; n != 2 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestPermissionsAndChannelsAreCapped: even a box with many addresses gives an
// allocation only so many.
func TestPermissionsAndChannelsAreCapped(t *testing.T) {
	var peers []netip.AddrPort
	for i := range maxPermissions + 4 {
		peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 9))
	}
	r := start(t, config(), peers)
	c := dial(t, "127.0.0.1", r)
	if got := code(c.allocate()); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	for i, p := range peers {
		want := stun.ErrorCode(0)
		if i >= maxPermissions {
			want = stun.CodeForbidden
		}
		if got := code(c.request(stun.MethodCreatePermission, peer(p))); got != want {
			t.Errorf("permission %d: %d, want %d", i, got, want)
		}
		if got := code(c.request(stun.MethodChannelBind, channel(0x4000+uint16(i)), peer(p))); got != want {
			t.Errorf("channel %d: %d, want %d", i, got, want)
		}
	}
	if got := code(c.request(stun.MethodCreatePermission, peer(peers[0]))); got != 0 {
		t.Errorf("a permission cannot be refreshed at the cap: %d", got)
	}
}

// TestNothingIsDeliveredNearExpiry: from one second before, until the server has let go.
func TestNothingIsDeliveredNearExpiry(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	var now clock
	r := start(t, config(), []netip.AddrPort{sfu}, now.use)
	c := dial(t, "127.0.0.1", r)
	allocate := c.signed(stun.MethodAllocate, transport(transUDP), lifetime(60))
	c.send(allocate.Raw)
	if got := code(c.answer(allocate)); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	now.advance(30 * time.Second)
	c.send(allocate.Raw) // repeated: answered from a cache with LIFETIME 60, and extends nothing
	if got := code(c.answer(allocate)); got != 0 {
		t.Fatalf("repeated allocate: %d", got)
	}
	now.advance(28 * time.Second)
	if got := code(c.request(stun.MethodCreatePermission, peer(sfu))); got != 0 {
		t.Errorf("permission two seconds before the end: %d", got)
	}
	now.advance(time.Second)
	for i := uint64(1); i <= 3; i++ {
		c.send(c.signed(stun.MethodCreatePermission, peer(sfu)).Raw)
		eventually(t, func() bool { return r.Stats().Failures["lapsing"] == i })
		now.advance(time.Minute) // the server has not said that it is gone
	}
	if s := r.Stats(); s.Allocations != 1 {
		t.Errorf("%d allocations", s.Allocations)
	}
}

func TestRefreshMovesTheExpiry(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	var now clock
	r := start(t, config(), []netip.AddrPort{sfu}, now.use)
	c := dial(t, "127.0.0.1", r)
	if got := code(c.allocate(lifetime(60))); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	for range 3 {
		now.advance(50 * time.Second)
		if got := code(c.request(stun.MethodRefresh, lifetime(60))); got != 0 {
			t.Fatalf("refresh: %d", got)
		}
	}
	now.advance(59500 * time.Millisecond)
	c.send(c.signed(stun.MethodRefresh).Raw)
	eventually(t, func() bool { return r.Stats().Failures["lapsing"] == 1 })
}

// TestRepliesAreLimited: an address gets so many answers to what anybody can
// ask, and one with an allocation is not hindered by that.
func TestRepliesAreLimited(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	owner := dial(t, "127.0.0.1", r)
	if got := code(owner.allocate()); got != 0 {
		t.Fatalf("allocate: %d", got)
	}
	flood := dial(t, "127.0.0.1", r)
	binding := flood.build(stun.MethodBinding)
	deadline := time.Now().Add(patience)
	for r.Stats().Failures["rate"] < 50 && time.Now().Before(deadline) {
		flood.send(binding.Raw)
	}
	if n := r.Stats().Failures["rate"]; n < 50 {
		t.Fatalf("%d dropped", n)
	}
	roundTrip(t, owner, sfu)
}

func TestBinding(t *testing.T) {
	r := start(t, config(), nil)
	c := dial(t, "127.0.0.1", r)
	m := c.ask(stun.MethodBinding)
	var mapped stun.XORMappedAddress
	if err := mapped.GetFrom(m); err != nil {
		t.Fatal(err)
	}
	if local := c.conn.LocalAddr().(*net.UDPAddr); mapped.Port != local.Port || !mapped.IP.Equal(local.IP) {
		t.Errorf("mapped %v, is %v", mapped, local)
	}
	if got := code(c.allocate()); got != stun.CodeInsufficientCapacity {
		t.Errorf("allocation while the SFU has no address: %d", got)
	}
}

// TestEvenPort: the pair of ports of RFC 5766 §14.6 that some clients ask for.
func TestEvenPort(t *testing.T) {
	sfu := echo(t, "127.0.0.1:0")
	r := start(t, config(), []netip.AddrPort{sfu})
	c := dial(t, "127.0.0.1", r)
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(c.allocate(raw(stun.AttrEvenPort, 0x80)), stun.AttrXORRelayedAddress); err != nil || relayed.Port%2 != 0 {
		t.Fatalf("relayed address %v, %v", relayed, err)
	}
	roundTrip(t, c, sfu)
}
