package ingest

import "time"

const videoRate = 90000 // Hz, of every video codec

// mapping is one moment in a publisher's wall clock and in an encoding's RTP
// time, as its sender report has them.
type mapping struct {
	known   bool
	at      time.Time
	rtpTime uint32
}

// time is the publisher's time of an RTP time.
func (m mapping) time(rtpTime, clockRate uint32) time.Time {
	return m.at.Add(time.Duration(int32(rtpTime-m.rtpTime)) * time.Second / time.Duration(clockRate))
}

// timeline is the RTP time that the layers of a scene share. In a publisher's
// packets each has its own beginning; what they have in common, their sender
// reports say, and until then the time of arrival.
type timeline struct {
	began time.Time // the box's, when the time was 0
	known bool
	epoch time.Time // the publisher's, when it was
}

// place is where an encoding is on the timeline.
type place struct {
	known  bool
	exact  bool   // by sender reports
	offset uint32 // from the encoding's RTP time
	last   uint32 // on the timeline
}

// adjustFrom is how far off an encoding's times must be to be moved again: in
// a report they are of some milliseconds.
const adjustFrom = videoRate / 20

// on is a frame's time on the timeline; it rises from frame to frame also
// where a report has moved the encoding.
func (p *place) on(t *timeline, rtpTime uint32, now time.Time) uint32 {
	if !p.known {
		p.known, p.offset = true, ticks(now.Sub(t.began))-rtpTime
		p.last = rtpTime + p.offset - 1
	}
	at := rtpTime + p.offset
	if back := int32(p.last - at); back >= 0 && back < videoRate {
		at = p.last + 1
	}
	p.last = at
	return at
}

// told takes a sender report.
func (p *place) told(t *timeline, m mapping) {
	if !p.known {
		return
	}
	if !t.known {
		t.known, t.epoch = true, m.at.Add(-duration(m.rtpTime+p.offset))
		p.exact = true
		return
	}
	offset := ticks(m.at.Sub(t.epoch)) - m.rtpTime
	if off := int32(offset - p.offset); !p.exact || off > adjustFrom || off < -adjustFrom {
		p.exact, p.offset = true, offset
	}
}

func ticks(d time.Duration) uint32 { return uint32(d.Microseconds() * (videoRate / 1000) / 1000) }

func duration(ticks uint32) time.Duration {
	return time.Duration(ticks) * time.Second / videoRate
}
