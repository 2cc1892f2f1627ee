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
	audio bool // every frame stands alone

	mu       sync.RWMutex // held for a frame's copy at most
	packets  [][]byte     // payloads by packet number modulo ringPackets
	frames   [ringFrames]frame
	packet   uint64 // number of the next packet
	next     uint64 // number of the next frame; the first is 1
	keyframe uint64 // number of the newest keyframe, 0 if none
	bytes    int    // held
}

// frame is the index entry of one frame.
type frame struct {
	number   uint64
	first    uint64 // number of its first packet
	count    int
	bytes    int // payload bytes since the newest keyframe, this frame included
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
	e := frame{number: r.next, first: r.packet, count: len(f.Payloads), rtpTime: f.RTPTime, keyframe: f.Keyframe || r.audio, captured: f.Captured, arrived: now}
	if !e.keyframe && r.next > 1 {
		e.bytes = r.frames[(r.next-1)%ringFrames].bytes
	}
	for _, p := range f.Payloads {
		slot := &r.packets[r.packet%ringPackets]
		if cap(*slot) < len(p) {
			r.bytes += roundUp(len(p)) - cap(*slot)
			*slot = make([]byte, 0, roundUp(len(p)))
		}
		*slot = append((*slot)[:0], p...)
		e.bytes += len(p)
		r.packet++
	}
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

// forget makes every frame so far unfit to start from: after a change of the
// source's parameters only a new keyframe will do.
func (r *ring) forget() {
	r.mu.Lock()
	r.keyframe = 0
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
