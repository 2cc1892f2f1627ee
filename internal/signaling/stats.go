package signaling

import (
	"maps"
	"sync"
	"time"

	"edged/forward"
)

// Stats is what signalling has done since the process started.
type Stats struct {
	Active    map[string]int    // connections by transport: websocket, http, whep, whip
	Handshake forward.Histogram // offer taken → answer made
	Messages  map[string]uint64 // by method + "\x00" + result; of HTTP: "whep.post", "whip.patch" and the like
}

// handshakeBounds are in seconds: a join takes about a millisecond, and
// seconds only where addresses are slow to gather.
var handshakeBounds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

type stats struct {
	mu       sync.Mutex // guards all
	counts   [14]uint64 // one more than handshakeBounds
	sum      float64
	messages map[string]uint64
}

func (s *stats) handshake(d time.Duration) {
	i := 0
	for i < len(handshakeBounds) && d.Seconds() > handshakeBounds[i] {
		i++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[i]++
	s.sum += d.Seconds()
}

// message counts an outcome. method is one of a fixed set: a label's values
// are never a stranger's choice.
func (s *stats) message(method string, f *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages == nil {
		s.messages = map[string]uint64{}
	}
	s.messages[method+"\x00"+result(f)]++
}

// Stats may be called from any goroutine.
func (s *Server) Stats() Stats {
	http, whep := s.views.count()
	_, whip := s.publishers.count()
	s.mu.Lock()
	ws := s.sessions
	s.mu.Unlock()
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	return Stats{
		Active:    map[string]int{"websocket": ws, "http": http, "whep": whep, "whip": whip},
		Handshake: forward.Histogram{Bounds: handshakeBounds, Counts: append([]uint64(nil), s.stats.counts[:]...), Sum: s.stats.sum},
		Messages:  maps.Clone(s.stats.messages),
	}
}
