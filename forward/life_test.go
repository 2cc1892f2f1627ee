package forward_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"

	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"
)

// Run ends in whatever phase its viewers are, and leaves nothing.
func TestRunEndsInEveryPhase(t *testing.T) {
	cert := certificate(t)
	for name, reach := range map[string]func(p *peer) error{
		"offered": func(*peer) error { return nil },
		"ICE":     (*peer).reach,
		"live":    (*peer).connect,
		"paused":  func(p *peer) error { defer p.viewer.SetQuality(forward.Off); return p.connect() },
	} {
		t.Run(name, func(t *testing.T) {
			ignore := goleak.IgnoreCurrent()
			s, err := forward.New(forward.Config{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", MaxViewers: 2}, cert, logger(t))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			<-s.Ready()
			st := s.AddStream("dock", func(int) {})
			st.Describe([]capture.Track{h264Track})
			st.Frame(numbered(0, 2, true))
			p := newPeer(t, cert)
			p.join(s, st)
			if err := reach(p); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			<-p.viewer.Done()
			if r := p.viewer.Reason(); r != "the box stops" {
				t.Errorf("reason %q", r)
			}
			late := newPeer(t, cert)
			_, _, err = s.Join(context.Background(), st, forward.ViewerOptions{Offer: late.offer(true)})
			late.close()
			if !errors.Is(err, forward.ErrGone) {
				t.Errorf("Join after the end: %v", err)
			}
			if _, err := p.viewer.Restart(context.Background(), p.offerText()); !errors.Is(err, forward.ErrGone) {
				t.Errorf("Restart after the end: %v", err)
			}
			p.viewer.Close("again")
			_ = p.viewer.Stats()
			p.close()
			goleak.VerifyNone(t, ignore)
		})
	}
}

// Streams come, go and change while viewers join; whoever is admitted ends,
// and RemoveStream returns.
func TestJoinsMeetChanges(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.TCP = "" })
	cert := certificate(t)
	var current atomic.Pointer[forward.Stream]
	renew := func() {
		st := s.AddStream("dock", func(int) {})
		st.Describe([]capture.Track{h264Track})
		st.Frame(numbered(0, 2, true))
		current.Store(st)
	}
	renew()
	over := make(chan struct{})
	var group, changes sync.WaitGroup
	changes.Go(func() {
		vp8 := capture.Track{Kind: capture.Video, Codec: capture.VP8, ClockRate: 90000}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			switch i % 4 {
			case 0:
				current.Load().Describe([]capture.Track{vp8})
			case 1:
				current.Load().Describe([]capture.Track{h264Track})
			case 2:
				s.RemoveStream("dock", "gone")
			case 3:
				renew() // over the old one, where case 2 found it
			}
			_ = s.Stats()
		}
	})
	var admitted atomic.Int64
	for range 8 {
		group.Go(func() {
			for range 25 {
				p := newPeer(detached{t}, cert)
				var codec *forward.CodecError
				v, answer, err := s.Join(context.Background(), current.Load(), forward.ViewerOptions{Offer: p.offer(true)})
				switch {
				case err == nil:
					admitted.Add(1)
					p.viewer, p.answer, p.gone = v, answer, v.Done()
					_ = v.Stats()
					_ = p.connect() // fails where the viewer was ended meanwhile
					v.Close("enough")
					<-v.Done()
				case !errors.Is(err, forward.ErrGone) && !errors.As(err, &codec):
					t.Errorf("Join: %v", err)
				}
				p.close()
			}
		})
	}
	group.Wait()
	close(over)
	changes.Wait()
	if admitted.Load() == 0 {
		t.Error("nobody was admitted")
	}
	if n := len(current.Load().Stats().Viewers); n != 0 {
		t.Errorf("%d viewers left", n)
	}
}

// A viewer that gets another address from its NAT goes on without a restart.
func TestAddressChanges(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.TCP = "" })
	st, _ := pulse(t, s, "dock", 2)
	nat := newNAT(t, s)
	p := newPeer(t, certificate(t))
	p.hidden = true
	p.join(s, st)
	udp, _ := s.Ports()
	p.answer = strings.ReplaceAll(p.answer, fmt.Sprintf(" %d typ", udp), fmt.Sprintf(" %d typ", nat.port()))
	if err := p.connect(); err != nil {
		t.Fatal(err)
	}
	p.live(5)
	before := p.viewer.Stats().Remote
	nat.rebind()
	p.live(30)
	if now := p.viewer.Stats(); now.Remote == before || now.Path != "prflx/udp" {
		t.Errorf("media goes to %s by %s, before to %s", now.Remote, now.Path, before)
	}
}

// nat stands between one viewer and the box.
type nat struct {
	t      *testing.T
	inside *net.UDPConn
	box    *net.UDPAddr
	client atomic.Pointer[net.UDPAddr]
	group  sync.WaitGroup
	mu     sync.Mutex
	out    *net.UDPConn
}

func newNAT(t *testing.T, s *forward.SFU) *nat {
	t.Helper()
	udp, _ := s.Ports()
	inside, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{t: t, inside: inside, box: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(udp)}}
	n.rebind()
	n.group.Go(func() {
		buf := make([]byte, 2000)
		for {
			k, from, err := inside.ReadFromUDP(buf)
			if err != nil {
				return
			}
			n.client.Store(from)
			n.mu.Lock()
			_, _ = n.out.WriteToUDP(buf[:k], n.box)
			n.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = inside.Close()
		n.mu.Lock()
		_ = n.out.Close()
		n.mu.Unlock()
		n.group.Wait()
	})
	return n
}

func (n *nat) port() int { return n.inside.LocalAddr().(*net.UDPAddr).Port }

// rebind takes another address on the outside.
func (n *nat) rebind() {
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out != nil {
		_ = n.out.Close()
	}
	n.out = out
	n.group.Go(func() {
		buf := make([]byte, 2000)
		for {
			k, err := out.Read(buf)
			if err != nil {
				return
			}
			if to := n.client.Load(); to != nil {
				_, _ = n.inside.WriteToUDP(buf[:k], to)
			}
		}
	})
}

// A viewer over TCP that stops reading holds nobody up: not the others, not
// the end.
func TestBlockedTCPViewer(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := pulse(t, s, "dock", 20) // two frames must not fill a receiver's buffer
	w := newWitness(t, newPeer(t, certificate(t)))
	w.join(s, st)
	if err := w.connect(); err != nil {
		t.Fatal(err)
	}
	_, tcp := s.Ports()
	proxy := newTCPProxy(t, int(tcp))
	c := newClient(t, clientOptions{networks: []webrtc.NetworkType{webrtc.NetworkTypeTCP4}})
	h := c.listen() // whose writer is blocked too
	v, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: c.offer(nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.viewer = v
	c.answer(strings.ReplaceAll(answer, fmt.Sprintf(" %d typ host tcptype", tcp), fmt.Sprintf(" %d typ host tcptype", proxy.port)))
	c.wait("frames", frames(2))
	h.wait(t, "records", func() bool { return len(h.records) > 3 })
	proxy.stop()
	eventually(t, "frames skipped, or left behind", func() bool {
		before := v.Stats().Packets
		w.live(10)
		return v.Stats().Packets == before
	})
	w.live(10)
	v.Close("blocked")
	<-v.Done()
	w.live(5)
}

// tcpProxy forwards one connection until it is told to stop reading.
type tcpProxy struct {
	port    int
	stopped chan struct{}
	once    sync.Once
}

func (p *tcpProxy) stop() { p.once.Do(func() { close(p.stopped) }) }

func newTCPProxy(t *testing.T, to int) *tcpProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpProxy{port: l.Addr().(*net.TCPAddr).Port, stopped: make(chan struct{})}
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, in, out)
			mu.Unlock()
			group.Go(func() { _, _ = io.Copy(out, in) })
			group.Go(func() {
				buf := make([]byte, 16<<10)
				for {
					n, err := out.Read(buf)
					if err != nil {
						return
					}
					select {
					case <-p.stopped:
						return
					default:
					}
					if _, err := in.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		p.stop()
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return p
}
