package forward

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	strangers   = 64        // ICE-TCP connections besides one a viewer
	tcpBuffer   = 128 << 10 // bytes of kernel buffer: more would only make a slow viewer's picture old
	acceptPause = 50 * time.Millisecond
)

// mediaListener accepts ICE-TCP connections below pion's mux, which takes
// every connection of anybody, and ends for good at the first error: it
// bounds their number, and goes on where the process is out of file
// descriptors or a peer has already gone.
type mediaListener struct {
	net.Listener
	places chan struct{}
}

// Accept implements net.Listener.
func (l *mediaListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		select {
		case l.places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetWriteBuffer(tcpBuffer)
		}
		return &mediaStream{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
	}
}

// mediaStream gives its place back when it is closed.
type mediaStream struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *mediaStream) Close() error {
	c.leave()
	return c.Conn.Close()
}
