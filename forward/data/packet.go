package data

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/pion/transport/v4/packetio"
)

// Chunks of RFC 9260, RFC 3758 and RFC 6525 that a viewer may send, with the
// least bytes of their fixed part, header included.
var chunkLeast = map[byte]int{
	0:   17, // DATA
	1:   20, // INIT
	2:   20, // INIT ACK
	3:   16, // SACK
	4:   8,  // HEARTBEAT
	5:   4,  // HEARTBEAT ACK
	6:   4,  // ABORT
	7:   8,  // SHUTDOWN
	8:   4,  // SHUTDOWN ACK
	9:   4,  // ERROR
	10:  5,  // COOKIE ECHO
	11:  4,  // COOKIE ACK
	14:  4,  // SHUTDOWN COMPLETE
	130: 8,  // RE-CONFIG
	192: 8,  // FORWARD TSN
}

// parametersAt is where the parameters of a chunk begin.
var parametersAt = map[byte]int{1: 20, 2: 20, 4: 4, 6: 4, 9: 4, 130: 4}

const (
	commonHeader = 12
	maxChunks    = 32
)

// wellFormed holds an SCTP packet against RFC 9260 §3 as far as lengths go,
// so that the parser behind, whose goroutines are not ours to recover, meets
// nothing whose parts do not add up.
func wellFormed(p []byte) bool {
	if len(p) < commonHeader+4 {
		return false
	}
	p = p[commonHeader:]
	for range maxChunks {
		size := int(binary.BigEndian.Uint16(p[2:]))
		least, known := chunkLeast[p[0]]
		if !known || size < least || size > len(p) {
			return false
		}
		if from, has := parametersAt[p[0]]; has && !tlvs(p[from:size]) {
			return false
		}
		if p[0] == 3 && size != 16+4*(int(binary.BigEndian.Uint16(p[12:]))+int(binary.BigEndian.Uint16(p[14:]))) {
			return false
		}
		if (p[0] == 6 || p[0] == 9) && (size+3)&^3 < len(p) {
			return false // the parser takes what follows for more of the causes
		}
		if p = p[min(len(p), (size+3)&^3):]; len(p) == 0 {
			return true
		}
		if len(p) < 4 {
			return false
		}
	}
	return false
}

// tlvs tells whether parameters, or causes, fill their place (RFC 9260 §3.2.1).
func tlvs(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return false
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return true
}

// conn is the association's end of the viewer's DTLS connection.
type conn struct {
	in   *packetio.Buffer
	send func([]byte) (int, error)
}

func newConn(send func([]byte) (int, error)) *conn {
	c := &conn{in: packetio.NewBuffer(), send: send}
	c.in.SetLimitCount(64)
	c.in.SetLimitSize(64 << 10)
	return c
}

func (c *conn) Read(b []byte) (int, error) { return c.in.Read(b) }

// Write never fails: the association would end with the first error, and a
// path may come back. Whether it is gone for good is not SCTP's to say.
func (c *conn) Write(b []byte) (int, error) {
	_, _ = c.send(b)
	return len(b), nil
}

// Close ends a waiting read; the DTLS connection is not its to close.
func (c *conn) Close() error { return c.in.Close() }

func (c *conn) LocalAddr() net.Addr                { return nil }
func (c *conn) RemoteAddr() net.Addr               { return nil }
func (c *conn) SetDeadline(t time.Time) error      { return c.in.SetReadDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil }
