package turn

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// BenchmarkAdmit is what the guard adds to a packet from a viewer.
func BenchmarkAdmit(b *testing.B) {
	sfu := netip.MustParseAddrPort("127.0.0.1:8189")
	p := &policy{source: func() []netip.AddrPort { return []netip.AddrPort{sfu} }, now: time.Now}
	g := newGuard(newMemory(), "edged", time.Now, p, &counters{}, nil)
	src := netip.MustParseAddrPort("10.0.0.1:5000")
	g.created(net.UDPAddrFromAddrPort(src), "9999999999:viewer")
	g.client(src).lapses.Store(time.Now().Add(time.Hour).UnixNano())
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peer(sfu), raw(stun.AttrData, make([]byte, 1000)...))
	if err != nil {
		b.Fatal(err)
	}
	for name, datagram := range map[string][]byte{"channel": append([]byte{0x40, 0, 0x03, 0xE8}, make([]byte, 1000)...), "send": m.Raw} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if g.admit(datagram, src, netip.Addr{}) == nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkRelay is a message from a viewer to the SFU and back, two relayed
// packets, with everything on loopback.
func BenchmarkRelay(b *testing.B) {
	sfu := echo(b, "127.0.0.1:0")
	r, err := New(config(), secret, func() []netip.AddrPort { return []netip.AddrPort{sfu} }, quiet())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Ready()
	defer func() { cancel(); <-ended }()
	c := dial(b, "127.0.0.1", r)
	if got := code(c.allocate()); got != 0 {
		b.Fatalf("allocate: %d", got)
	}
	if got := code(c.request(stun.MethodChannelBind, channel(0x4000), peer(sfu))); got != 0 {
		b.Fatalf("channel: %d", got)
	}
	message := append([]byte{0x40, 0, 0x03, 0xE8}, make([]byte, 1000)...)
	b.ReportAllocs()
	for b.Loop() {
		c.send(message)
		c.receive()
	}
}
