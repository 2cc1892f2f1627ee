package forward

import (
	"sync"
	"time"

	"edged/capture"
)

const (
	ringPackets = 4096 // history of a track, in packets: 14 s at 2.5 Mbit/s, 4.7 MB at most
	ringFrames  = 1024 // the same in frames
)

// ring is the history of one track: the packets of its newest frames. It owns
// their bytes. The source writes, the lanes copy out under the lock; a frame
// is referred to by its number, and a reference to a frame whose slots were
// reused reads nothing.
type ring struct {
	audio     bool   // every frame stands alone
	clockRate uint32 // Hz; 0: RTP time is taken as it comes

	mu       sync.RWMutex // held for a frame's copy at most
	packets  [][]byte     // payloads by packet number modulo ringPackets
	frames   [ringFrames]frame
	packet   uint64 // number of the next packet
	next     uint64 // number of the next frame; the first is 1
	keyframe uint64 // number of the newest keyframe, 0 if none
	bytes    int    // held
	shift    uint32 // added to the source's RTP time
	restart  bool   // the source began anew: its RTP time may have, too
	deaf     int    // > 0: the camera does not make a keyframe when asked
	rate     ringRate
	ranks    ranks
	layered  bool // it has temporal layers: the next may refer to what is discardable
}

// ringRate is what a track delivers while it does.
type ringRate struct {
	bits    float64   // a second, smoothed over some seconds; 0 before the first second is over
	bytes   int       // since second
	second  time.Time // when the current measurement began
	arrived time.Time // the newest frame
}

func (m *ringRate) add(bytes int, now time.Time) {
	if now.Sub(m.arrived) > 2*time.Second { // the track was away: a new measurement
		m.second, m.bytes = now, 0
	}
	if d := now.Sub(m.second); d >= time.Second {
		measured := float64(m.bytes) * 8 / d.Seconds()
		if m.bits == 0 {
			m.bits = measured
		}
		m.bits += (measured - m.bits) / 4
		m.second, m.bytes = now, 0
	}
	m.bytes += bytes
	m.arrived = now
}

// delivers is the track's rate in bits/s and when its newest frame came.
func (r *ring) delivers() (bits float64, newest time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rate.bits, r.rate.arrived
}

// deafFor is how many requests in a row a camera must answer in time before it
// is believed again: a keyframe may come by chance.
const deafFor = 2

// answer notes whether the camera made a keyframe in time when asked.
func (r *ring) answer(inTime bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if inTime {
		r.deaf = max(0, r.deaf-1)
	} else {
		r.deaf = deafFor
	}
}

// frame is the index entry of one frame.
type frame struct {
	number   uint64
	first    uint64 // number of its first packet
	count    int
	bytes    int   // payload bytes since the newest keyframe, this frame included
	size     int   // payload bytes
	rank     uint8 // how much depends on it: see rankOf
	free     bool  // nothing at all refers to it
	rtpTime  uint32
	keyframe bool
	captured time.Time // wall clock
	arrived  time.Time // handed in
}

func newRing(kind capture.Kind) *ring {
	return &ring{audio: kind == capture.Audio, packets: make([][]byte, ringPackets), next: 1}
}

// write copies a frame in. It reports false for a frame that is too large to
// be kept.
func (r *ring) write(f *capture.Frame, now time.Time) bool {
	if len(f.Payloads) == 0 || len(f.Payloads) > ringPackets/2 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joinTime(f.RTPTime, now)
	e := frame{number: r.next, first: r.packet, count: len(f.Payloads), rtpTime: f.RTPTime + r.shift, keyframe: f.Keyframe || r.audio, captured: f.Captured, arrived: now}
	if !e.keyframe && r.next > 1 {
		e.bytes = r.frames[(r.next-1)%ringFrames].bytes
	}
	r.layered = r.layered || f.Temporal > 0
	e.rank, e.free = rankOf(f), f.Discardable && !r.layered
	for _, p := range f.Payloads {
		slot := &r.packets[r.packet%ringPackets]
		if cap(*slot) < len(p) {
			r.bytes += roundUp(len(p)) - cap(*slot)
			*slot = make([]byte, 0, roundUp(len(p)))
		}
		*slot = append((*slot)[:0], p...)
		e.size += len(p)
		r.packet++
	}
	e.bytes += e.size
	r.rate.add(e.size, now)
	r.ranks.add(e)
	r.frames[r.next%ringFrames] = e
	if e.keyframe {
		r.keyframe = r.next
	}
	r.next++
	return true
}

// roundUp keeps a slot's buffer from being made anew for each slightly larger
// payload.
func roundUp(n int) int { return min((n+255)&^255, max(n, capture.MaxPayload)) }

// joinTime keeps the RTP time of the track going when its source began anew
// with another: viewers keep their SSRC, whose time must not jump (RFC 3550
// §5.1). A jump of less than a second ahead is the source's own.
func (r *ring) joinTime(rtpTime uint32, now time.Time) {
	if !r.restart {
		return
	}
	r.restart = false
	if r.next == 1 || r.clockRate == 0 {
		return
	}
	last := r.frames[(r.next-1)%ringFrames]
	due := last.rtpTime + uint32(max(0, now.Sub(last.arrived)).Seconds()*float64(r.clockRate))
	off, ahead := int32(rtpTime+r.shift-due), int32(rtpTime+r.shift-last.rtpTime)
	if off < -int32(r.clockRate) || off > int32(r.clockRate) || ahead <= 0 {
		r.shift = due - rtpTime
	}
}

// forget makes every frame so far unfit to start from: after a change of the
// source's parameters only a new keyframe will do.
func (r *ring) forget() {
	r.mu.Lock()
	r.keyframe, r.restart = 0, true
	r.mu.Unlock()
}

// frameLocked finds a frame whose packets are all still held.
func (r *ring) frameLocked(number uint64) (frame, bool) {
	e := r.frames[number%ringFrames]
	if number == 0 || e.number != number || r.packet-e.first > ringPackets {
		return frame{}, false
	}
	return e, true
}

// newestLocked is the number of the newest frame, 0 if none.
func (r *ring) newestLocked() uint64 { return r.next - 1 }

func (r *ring) payloadLocked(packet uint64) []byte { return r.packets[packet%ringPackets] }

// held is the memory of the payloads in bytes.
func (r *ring) held() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bytes
}
