package forward

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"edged/forward/ingest"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// inboundRate is how many packets of RTCP are read of a viewer in a second:
// many times what a browser sends on the worst path. mediaRate is that of a
// publisher's RTP: a session that takes more ends. The rest of a storm costs
// next to nothing.
const (
	inboundRate = 1000
	mediaRate   = 2 * ingest.MaxPackets
)

// maxSenders is how many SSRCs are opened packets of, in a link's life: each
// costs memory that stays.
const maxSenders = 128

// inbound opens what a viewer or a publisher sends.
type inbound struct {
	mu     sync.Mutex    // held while a packet is handled
	srtp   *srtp.Context // nil before the handshake has ended
	known  []uint32      // SSRCs of packets that were genuine
	header rtcp.Header   // scratch
	media  rtp.Header    // likewise
	plain  []byte        // likewise
	second int64         // Unix
	count  int           // of packets of RTCP in that second
	frames int           // of packets of RTP in it
}

// open begins to take RTCP and RTP.
func (in *inbound) open(c *srtp.Context) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.srtp = c
}

// room tells whether packets of an SSRC may be opened.
func (in *inbound) room(ssrc uint32) bool {
	return len(in.known) < maxSenders || slices.Contains(in.known, ssrc)
}

func (in *inbound) know(ssrc uint32) {
	if !slices.Contains(in.known, ssrc) {
		in.known = append(in.known, ssrc)
	}
}

// receive takes a DTLS record or a packet of SRTCP or SRTP that came from the
// far side's address, and reports whether it was of use. The reader of the
// media socket calls it: it waits for nothing but, briefly, for the frame that
// is being built for this very viewer. It overwrites p.
func (l *link) receive(kind content, p []byte, now time.Time) bool {
	if kind == dtlsRecord {
		_, err := l.dtls.Write(p) // a full queue drops, DTLS repeats
		return err == nil
	}
	in := &l.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if second := now.Unix(); second != in.second {
		in.second, in.count, in.frames = second, 0, 0
	}
	if in.srtp == nil {
		return false
	}
	if kind == rtpPacket {
		return l.receiveRTP(p, now)
	}
	if in.count++; in.count > inboundRate {
		return false
	}
	ssrc := binary.BigEndian.Uint32(p[4:])
	if !in.room(ssrc) {
		return false
	}
	plain, err := in.srtp.DecryptRTCP(p[:0], p, &in.header)
	if err != nil {
		return false
	}
	in.know(ssrc)
	l.takeRTCP(plain, now)
	return true
}

// receiveRTP takes a packet of SRTP; in.mu is held.
func (l *link) receiveRTP(p []byte, now time.Time) bool {
	in := &l.in
	ssrc := binary.BigEndian.Uint32(p[8:])
	if in.frames++; in.frames > mediaRate || l.takeRTP == nil || !in.room(ssrc) {
		return false
	}
	plain, err := in.srtp.DecryptRTP(in.plain[:0], p, &in.media)
	if err != nil {
		return false
	}
	in.know(ssrc)
	in.plain = plain
	l.takeRTP(plain, now)
	return true
}

// read receives what comes through the agent, which is what comes by TCP. It
// ends with the agent.
func (l *link) read(conn *ice.Conn) error {
	buf := make([]byte, receiveMTU)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return errICEFailed
		}
		if kind := classify(buf[:n]); kind == dtlsRecord || kind == rtcpPacket || kind == rtpPacket {
			l.receive(kind, buf[:n], time.Now())
		}
	}
}
