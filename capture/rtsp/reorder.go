package rtsp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/rtp"
)

// The bounds of putting packets in order.
const (
	reorderFor  = 30 * time.Millisecond // a missing packet is waited for
	reorderMost = 64                    // packets that wait behind it
)

// orderly is a socket for media that hands out its packets in order. The
// library would do so by itself, but waits for a missing packet until 64 more
// have come: at 600 kbit/s that is a second, at each loss. Here that takes
// 30 ms, and an empty packet stands in for the missing one (see standIn), so
// that the library waits for nothing.
//
// The packets are numbered anew, without a jump: after one backwards the
// library would drop 64. What the camera is told of losses (RTCP) is therefore
// too little.
type orderly struct {
	*net.UDPConn
	line line

	// Owned by the goroutine that reads.
	from *net.UDPAddr // whose packets are put in order; nil: nobody's yet
	at   netip.AddrPort

	mu    sync.Mutex // guards what follows
	users time.Time  // the deadline that was asked for
	own   time.Time  // until when a missing packet is waited for; zero: none is
}

// SetReadDeadline implements [net.PacketConn].
func (o *orderly) SetReadDeadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users = t
	return o.setLocked()
}

func (o *orderly) setLocked() error {
	t := o.users
	if t.IsZero() || !o.own.IsZero() && o.own.Before(t) {
		t = o.own
	}
	return o.UDPConn.SetReadDeadline(t)
}

// patience begins when something waits, and ends when nothing does.
func (o *orderly) patience() error {
	waiting := o.line.held > 0
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case waiting && o.own.IsZero():
		o.own = time.Now().Add(reorderFor)
	case !waiting && !o.own.IsZero():
		o.own = time.Time{}
	default:
		return nil
	}
	return o.setLocked()
}

// lost tells whether a read ended because a missing packet was waited for long
// enough, and not because the owner wants to leave.
func (o *orderly) lost(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if !o.users.IsZero() && !now.Before(o.users) || o.own.IsZero() {
		return false
	}
	o.own = time.Time{}
	return o.setLocked() == nil
}

// ReadFrom implements [net.PacketConn]. What is not RTP, and what comes from
// somebody else, is handed out as it is.
func (o *orderly) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if n := o.line.pop(p); n > 0 {
			return n, o.from, nil
		}
		if err := o.patience(); err != nil {
			return 0, nil, err
		}
		n, at, err := o.ReadFromUDPAddrPort(p)
		if o.lost(err) {
			o.line.giveUp()
			continue
		}
		if err != nil {
			return n, nil, err
		}
		if o.from == nil && isRTP(p[:n]) {
			o.from, o.at = net.UDPAddrFromAddrPort(at), at
		}
		if at != o.at || !isRTP(p[:n]) {
			return n, net.UDPAddrFromAddrPort(at), nil
		}
		if o.line.push(p[:n]) {
			return n, o.from, nil
		}
	}
}

// isRTP tells RTP from RTCP on one port (RFC 5761, section 4).
func isRTP(b []byte) bool {
	return len(b) >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223)
}

// line puts packets of one sender in order. The zero value is ready.
type line struct {
	begun bool
	ssrc  uint32
	next  uint16 // the camera's sequence number whose turn it is
	out   uint16 // the number that the next packet gets
	head  [12]byte

	slots [reorderMost][]byte // by sequence number; empty: not here
	held  int                 // how many are
	until uint16              // what is missing before this one is given up
	after []byte              // comes when all slots are empty; not of their sequence
}

// push takes a packet. Where it is its turn, it gets its number and goes on
// at once; else pop hands it out, or it came twice, or too late.
func (l *line) push(b []byte) (goesOn bool) {
	seq, ssrc := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])
	if !l.begun {
		l.begun, l.ssrc, l.next, l.out, l.until = true, ssrc, seq, seq, seq
	}
	copy(l.head[:], b)
	ahead := int16(seq - l.next)
	switch {
	case ssrc != l.ssrc, ahead < -reorderMost, ahead >= reorderMost:
		// Another sequence, or so many lost that nothing is worth waiting for.
		l.giveUp()
		l.after = append(l.after[:0], b...)
	case ahead == 0 && l.held == 0:
		l.next++
		l.number(b)
		return true
	case ahead >= 0:
		slot := &l.slots[seq%reorderMost]
		if len(*slot) == 0 {
			l.held++
			*slot = append((*slot)[:0], b...)
		}
	}
	return false
}

// giveUp stops waiting for what is missing before the last packet that waits.
func (l *line) giveUp() {
	for i := range uint16(reorderMost) {
		if len(l.slots[(l.next+i)%reorderMost]) > 0 {
			l.until = l.next + i
		}
	}
}

// pop writes the packet whose turn it is to p, and returns its length; 0: none
// is here. It must be asked until then before the next push.
func (l *line) pop(p []byte) int {
	slot := &l.slots[l.next%reorderMost]
	switch {
	case l.held > 0 && len(*slot) > 0:
		b := *slot
		*slot = b[:0]
		l.held--
		l.next++
		return l.give(p, b)
	case l.held > 0 && int16(l.until-l.next) > 0:
		l.next++
		return l.give(p, standIn(l.head))
	case l.held == 0 && len(l.after) > 0:
		b := l.after
		l.after = b[:0]
		l.ssrc, l.next = binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:])
		l.until = l.next
		l.slots[l.next%reorderMost] = append(l.slots[l.next%reorderMost][:0], b...)
		l.held = 1
		return l.give(p, standIn(l.head))
	}
	return 0
}

func (l *line) give(p, b []byte) int {
	n := copy(p, b)
	l.number(p)
	return n
}

func (l *line) number(b []byte) {
	binary.BigEndian.PutUint16(b[2:], l.out)
	l.out++
}

// lostProfile marks the header extension of a packet that stands in for one
// that was lost. A camera that sent such packets would only have them dropped.
const lostProfile = 0x6c6f

// standIn is an empty packet like the one whose header is given.
func standIn(head [12]byte) []byte {
	b := make([]byte, 16)
	copy(b, head[:])
	b[0], b[1] = 0x90, head[1]&0x7f // version 2, an extension; no marker
	binary.BigEndian.PutUint16(b[12:], lostProfile)
	return b
}

// standsIn tells whether a packet does. It is to be dropped: the hole in the
// sequence says what there is to say.
func standsIn(p *rtp.Packet) bool {
	return p.Extension && p.ExtensionProfile == lostProfile && len(p.Payload) == 0
}
