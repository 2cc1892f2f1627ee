package rtsp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edged/capture"
)

// maxTalk is the most that a camera may send before it is asked to play.
const maxTalk = 1 << 20 // bytes

var errTalk = fmt.Errorf("more than %d bytes before the first picture", maxTalk)

// guard opens the connections of one attempt, keeps the last one to break it
// when its owner is in a hurry, and limits what comes in before the media.
type guard struct {
	host    string        // the only one to connect to
	knock   time.Duration // to connect to an address
	step    time.Duration // to connect to a name
	secure  bool          // rtsps
	talk    atomic.Int64
	playing atomic.Bool

	mu     sync.Mutex // guards what follows
	conn   net.Conn
	broken bool
}

// dial connects, but only to the configured host: a redirect to another one
// would carry the credentials along.
func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host != g.host {
		return nil, capture.Errorf(capture.CodeRefused, "the camera redirects to %q: name that host in the source if it is right", host)
	}
	timeout := g.step
	if _, err := netip.ParseAddr(host); err == nil {
		timeout = min(g.knock, g.step)
	}
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	g.conn = conn
	return &guardedConn{Conn: conn, g: g}, nil
}

// cut closes the connection under whoever uses it, and all that follow.
func (g *guard) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = true
	if g.conn != nil {
		_ = g.conn.Close()
	}
}

// udpBuffer holds a burst: a large keyframe comes as fast as the wire allows.
const udpBuffer = 2 << 20 // bytes

// listen opens a socket for media. The system may allow less of a buffer,
// which is no fault; the library's own option takes it for one. What is
// encrypted is not put in order: nothing can stand in for it.
func (g *guard) listen(network, addr string) (net.PacketConn, error) {
	c, err := net.ListenPacket(network, addr)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		return c, nil
	}
	_ = u.SetReadBuffer(udpBuffer)
	if g.secure {
		return u, nil
	}
	return &orderly{UDPConn: u}, nil
}

// resolve refuses the host names that a server may put into its Transport
// header: looking one up would block without a limit.
func (*guard) resolve(string, string) (*net.IPAddr, error) {
	return nil, errors.New("the transport header names a host instead of an address")
}

type guardedConn struct {
	net.Conn
	g *guard
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.g.playing.Load() && c.g.talk.Add(int64(n)) > maxTalk {
		return 0, errTalk
	}
	return n, err
}
