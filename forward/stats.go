package forward

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Why frames are not sent to a viewer.
const (
	dropBehind   = "behind"    // the viewer skipped to a keyframe
	dropNarrow   = "narrow"    // left out: the viewer's path takes less
	dropSocket   = "socket"    // the kernel took only a part, or nothing
	dropTooLarge = "too_large" // larger than half the ring
)

// counters of the SFU; all may be used from any goroutine.
type counters struct {
	packets, bytes, nacks, rtx, fec, plis, ignored atomic.Uint64

	mu      sync.Mutex
	dropped map[string]uint64
	joins   map[string]uint64
	refused map[string]uint64
}

func (c *counters) drop(reason string, frames uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == nil {
		c.dropped = map[string]uint64{}
	}
	c.dropped[reason] += frames
}

// refuse counts a viewer that a bound kept out.
func (c *counters) refuse(bound string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]uint64{}
	}
	c.refused[bound]++
}

// join counts the result of a Join.
func (c *counters) join(camera string, err error) {
	result := "error"
	var codec *CodecError
	switch {
	case err == nil:
		result = "ok"
	case errors.As(err, &codec):
		result = "codec"
	case errors.Is(err, ErrOffer):
		result = "offer"
	case errors.Is(err, ErrFull):
		result = "full"
	case errors.Is(err, ErrOffline):
		result = "offline"
	case errors.Is(err, ErrGone):
		result = "gone"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joins == nil {
		c.joins = map[string]uint64{}
	}
	c.joins[camera+"\x00"+result]++
}

func (c *counters) value() Stats {
	s := Stats{
		Packets: c.packets.Load(), Bytes: c.bytes.Load(), NACKs: c.nacks.Load(), RTX: c.rtx.Load(), FEC: c.fec.Load(), PLIs: c.plis.Load(), Ignored: c.ignored.Load(),
		Dropped: map[string]uint64{}, Joins: map[string]uint64{}, Refused: map[string]uint64{},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.dropped {
		s.Dropped[k] = n
	}
	for k, n := range c.joins {
		s.Joins[k] = n
	}
	for k, n := range c.refused {
		s.Refused[k] = n
	}
	return s
}

// rateMeter measures bits/s over the last whole second.
type rateMeter struct {
	second int64 // Unix
	bytes  int
	last   int // bytes of the second before
}

func (m *rateMeter) add(n int) {
	m.roll(time.Now().Unix())
	m.bytes += n
}

func (m *rateMeter) roll(second int64) {
	if second == m.second {
		return
	}
	m.last = 0
	if second == m.second+1 {
		m.last = m.bytes
	}
	m.second, m.bytes = second, 0
}

func (m *rateMeter) bitsPerSecond(now time.Time) float64 {
	m.roll(now.Unix())
	return float64(m.last) * 8
}

// Stats of the SFU. Counters only rise.
type Stats struct {
	Packets     uint64            // sent, media only, what was sent again included
	Bytes       uint64            // of UDP payload, likewise
	NACKs       uint64            // packets asked for again
	RTX         uint64            // packets sent again
	FEC         uint64            // repair packets (FlexFEC), among those sent
	PLIs        uint64            // PLI and FIR received
	Ignored     uint64            // datagrams received that were nobody's, malformed, or too many
	Dropped     map[string]uint64 // frames not sent to a viewer, by reason: behind, narrow, socket, too_large
	Data        map[string]uint64 // messages sent on data channels, by channel: meta, events
	DataDropped map[string]uint64 // records not sent, by reason: thinned, behind
	DataCuts    uint64            // viewers that lost their data channels
	Joins       map[string]uint64 // by camera + "\x00" + result: ok, offer, codec, full, offline, gone, error
	Refused     map[string]uint64 // viewers kept out, by bound: viewers, cpu, memory, bitrate
	JoinSeconds Histogram         // offer taken → first keyframe sent
	FrameDelay  Histogram         // frame handed in → viewer's socket
	Streams     []StreamStats     // by id
}

// Histogram has counts a bucket: Counts[i] observations ≤ Bounds[i] and above
// Bounds[i-1]; the last count is of those above all bounds.
type Histogram struct {
	Bounds []float64 // seconds
	Counts []uint64
	Sum    float64 // seconds
}

// StreamStats is one camera's forwarding.
type StreamStats struct {
	ID       string
	Viewers  []ViewerStats
	Workers  []WorkerStats // over the last second; empty before anybody was served
	Ring     int           // bytes held in the rings
	Keyframe uint64        // keyframes asked of the source
}

// WorkerStats is what one of a stream's workers does.
type WorkerStats struct {
	Viewers int     // that it serves
	Packets float64 // a second
	Busy    float64 // share of its time that it spends on them, 0 to 1
}

// ViewerStats is one viewer, at one moment.
type ViewerStats struct {
	ID       string // not secret here: a short form
	Subject  string
	Since    time.Time
	State    string  // connecting, live, closed
	Path     string  // kind of the viewer's candidate and transport: host/udp, srflx/udp, prflx/tcp, relay/udp …
	Remote   string  // address of the viewer's candidate
	Codec    string  // of the video; empty: it gets none
	Sound    string  // codec of the sound; empty: it gets none
	Quality  Quality // as asked for
	Layer    int     // of the video that is sent, 0 is the best; -1: none yet
	Profile  string  // SRTP protection profile
	Packets  uint64
	Bytes    uint64        // of UDP payload
	Estimate float64       // bits/s that the viewer's path takes; 0: not measured
	Bitrate  float64       // bits/s, over the last whole second
	Loss     float64       // fraction lost, by the last receiver report
	Lost     uint64        // packets lost, by the receiver reports
	Jitter   time.Duration // by the receiver reports
	RTT      time.Duration // by LSR/DLSR (RFC 3550 §6.4.1)
	Score    float64       // of the path by the three before, 0 to 100; 100 before the first report
	Group    Group         // by the score, with hysteresis
	Worker   int           // index of the stream's worker that serves it
	NACKs    uint64        // packets asked for again
	RTX      uint64        // packets sent again
	FEC      uint64        // repair packets (FlexFEC), among those sent
	PLIs     uint64        // PLI and FIR received
	Queued   time.Duration // that the oldest frame has waited for the path (ICE-TCP)
	Skipped  uint64        // frames skipped because the viewer was behind
	Thinned  uint64        // frames left out because the path takes less
	Join     time.Duration // offer → first keyframe sent; 0 before
}
