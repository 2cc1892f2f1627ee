package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Path lies between one client and a UDP server. Run makes it work; the other
// methods may be called from any goroutine.
type Path struct {
	client    *net.UDPConn // the client sends here
	server    *net.UDPConn // connected to the server
	toClient  *direction
	toServer  *direction
	mu        sync.Mutex
	clientsAt netip.AddrPort // where the client sent from last
}

// Counts are what one direction did so far, in packets.
type Counts struct {
	Passed  uint64
	Lost    uint64 // on the way
	Dropped uint64 // by a full queue
}

// Share of packets that did not pass, 0 to 1.
func (c Counts) Share() float64 {
	return float64(c.Lost+c.Dropped) / max(1, float64(c.Passed+c.Lost+c.Dropped))
}

// Open opens a path to a server; its client's end is on a local address, on a
// port of its own. What is lost follows from the seed. Run closes it.
func Open(server netip.AddrPort, local netip.Addr, seed uint64) (*Path, error) {
	client, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	up, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	for _, c := range []*net.UDPConn{client, up} {
		_ = c.SetReadBuffer(4 << 20) // what waits is the model's to say
		_ = c.SetWriteBuffer(4 << 20)
	}
	return &Path{client: client, server: up, toClient: newDirection(2 * seed), toServer: newDirection(2*seed + 1)}, nil
}

// Addr is where the client finds the server.
func (p *Path) Addr() netip.AddrPort { return p.client.LocalAddr().(*net.UDPAddr).AddrPort() }

// Shape changes what the path does, from the next packet on.
func (p *Path) Shape(toClient, toServer Shape) {
	p.toClient.set(toClient)
	p.toServer.set(toServer)
}

// Counts are of both directions.
func (p *Path) Counts() (toClient, toServer Counts) { return p.toClient.read(), p.toServer.read() }

// Run carries packets until ctx is done.
func (p *Path) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { p.toServer.take(p.fromClient) })
	all.Go(func() { p.toClient.take(p.server.Read) })
	all.Go(func() { p.toServer.give(ctx, func(b []byte) { _, _ = p.server.Write(b) }) })
	all.Go(func() { p.toClient.give(ctx, p.sendClient) })
	<-ctx.Done()
	_ = p.client.Close()
	_ = p.server.Close()
	all.Wait()
	return nil
}

func (p *Path) fromClient(b []byte) (int, error) {
	n, from, err := p.client.ReadFromUDPAddrPort(b)
	if err == nil {
		p.mu.Lock()
		p.clientsAt = from
		p.mu.Unlock()
	}
	return n, err
}

func (p *Path) sendClient(b []byte) {
	p.mu.Lock()
	to := p.clientsAt
	p.mu.Unlock()
	if to.IsValid() {
		_, _ = p.client.WriteToUDPAddrPort(b, to)
	}
}

// direction is one way of a path.
type direction struct {
	mu     sync.Mutex
	model  *model
	shape  Shape
	counts Counts

	queue chan datagram // on the way, in the order of delivery
}

type datagram struct {
	at    time.Time
	bytes []byte
}

// onTheWay bounds the packets of one direction: 100 Mbit/s for a second.
const onTheWay = 10_000

func newDirection(seed uint64) *direction {
	return &direction{model: newModel(seed), queue: make(chan datagram, onTheWay)}
}

func (d *direction) set(s Shape) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shape = s
}

func (d *direction) read() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// take reads packets until the socket is closed. A refused packet
// (ECONNREFUSED, from a server that is not there) is an error of another kind,
// and is passed over.
func (d *direction) take(read func([]byte) (int, error)) {
	defer close(d.queue)
	buf := make([]byte, 1<<16)
	for {
		n, err := read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if at, ok := d.admit(time.Now(), n); ok {
			d.queue <- datagram{at, slices.Clone(buf[:n])}
		}
	}
}

func (d *direction) admit(now time.Time, bytes int) (at time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, fate := d.model.pass(now, bytes, d.shape)
	if fate == passes && len(d.queue) == cap(d.queue) {
		fate = dropped
	}
	switch fate {
	case passes:
		d.counts.Passed++
	case lost:
		d.counts.Lost++
	case dropped:
		d.counts.Dropped++
	}
	return at, fate == passes
}

// give delivers each packet at its time. When ctx is done what is on the way
// is gone.
func (d *direction) give(ctx context.Context, write func([]byte)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range d.queue {
		if wait := time.Until(p.at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				continue
			}
		}
		write(p.bytes)
	}
}

// Candidate finds the first UDP candidate of an answer's SDP.
func Candidate(answer string) (at netip.AddrPort, ok bool) {
	for line := range strings.Lines(answer) {
		if f, ok := udpCandidate(line); ok {
			if at, err := netip.ParseAddrPort(net.JoinHostPort(f[4], f[5])); err == nil {
				return at, true
			}
		}
	}
	return at, false
}

// Through makes an answer lead through the path: of its candidates (RFC 8839
// §5.1) the first on UDP gets the path's address, and there is no other.
func (p *Path) Through(answer string) string {
	var out strings.Builder
	here, replaced := p.Addr(), false
	for line := range strings.Lines(answer) {
		if !strings.HasPrefix(line, "a=candidate:") {
			out.WriteString(line)
			continue
		}
		if f, ok := udpCandidate(line); ok && !replaced {
			f[4], f[5], replaced = here.Addr().String(), strconv.Itoa(int(here.Port())), true
			out.WriteString(strings.Join(f, " ") + "\r\n")
		}
	}
	return out.String()
}

// udpCandidate gives the fields of a candidate's line, from "a=candidate:…" on.
func udpCandidate(line string) (fields []string, ok bool) {
	if !strings.HasPrefix(line, "a=candidate:") {
		return nil, false
	}
	f := strings.Fields(line)
	return f, len(f) >= 8 && strings.EqualFold(f[2], "udp")
}
