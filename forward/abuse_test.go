package forward_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"edged/forward"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"
)

// witness is a viewer that must not notice what others do.
type witness struct {
	*peer
	mu   sync.Mutex
	last *rtp.Packet
	bad  int
}

func newWitness(t testing.TB, p *peer) *witness {
	w := &witness{peer: p}
	p.read = func(packet *rtp.Packet) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if l := w.last; l != nil && (packet.SequenceNumber != l.SequenceNumber+1 || frameNumber(packet) > frameNumber(l)+1) {
			w.bad++
			t.Errorf("the witness got packet %d of frame %d after packet %d of frame %d", packet.SequenceNumber, frameNumber(packet), l.SequenceNumber, frameNumber(l))
		}
		w.last = packet
	}
	return w
}

// What one viewer sends costs the others not a packet, and the camera no more
// than a keyframe in half a second.
func TestStorms(t *testing.T) {
	s := startSFU(t, nil)
	st, asked := pulse(t, s, "dock", 8)
	cert := certificate(t)
	w := newWitness(t, newPeer(t, cert))
	attacker := newPeer(t, cert)
	for _, p := range []*peer{w.peer, attacker} {
		p.watch(s, st, 5)
	}
	ssrc := attacker.ssrc.Load()
	everything := &rtcp.TransportLayerNack{MediaSSRC: ssrc}
	for i := range 250 {
		everything.Nacks = append(everything.Nacks, rtcp.NackPair{PacketID: uint16(i * 17), LostPackets: 0xffff})
	}
	random := rand.New(rand.NewPCG(1, 2))
	garbage := func(i int) {
		b := make([]byte, 8+random.IntN(200))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		b[0], b[1] = 0x80|b[0]&31, 200+b[1]%8
		attacker.control(b)
	}
	for name, send := range map[string]func(i int){
		"PLI":        func(int) { attacker.feedback(&rtcp.PictureLossIndication{MediaSSRC: ssrc}) },
		"FIR":        func(int) { attacker.feedback(&rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: ssrc}}}) },
		"other SSRC": func(int) { attacker.feedback(&rtcp.PictureLossIndication{MediaSSRC: w.ssrc.Load()}) },
		"NACK":       func(int) { attacker.feedback(everything) },
		"garbage":    garbage,
		"unsealed":   func(int) { _, _ = attacker.conn.Write(make([]byte, 40)) },
		"DTLS": func(i int) {
			_, _ = attacker.conn.Write([]byte{byte(20 + i%44), 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, byte(i), 1, 0, 1, 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, began := asked.Load(), time.Now()
			for i := range 1000 {
				send(i)
				if i%10 == 9 {
					time.Sleep(time.Millisecond) // paced, so that the kernel's buffers do not do our work
				}
			}
			w.live(20)
			if n, most := asked.Load()-before, int64(time.Since(began)/(500*time.Millisecond))+2; n > most {
				t.Errorf("the camera was asked for %d keyframes, at most %d are fair", n, most)
			}
		})
	}
	if n := s.Stats().Dropped; len(n) > 0 {
		t.Errorf("frames dropped: %v", n)
	}
}

// A packet of feedback counts once, however often it arrives.
func TestReplayedFeedback(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := pulse(t, s, "dock", 2)
	p := newPeer(t, certificate(t))
	p.join(s, st)
	if err := p.connect(); err != nil {
		t.Fatal(err)
	}
	p.live(2)
	sealed := p.feedback(&rtcp.PictureLossIndication{MediaSSRC: p.ssrc.Load()})
	for range 50 {
		if _, err := p.conn.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	p.feedback(&rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: p.ssrc.Load()}}})
	eventually(t, "the last is counted", func() bool { return p.viewer.Stats().PLIs >= 2 })
	if n := p.viewer.Stats().PLIs; n != 2 {
		t.Errorf("%d requests counted, 2 were made", n)
	}
}

// A viewer that names another's address as its own candidate does not get the
// other's packets.
func TestCandidateOfAnotherViewer(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := pulse(t, s, "dock", 2)
	cert := certificate(t)
	w := newWitness(t, newPeer(t, cert))
	attacker := newPeer(t, cert)
	for _, p := range []*peer{w.peer, attacker} {
		p.watch(s, st, 2)
	}
	host, port, err := net.SplitHostPort(w.viewer.Stats().Remote)
	if err != nil {
		t.Fatal(err)
	}
	candidate := fmt.Sprintf("candidate:1 1 udp 1 %s %s typ host", host, port)
	if err := attacker.viewer.AddCandidate(candidate, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := attacker.viewer.Restart(context.Background(), attacker.offerText()+"a="+candidate+"\r\n"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.live(20) // time for the attacker's checks
		before := w.viewer.Stats().PLIs
		w.feedback(&rtcp.PictureLossIndication{MediaSSRC: w.ssrc.Load()})
		eventually(t, fmt.Sprintf("the witness is heard, round %d", i), func() bool { return w.viewer.Stats().PLIs > before })
	}
}

// A socket for both families serves viewers of each.
func TestDualStack(t *testing.T) {
	for name, network := range map[string]webrtc.NetworkType{"IPv4": webrtc.NetworkTypeUDP4, "IPv6": webrtc.NetworkTypeUDP6} {
		t.Run(name, func(t *testing.T) {
			s := startSFU(t, func(c *forward.Config) { c.UDP = ":0" })
			if !slices.ContainsFunc(s.Addresses(), func(a netip.Addr) bool { return a.Is6() == (name == "IPv6") }) {
				t.Skip("no such address here")
			}
			st, _ := pulse(t, s, "dock", 4)
			c := newClient(t, clientOptions{networks: []webrtc.NetworkType{network}})
			c.join(s, st)
			c.wait("frames", frames(10))
			remote := netip.MustParseAddrPort(c.viewer.Stats().Remote)
			if remote.Addr().Is6() != (name == "IPv6") {
				t.Errorf("the viewer is at %s", remote)
			}
		})
	}
}

// Floods of strangers' datagrams cost the viewers not a packet, and are
// counted.
func TestStrangers(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := pulse(t, s, "dock", 8)
	w := newWitness(t, newPeer(t, certificate(t)))
	w.watch(s, st, 5)
	udp, _ := s.Ports()
	stranger, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", udp))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	forged, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername(w.attribute("ice-ufrag")[0]+":x"), stun.NewShortTermIntegrity("a guess"), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername("nobody:x"), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{
		"the viewer's ufrag": forged.Raw, "nobody's ufrag": nobody.Raw, "half a request": forged.Raw[:30],
		"DTLS": append([]byte{22, 0xfe, 0xfd}, make([]byte, 40)...), "RTCP": append([]byte{0x80, 200}, make([]byte, 60)...),
		"large": make([]byte, 9000), "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.Stats().Ignored
			for i := range 5000 {
				_, _ = stranger.Write(p)
				if i%50 == 49 {
					time.Sleep(time.Millisecond) // paced, so that the kernel's buffers do not do our work
				}
			}
			w.live(10)
			pli := w.viewer.Stats().PLIs
			w.feedback(&rtcp.PictureLossIndication{MediaSSRC: w.ssrc.Load()})
			eventually(t, "the witness is heard", func() bool { return w.viewer.Stats().PLIs > pli })
			if n := s.Stats().Ignored - before; n == 0 && name != "the viewer's ufrag" {
				t.Error("none was counted")
			}
		})
	}
	if n := s.Stats().Dropped; len(n) > 0 {
		t.Errorf("frames dropped: %v", n)
	}
}
