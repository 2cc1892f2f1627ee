package forward

import (
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// inboundRate is how many packets of RTCP are read of a viewer in a second:
// many times what a browser sends on the worst path. The rest of a storm costs
// next to nothing.
const inboundRate = 1000

// inbound opens what a viewer sends.
type inbound struct {
	mu     sync.Mutex    // held while a packet is handled
	srtp   *srtp.Context // nil before the handshake has ended
	header rtcp.Header   // scratch
	second int64         // Unix
	count  int           // of packets in that second
}

// open begins to take RTCP.
func (in *inbound) open(c *srtp.Context) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.srtp = c
}

// receive takes a DTLS record or a packet of SRTCP that came from the viewer's
// address, and reports whether it was of use. The reader of the media socket
// calls it: it waits for nothing but, briefly, for the frame that is being
// built for this very viewer. It overwrites p.
func (v *Viewer) receive(kind content, p []byte, now time.Time) bool {
	if kind == dtlsRecord {
		_, err := v.dtls.Write(p) // a full queue drops, DTLS repeats
		return err == nil
	}
	in := &v.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if second := now.Unix(); second != in.second {
		in.second, in.count = second, 0
	}
	if in.count++; in.srtp == nil || in.count > inboundRate {
		return false
	}
	plain, err := in.srtp.DecryptRTCP(p[:0], p, &in.header)
	if err != nil {
		return false
	}
	v.feedback(plain, now)
	return true
}

// read receives what comes through the agent, which is what comes by TCP. It
// ends with the agent.
func (v *Viewer) read(conn *ice.Conn) error {
	buf := make([]byte, receiveMTU)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return errICEFailed
		}
		if kind := classify(buf[:n]); kind == dtlsRecord || kind == rtcpPacket {
			v.receive(kind, buf[:n], time.Now())
		}
	}
}
