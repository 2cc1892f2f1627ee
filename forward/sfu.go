// Package forward is the SFU: it takes each camera's frames once and forwards
// them to WebRTC viewers.
//
// A frame's way: Stream.Frame copies it into the track's ring; the stream's
// workers (worker.serve) each visit their share of the viewers; Viewer.pump
// lets each lane pick the next frame, write its headers, protect it and hand
// it to egress as one segmented send. What comes back arrives in
// Viewer.feedback.
package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/forward/data"
	"edged/forward/protect"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
)

// SFU forwards streams to viewers over one UDP port and one TCP port.
type SFU struct {
	cfg         Config
	cert        tls.Certificate
	fingerprint string
	log         *slog.Logger
	pionLog     *pionLog
	counters    counters
	data        data.Counters
	joinTime    *histogram
	delay       *histogram
	budget      budget
	cpu         func(time.Time) processor
	load        boxLoad
	memory      func() int64 // bytes available; negative: not known
	ready       chan struct{}

	// set by Run before ready is closed
	udp    *net.UDPConn
	tcp    net.Listener
	bound  netip.AddrPort
	mux    *mux
	reader sync.WaitGroup // of the media socket
	tcpMux *ice.TCPMuxDefault
	egress *egress
	group  sync.WaitGroup // streams and viewers
	shared interfaces

	profiles []dtls.SRTPProtectionProfile // in the order of preference

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	streams map[string]*Stream
	viewers map[*Viewer]struct{}
	crowd   crowd // that was refused
}

// New checks cfg and allocates; it opens nothing. cert is the DTLS
// certificate of the box (ECDSA P-256), so that its fingerprint is stable.
func New(cfg Config, cert tls.Certificate, log *slog.Logger) (*SFU, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("webrtc: no DTLS certificate")
	}
	if cfg.MaxViewers < 1 {
		return nil, fmt.Errorf("webrtc.max_viewers: %d is below 1", cfg.MaxViewers)
	}
	h := newHost(os.DirFS("/"))
	return &SFU{
		budget: budget{most: cfg.MaxBitrate}, cpu: h.cpu, memory: h.memory,
		cfg: cfg, cert: cert, log: log, pionLog: &pionLog{log},
		fingerprint: fingerprint(cert.Certificate[0]),
		joinTime:    newHistogram(.025, .05, .1, .15, .2, .3, .5, .75, 1, 2, 5, 10),
		delay:       newHistogram(.0005, .001, .002, .005, .01, .02, .05, .1, .25, 1),
		ready:       make(chan struct{}),
		streams:     map[string]*Stream{},
		viewers:     map[*Viewer]struct{}{},
	}, nil
}

// Run opens the sockets, serves until ctx is done, ends every viewer and
// returns when all goroutines have ended. It is called once.
func (s *SFU) Run(ctx context.Context) error {
	defer s.closeSockets()
	if err := s.listen(); err != nil {
		return err
	}
	var err error
	if s.profiles, err = dtlsProfiles(); err != nil {
		return fmt.Errorf("SRTP: %w", err)
	}
	costs, err := protect.Summary()
	if err != nil {
		return fmt.Errorf("SRTP: %w", err)
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	s.mu.Lock()
	s.ctx = inner
	for _, st := range s.streams {
		s.startLocked(st)
	}
	s.mu.Unlock()
	if s.cfg.MaxCPU > 0 {
		s.group.Go(func() { s.watch(inner, s.cpu) })
	}
	close(s.ready)
	udp, tcp := s.Ports()
	s.log.Info("forwarding", "udp", udp, "tcp", tcp, "gso", s.egress.gso.Load(), "addresses", s.hostAddrs(), "srtp", costs)
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	cancel(errors.New("the box stops"))
	s.group.Wait()
	return nil
}

func (s *SFU) closeSockets() {
	if s.tcpMux != nil {
		_ = s.tcpMux.Close()
	}
	if s.udp != nil {
		_ = s.udp.Close()
	}
	s.reader.Wait()
}

// Ready is closed when the sockets are open.
func (s *SFU) Ready() <-chan struct{} { return s.ready }

// Ports gives the UDP and TCP port; valid once Ready. TCP is 0 where off.
func (s *SFU) Ports() (udp, tcp uint16) {
	if s.tcp != nil {
		tcp = s.tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	return s.bound.Port(), tcp
}

// hostAddrs lists the box's own addresses that viewers may use now.
func (s *SFU) hostAddrs() []netip.Addr {
	_, addrs, err := s.shared.known(s.bound.Addr())
	if err != nil {
		s.log.Warn("no host candidates", "error", err)
	}
	return addrs
}

// Addresses lists the host addresses that are offered to viewers now (usable
// interfaces and public IPs), for the TURN server's peer policy and the page.
// Valid once Ready.
func (s *SFU) Addresses() []netip.Addr { return slices.Concat(s.hostAddrs(), s.cfg.PublicIPs) }

// AddStream makes the stream of a camera. keyframe is called, debounced and
// from any goroutine, when viewers need a keyframe. The stream outlives the
// camera's device; it ends with RemoveStream, or when another takes its id.
func (s *SFU) AddStream(id string, keyframe func(layer int)) *Stream {
	s.RemoveStream(id, "the camera was replaced")
	st := newStream(s, id, keyframe)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[id] = st
	if s.ctx != nil {
		s.startLocked(st)
	}
	return st
}

func (s *SFU) startLocked(st *Stream) {
	var ctx context.Context
	ctx, st.cancel = context.WithCancel(s.ctx)
	s.group.Go(func() { st.run(ctx) })
}

// RemoveStream ends a stream and its viewers, who are told reason. It returns
// when they have left, at most two seconds later.
func (s *SFU) RemoveStream(id, reason string) {
	s.mu.Lock()
	st := s.streams[id]
	delete(s.streams, id) // from here on nobody is admitted
	s.mu.Unlock()
	if st == nil {
		return
	}
	st.mu.Lock()
	st.removed = true
	st.mu.Unlock()
	viewers := s.viewersOf(st)
	for _, v := range viewers {
		v.Close(reason)
	}
	for _, v := range viewers {
		<-v.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.cancel != nil {
		st.cancel()
	}
}

// viewersOf lists the viewers of a stream, connecting ones too.
func (s *SFU) viewersOf(st *Stream) []*Viewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Viewer
	for v := range s.viewers {
		if v.stream == st {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Viewer) int { return a.since.Compare(b.since) })
	return out
}

// Join admits a viewer: it answers the offer and returns at once; ICE, DTLS
// and media go on in goroutines that the SFU owns. The answer carries all of
// the box's candidates. Errors: ErrOffer, *CodecError, *FullError, ErrOffline,
// ErrGone.
func (s *SFU) Join(ctx context.Context, st *Stream, o ViewerOptions) (*Viewer, string, error) {
	v, text, err := s.join(ctx, st, o)
	s.counters.join(st.id, err)
	return v, text, err
}

func (s *SFU) join(ctx context.Context, st *Stream, o ViewerOptions) (*Viewer, string, error) {
	parsed, err := parseOffer(o.Offer)
	if err != nil {
		return nil, "", err
	}
	tracks, rings, err := st.described()
	if err != nil {
		return nil, "", err
	}
	chosen, err := negotiate(tracks, parsed)
	if err != nil {
		return nil, "", err
	}
	v := s.newViewer(st, o, parsed, chosen)
	for _, c := range chosen {
		layers := make([]*ring, len(c.tracks))
		for i, t := range c.tracks {
			layers[i] = rings[t]
		}
		v.lanes = append(v.lanes, newLane(layers, c.clockRate, c.format, v.since))
	}
	v.measure()
	v.layOut()
	if err := s.admit(v); err != nil {
		return nil, "", err
	}
	text, err := v.open(ctx)
	if err != nil {
		v.end(err)
		s.group.Done()
		return nil, "", err
	}
	go func() {
		defer s.group.Done()
		v.run(v.ctx)
	}()
	return v, text, nil
}

// admitted counts the viewer in; s.mu is held.
func (v *Viewer) admitted(s *SFU) {
	v.ctx, v.cancel = context.WithCancelCause(s.ctx)
	v.bookLowest()
	v.share = &muxShare{mux: s.mux, owner: &v.link}
	s.viewers[v] = struct{}{}
	s.group.Add(1)
}

func (s *SFU) forget(v *Viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.viewers, v)
}

func (s *SFU) newViewer(st *Stream, o ViewerOptions, parsed *offer, chosen []selection) *Viewer {
	v := &Viewer{link: s.newLink(o.Subject, o.Log, parsed), stream: st, chosen: chosen, queue: newQueue(), quality: Auto}
	v.answer, v.takeRTCP = v.answerWith, v.feedback
	v.queue.drained, v.queue.skip = st.signal, v.skip
	v.log = v.log.With("camera", st.id, "viewer", v.id[:6])
	return v
}

// Stats is what the whole SFU has done since it started.
func (s *SFU) Stats() Stats {
	out := s.counters.value()
	out.dataStats(&s.data)
	out.JoinSeconds, out.FrameDelay = s.joinTime.value(), s.delay.value()
	s.mu.Lock()
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()
	slices.SortFunc(streams, func(a, b *Stream) int { return strings.Compare(a.id, b.id) })
	for _, st := range streams {
		out.Streams = append(out.Streams, st.Stats())
	}
	return out
}
