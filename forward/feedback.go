package forward

import (
	"encoding/binary"
	"time"

	"edged/forward/bwe"

	"github.com/pion/rtcp"
)

const (
	resendRate  = 500 // packets a second that a viewer may have sent again, besides
	resendShare = 4   // one in this many of what was sent
	resendBurst = 600
)

// tokens is a token bucket of packets.
type tokens struct {
	left    float64
	filled  time.Time
	packets uint64 // sent when filled last
}

// take takes one token. It fills with time and with what was sent.
func (t *tokens) take(now time.Time, packets uint64) bool {
	if t.filled.IsZero() {
		t.left, t.packets = resendBurst, packets
	} else {
		t.left += now.Sub(t.filled).Seconds()*resendRate + float64(packets-t.packets)/resendShare
	}
	t.left, t.filled, t.packets = min(t.left, resendBurst), now, packets
	if t.left < 1 {
		return false
	}
	t.left--
	return true
}

// feedback handles one compound RTCP packet of the viewer (RFC 3550 §6,
// RFC 4585, RFC 5104). It does not allocate, and does not retain the packet.
// Only packets that are of use are parsed; what cannot be parsed is dropped, and
// what follows it in the compound.
func (v *Viewer) feedback(compound []byte, now time.Time) {
	for {
		p, rest, ok := nextRTCP(compound)
		if !ok {
			return
		}
		v.feedbackPacket(p, now)
		compound = rest
	}
}

// feedbackPacket handles one packet of a compound.
func (v *Viewer) feedbackPacket(p []byte, now time.Time) {
	kind, format := rtcp.PacketType(p[1]), p[0]&0x1f
	if kind == rtcp.TypeTransportSpecificFeedback && format == rtcp.FormatTCC {
		v.measured(p, now) // the estimator takes it whole, with its padding
		return
	}
	if p = unpadded(p); p == nil {
		return
	}
	var reports [reportsMost]rtcp.ReceptionReport
	ssrc, about := mediaSSRC(p)
	switch {
	case kind == rtcp.TypeReceiverReport:
		v.reception(receptionReports(p, rtcpHeader, &reports), now)
	case kind == rtcp.TypeSenderReport:
		v.reception(receptionReports(p, rtcpHeader+senderInfo, &reports), now)
	case !about:
	case kind == rtcp.TypeTransportSpecificFeedback && format == rtcp.FormatTLN:
		var pairs [nackPairsMost]rtcp.NackPair
		v.nack(ssrc, nackPairs(p, &pairs), now)
	case kind == rtcp.TypePayloadSpecificFeedback && format == rtcp.FormatPLI:
		v.wantKeyframe(ssrc)
	case kind == rtcp.TypePayloadSpecificFeedback && format == rtcp.FormatFIR:
		for p = p[feedbackHead:]; len(p) >= 8; p = p[8:] { // RFC 5104 §4.3.1.1
			v.wantKeyframe(binary.BigEndian.Uint32(p))
		}
	}
}

// wantKeyframe is where a viewer's PLI or FIR arrives.
func (v *Viewer) wantKeyframe(ssrc uint32) {
	v.mu.Lock()
	v.counts.PLIs++
	l := v.laneLocked(ssrc)
	var r *ring
	if l != nil {
		r = l.ring
	}
	v.mu.Unlock()
	v.sfu.counters.plis.Add(1)
	if r != nil {
		v.stream.wantKeyframe(r)
	}
}

// nack sends again what the viewer lacks (RFC 4585 §6.2.1), within bounds: a
// viewer that asks for everything gets little more than its share.
func (v *Viewer) nack(ssrc uint32, pairs []rtcp.NackPair, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.laneLocked(ssrc)
	if l == nil || !l.nacks {
		return
	}
	remote := v.remote.Load()
	if remote == nil && !v.queue.room(now) {
		return
	}
	gap := min(max(resendGap, v.counts.RTT/2), resendGapMax)
	v.at, v.kind = now, bwe.Media
	b := batches.Get().(*batch)
	b.hasty = true // the reader of the media socket does not wait for room
	defer b.release()
	v.begin(b)
	spent := false
	rate, _ := v.paceRate(l, remote, now)
	for _, pair := range pairs {
		if spent {
			break // a viewer that asks for everything must not hold mu for long
		}
		pair.Range(func(seq uint16) bool {
			v.counts.NACKs++
			v.sfu.counters.nacks.Add(1)
			l.losses.missing(seq)
			p := packet{l.ssrc, seq}
			if r := v.repair.of(p); r.packet == p && now.UnixNano()-r.at < int64(gap) {
				return true
			}
			if rate > 0 && l.past(seq) {
				return true
			}
			spent = !v.restore(l, seq, b, now, rate)
			return !spent
		})
	}
	v.sendAgain(remote, b)
}

func (v *Viewer) laneLocked(ssrc uint32) *lane {
	for _, l := range v.lanes {
		if l.ssrc == ssrc {
			return l
		}
	}
	return nil
}

// reception takes the reports on our lanes (RFC 3550 §6.4.1).
func (v *Viewer) reception(reports []rtcp.ReceptionReport, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range reports {
		l := v.laneLocked(r.SSRC)
		if l == nil || l != v.leading() {
			continue
		}
		v.counts.Loss = float64(r.FractionLost) / 256
		v.counts.Lost = uint64(r.TotalLost & 0x7fffff)
		v.counts.Jitter = time.Duration(r.Jitter) * time.Second / time.Duration(l.clockRate)
		// 16.16 fixed point seconds, modulo 2^32
		rtt := uint32(ntp(now)>>16) - r.LastSenderReport - r.Delay
		if d := time.Duration(rtt) * time.Second >> 16; d < time.Minute && r.LastSenderReport != 0 {
			v.counts.RTT = d
		}
		v.planRepairs(l)
		v.grade.take(v.counts.Loss, v.counts.RTT, v.counts.Jitter)
		if v.bandwidth != nil && r.LastSenderReport != 0 {
			v.bandwidth.Reception(now, v.counts.Loss, v.counts.RTT)
		}
	}
}

// ntp is the 64-bit timestamp of RFC 5905 §6.
func ntp(t time.Time) uint64 {
	const toUnix = 2208988800
	return uint64(t.Unix()+toUnix)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
