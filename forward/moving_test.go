package forward_test

import (
	"fmt"
	"strings"
	"testing"

	"edged/forward"

	"github.com/pion/rtcp"
)

// A viewer whose address changes again and again, and that asks for all it has
// missed, costs another not a packet.
func TestMovingViewerCostsNobody(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.TCP = "" })
	st, _ := pulse(t, s, "dock", 4)
	cert := certificate(t)
	w := newWitness(t, newPeer(t, cert))
	w.watch(s, st, 5)
	nat := newNAT(t, s)
	p := newPeer(t, cert)
	p.hidden = true
	p.join(s, st)
	udp, _ := s.Ports()
	p.answer = strings.ReplaceAll(p.answer, fmt.Sprintf(" %d typ", udp), fmt.Sprintf(" %d typ", nat.port()))
	if err := p.connect(); err != nil {
		t.Fatal(err)
	}
	p.live(5)
	for range 3 {
		before := p.viewer.Stats().Remote
		nat.rebind()
		eventually(t, "another address", func() bool { return p.viewer.Stats().Remote != before })
		for i := range 50 {
			p.feedback(&rtcp.TransportLayerNack{MediaSSRC: p.ssrc.Load(), Nacks: []rtcp.NackPair{{PacketID: uint16(17 * i), LostPackets: 0xffff}}})
		}
		p.live(5)
		w.live(5)
	}
	if n := s.Stats().Dropped; len(n) > 0 {
		t.Errorf("frames dropped: %v", n)
	}
}
