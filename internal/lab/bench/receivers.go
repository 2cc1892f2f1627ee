package bench

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Receivers are plain UDP sockets, read as a viewer's are, that only count:
// the audience of a sender without signalling.
type Receivers struct {
	conns   []*net.UDPConn
	packets []atomic.Uint64
	bytes   []atomic.Uint64
}

// ListenReceivers opens n sockets on loopback; Run closes them.
func ListenReceivers(n int) (*Receivers, error) {
	r := &Receivers{packets: make([]atomic.Uint64, n), bytes: make([]atomic.Uint64, n)}
	for range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			for _, c := range r.conns {
				_ = c.Close()
			}
			return nil, err
		}
		widen(c)
		r.conns = append(r.conns, c)
	}
	return r, nil
}

// Addrs are the sockets' addresses.
func (r *Receivers) Addrs() (addrs []netip.AddrPort) {
	for _, c := range r.conns {
		addrs = append(addrs, c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return addrs
}

// Run reads until ctx is done.
func (r *Receivers) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for i, c := range r.conns {
		all.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, _, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				r.packets[i].Add(1)
				r.bytes[i].Add(uint64(n))
			}
		})
	}
	<-ctx.Done()
	for _, c := range r.conns {
		_ = c.Close()
	}
	all.Wait()
	return nil
}

// Snapshot reads all counters now. All who have a packet have joined, at no
// time to speak of.
func (r *Receivers) Snapshot() Snapshot {
	s := Snapshot{Time: time.Now()}
	for i := range r.conns {
		c := Counts{Packets: r.packets[i].Load(), Bytes: r.bytes[i].Load()}
		s.Viewers = append(s.Viewers, c)
		if c.Packets > 0 {
			s.Joined = append(s.Joined, 0)
		}
	}
	return s
}
