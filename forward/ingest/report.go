package ingest

import (
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// reception is what a receiver report says of one SSRC (RFC 3550 §6.4.1,
// §A.3, §A.8).
type reception struct {
	begun    bool
	first    uint32 // extended sequence number
	highest  uint32 // likewise
	received uint32
	expected uint32 // as of the last report
	counted  uint32 // received as of the last report
	jitter   float64
	transit  int64 // arrival less RTP time, in its clock

	sr   uint32 // the middle of the newest sender report's NTP time
	srAt time.Time
}

// take counts a packet that was not sent again by RTX.
func (r *reception) take(p *rtp.Packet, at time.Time, clockRate uint32) {
	seq := uint32(p.SequenceNumber)
	if !r.begun {
		r.begun, r.first, r.highest = true, 1<<16|seq, 1<<16|seq
	} else if ahead := int16(p.SequenceNumber - uint16(r.highest)); ahead > 0 {
		r.highest += uint32(ahead)
	}
	r.received++
	transit := at.UnixMicro()/1000*int64(clockRate)/1000 - int64(p.Timestamp)
	if d := int64(int32(transit - r.transit)); r.received > 1 {
		r.jitter += (float64(max(d, -d)) - r.jitter) / 16
	}
	r.transit = transit
}

// sender takes a sender report.
func (r *reception) sender(ntp uint64, at time.Time) { r.sr, r.srAt = uint32(ntp>>16), at }

// block is the report; false where there is nothing to report.
func (r *reception) block(ssrc uint32, now time.Time) (b rtcp.ReceptionReport, ok bool) {
	if !r.begun {
		return b, false
	}
	expected := r.highest - r.first + 1
	newly, came := expected-r.expected, r.received-r.counted
	r.expected, r.counted = expected, r.received
	b = rtcp.ReceptionReport{SSRC: ssrc, LastSequenceNumber: r.highest, Jitter: uint32(r.jitter)}
	if lost := int64(expected) - int64(r.received); lost > 0 {
		b.TotalLost = uint32(min(lost, 1<<23-1))
	}
	if newly > came {
		b.FractionLost = uint8(min(255, (newly-came)*256/newly))
	}
	if !r.srAt.IsZero() {
		b.LastSenderReport = r.sr
		b.Delay = uint32(now.Sub(r.srAt) * 65536 / time.Second)
	}
	return b, true
}
