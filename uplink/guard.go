package uplink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// MQTT 3.1.1 packet types that a broker may send to this client (§2.2.1). It
// never uses QoS 2 and never unsubscribes.
const (
	typeConnack  = 2
	typePublish  = 3
	typePuback   = 4
	typeSuback   = 9
	typePingresp = 13
)

// maxFrame is the longest remaining length that is taken from a broker.
const maxFrame = 128 << 10

// errFrame marks bytes from the broker that no MQTT 3.1.1 broker sends to
// this client.
var errFrame = errors.New("protocol violation")

// guard stands between the network and the MQTT library. It passes a frame on
// only whole and checked, since the library allocates whatever length is
// announced and indexes by whatever count comes; it puts a deadline on every
// write, which the library does for some only.
//
// Read is called from one goroutine at a time, Write from any.
type guard struct {
	net.Conn
	writeTimeout time.Duration

	// Read's goroutine
	frame  []byte // what is left of the frame that is being passed on
	failed error

	mu      sync.Mutex  // one write and its deadline
	greeted atomic.Bool // CONNACK has been seen
	wrote   atomic.Bool // something may have reached the broker
	cutting atomic.Bool // cut was called
}

func newGuard(c net.Conn, writeTimeout time.Duration) *guard {
	return &guard{Conn: c, writeTimeout: writeTimeout}
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(g.frame) == 0 {
		if g.failed == nil {
			g.frame, g.failed = readFrame(g.Conn, !g.greeted.Load())
		}
		if g.failed != nil && g.cutting.Load() {
			g.failed = errCut // the library takes "closed" for its own doing and stays "connected"
		}
		if g.failed != nil {
			return 0, g.failed
		}
		g.greeted.Store(true)
	}
	n := copy(p, g.frame)
	g.frame = g.frame[n:]
	return n, nil
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.writeTimeout)); err != nil {
		return 0, err
	}
	g.wrote.Store(true)
	n, err := g.Conn.Write(p)
	if err != nil && !g.greeted.Load() {
		err = g.lastWord(err)
	}
	return n, err
}

// lastWord looks for a TLS alert behind a CONNECT that could not be written:
// with TLS 1.3 a server refuses a client's certificate only after the client
// has done its part of the handshake (RFC 8446 §4.4.2.4), and hangs up.
func (g *guard) lastWord(err error) error {
	_ = g.Conn.SetReadDeadline(time.Now().Add(time.Second))
	var op *net.OpError
	if _, alert := g.Conn.Read(make([]byte, 1)); errors.As(alert, &op) && op.Op == "remote error" {
		return alert
	}
	return err
}

// cut closes the connection in such a way that the library takes it for lost.
func (g *guard) cut() {
	g.cutting.Store(true)
	_ = g.Conn.Close()
}

// SetDeadline sets the deadline of reads; writes have their own.
func (g *guard) SetDeadline(t time.Time) error { return g.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: every write has its own deadline.
func (g *guard) SetWriteDeadline(time.Time) error { return nil }

// readFrame reads one control packet; first says that it must be CONNACK.
func readFrame(r io.Reader, first bool) ([]byte, error) {
	frame := make([]byte, 0, 64)
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	frame = append(frame, b[0])
	length := 0
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, unexpected(err)
		}
		frame = append(frame, b[0])
		length |= int(b[0]&0x7f) << shift
		if b[0]&0x80 == 0 {
			break
		}
		if shift == 21 { // §2.2.3: at most four bytes
			return nil, fmt.Errorf("remaining length of five bytes: %w", errFrame)
		}
	}
	if err := checkHeader(frame[0], length, first); err != nil {
		return nil, err
	}
	head := len(frame)
	frame = append(frame, make([]byte, length)...)
	if _, err := io.ReadFull(r, frame[head:]); err != nil {
		return nil, unexpected(err)
	}
	if err := checkBody(frame[0], frame[head:]); err != nil {
		return nil, err
	}
	return frame, nil
}

// checkHeader says whether a frame of this kind and length may be read.
func checkHeader(kind byte, length int, first bool) error {
	if length > maxFrame {
		return fmt.Errorf("frame of %d bytes, over %d: %w", length, maxFrame, errFrame)
	}
	if first != (kind>>4 == typeConnack) {
		return fmt.Errorf("packet type %d out of order: %w", kind>>4, errFrame)
	}
	want := 2
	switch kind >> 4 {
	case typePublish:
		if qos := kind >> 1 & 3; qos > 1 {
			return fmt.Errorf("message of QoS %d on a subscription of QoS 1: %w", qos, errFrame)
		}
		return nil
	case typeConnack, typePuback:
	case typeSuback:
		want = 3 // identifier, and the one filter's code
	case typePingresp:
		want = 0
	default:
		return fmt.Errorf("packet type %d from a broker: %w", kind>>4, errFrame)
	}
	if kind&0x0f != 0 {
		return fmt.Errorf("flags %#x on packet type %d: %w", kind&0x0f, kind>>4, errFrame)
	}
	if length != want {
		return fmt.Errorf("packet type %d of %d bytes, not %d: %w", kind>>4, length, want, errFrame)
	}
	return nil
}

// checkBody says whether the body of a frame is what its kind must have.
func checkBody(kind byte, body []byte) error {
	switch kind >> 4 {
	case typeConnack:
		if body[0]&^1 != 0 || body[1] > 5 {
			return fmt.Errorf("CONNACK % x: %w", body, errFrame)
		}
	case typeSuback:
		if code := body[2]; code > 1 && code < 0x80 { // 0x80 and what MQTT 5 adds above it are refusals
			return fmt.Errorf("SUBACK code %#x: %w", code, errFrame)
		}
	case typePublish:
		need := 2
		if kind>>1&3 > 0 {
			need = 4 // and the identifier
		}
		if len(body) < need {
			return fmt.Errorf("PUBLISH of %d bytes: %w", len(body), errFrame)
		}
		if topic := int(body[0])<<8 | int(body[1]); topic == 0 || topic+need > len(body) {
			return fmt.Errorf("PUBLISH of %d bytes with a topic of %d: %w", len(body), topic, errFrame)
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
