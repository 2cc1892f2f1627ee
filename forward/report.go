package forward

import (
	"time"

	"github.com/pion/rtcp"
)

// layOut fixes the header extensions of each lane: those that the viewer
// offers, where the box has something to say in them.
func (v *Viewer) layOut() {
	for i, l := range v.lanes {
		l.ids = v.offer.media[v.chosen[i].media].ids
		if l.number == nil {
			l.ids.number = 0
		}
		if l.ring.audio {
			l.ids.playout = 0 // of pictures only
		}
		l.layout = layOut(l.ids)
		l.repairs.layout = layOut(extensions{number: l.ids.number})
	}
}

// report sends a sender report for each lane that has sent (RFC 3550 §6.4.1).
func (v *Viewer) report(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reportLocked(now, func(*lane) bool { return true })
}

// reportNew sends a report for each lane that has begun, or gone on from
// elsewhere: until then the viewer can bring picture and sound together only
// by what it knew before.
func (v *Viewer) reportNew(now time.Time) {
	for _, l := range v.lanes {
		if l.packets > 0 && !l.reported {
			v.reportLocked(now, func(l *lane) bool { return !l.reported })
			return
		}
	}
}

func (v *Viewer) reportLocked(now time.Time, which func(*lane) bool) {
	b := batches.Get().(*batch)
	defer b.release()
	for _, l := range v.lanes {
		if l.packets == 0 || !which(l) {
			continue
		}
		compound := rtcp.CompoundPacket{l.senderReport(now), rtcp.NewCNAMESourceDescription(l.ssrc, cname)}
		plain, err := compound.Marshal()
		if err != nil {
			continue
		}
		sealed, err := v.out.EncryptRTCP(nil, plain, nil)
		if err != nil {
			continue
		}
		l.reported = true
		b.buf = append(b.buf, sealed...)
		b.ends = append(b.ends, len(b.buf))
	}
	if len(b.ends) == 0 {
		return
	}
	if remote := v.remote.Load(); remote != nil {
		b.post(v.sfu.egress, parcel{to: *remote})
	} else if v.queue.room(now) {
		v.queue.put(b, now)
	}
}

// senderReport says which RTP time the lane has now, by the time of capture
// and not of sending: what was captured at one moment is shown at one moment,
// whatever way picture and sound have come.
func (l *lane) senderReport(now time.Time) *rtcp.SenderReport {
	passed := now.Sub(l.lastCaptured).Seconds() * float64(l.clockRate)
	return &rtcp.SenderReport{
		SSRC: l.ssrc, NTPTime: ntp(now), RTPTime: l.seen + uint32(int64(passed)), PacketCount: l.packets, OctetCount: l.octets,
	}
}
