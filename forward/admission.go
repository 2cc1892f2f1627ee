package forward

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

const (
	// A busy processor hurts nobody while frames are on time: the bound on it
	// holds when one frame in a hundred is later than this, three pictures'
	// time, which a player's buffer does not hide.
	lateLimit = 100 * time.Millisecond

	retryLeast = 5 * time.Second // a refused viewer is asked to wait for so long …
	retryMost  = time.Minute
	retryCrowd = 10               // … doubled where so many were refused lately, and so on
	crowdFades = 30 * time.Second // what lately is: a refusal counts for 1/e after it
)

// FullError says which bound keeps a viewer out. It is an ErrFull.
type FullError struct {
	Bound  string        // viewers, cpu, memory, bitrate
	Detail string        // with the figures, for people
	Retry  time.Duration // when to try again: longer the more viewers are refused, and never the same for two
}

func (e *FullError) Error() string { return ErrFull.Error() + ": " + e.Detail }

// Is makes it an ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// occupancy is what the box has to do when a viewer asks to be let in.
type occupancy struct {
	viewers int
	cpu     float64       // share of the processor in use over the last seconds
	late    time.Duration // 99 of 100 frames in that time were at the sockets within this
	memory  int64         // bytes available; negative: not known
	sending float64       // bits/s to all viewers
	wants   float64       // bits/s of the lowest layers of what the viewer asks for
}

// admits decides whether one more viewer can be served without harm to the
// others, or which bound is reached. It is pure.
func (c *Config) admits(o occupancy) *FullError {
	const mega = 1e6
	switch {
	case o.viewers >= c.MaxViewers:
		return &FullError{Bound: "viewers", Detail: fmt.Sprintf("%d viewers of at most %d (webrtc.max_viewers)", o.viewers, c.MaxViewers)}
	case c.MaxCPU > 0 && o.cpu*100 >= float64(c.MaxCPU) && o.late > lateLimit:
		return &FullError{Bound: "cpu", Detail: fmt.Sprintf("%.0f %% of the CPU in use and frames up to %v late, at most %d %% with frames on time (webrtc.max_cpu)", o.cpu*100, o.late, c.MaxCPU)}
	case c.MinMemory > 0 && o.memory >= 0 && o.memory < c.MinMemory:
		return &FullError{Bound: "memory", Detail: fmt.Sprintf("%.1f MiB of memory available, %.1f MiB are kept free (webrtc.min_memory)", mebi(o.memory), mebi(c.MinMemory))}
	case c.MaxBitrate > 0 && o.sending+o.wants > c.MaxBitrate:
		return &FullError{Bound: "bitrate", Detail: fmt.Sprintf("%.2f Mbit/s sent and %.2f Mbit/s more needed, of at most %.2f Mbit/s (webrtc.max_bitrate)", o.sending/mega, o.wants/mega, c.MaxBitrate/mega)}
	}
	return nil
}

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// crowd counts who was refused lately.
type crowd struct {
	n  float64
	at time.Time
}

// refuse counts one more and says how long it should wait. dice is from 0 to
// 1: it keeps those who were refused together from coming back together.
func (c *crowd) refuse(now time.Time, dice float64) time.Duration {
	c.n *= math.Exp(-max(0, now.Sub(c.at).Seconds()) / crowdFades.Seconds())
	wait := min(float64(retryMost), float64(retryLeast)*(1+c.n/retryCrowd))
	c.n, c.at = c.n+1, now
	return time.Duration(wait * (.75 + dice/2))
}

// first tells whether the one refused last was the first for a while.
func (c *crowd) first() bool { return c.n < 1.5 }

// admit counts the viewer in, or refuses it. It holds a place in group.
func (s *SFU) admit(v *Viewer) error {
	o := occupancy{memory: -1, wants: v.least()}
	if s.cfg.MinMemory > 0 {
		o.memory = s.memory()
	}
	o.cpu, o.late = s.load.value()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.streams[v.stream.id] != v.stream {
		return ErrGone // the box, or the camera, has ended meanwhile
	}
	o.viewers, o.sending = len(s.viewers), s.budget.inUse()
	if full := s.cfg.admits(o); full != nil {
		full.Retry = s.crowd.refuse(time.Now(), rand.Float64())
		s.counters.refuse(full.Bound)
		if s.crowd.first() {
			s.log.Warn("viewers are refused", "bound", full.Bound, "reason", full.Detail)
		}
		return full
	}
	v.admitted(s)
	return nil
}
