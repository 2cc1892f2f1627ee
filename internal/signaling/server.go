// Package signaling brings viewers and the SFU together: JSON-RPC 2.0 over
// WebSocket ([Server.RPC]) and over plain HTTP ([Server.Signal]), both on one
// transport-free [Session], WHEP ([Server.WHEP]); and WHIP ([Server.WHIP]) for those who publish.
package signaling

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/internal/auth"
)

// Peer is what this package asks of a *forward.Viewer and of a
// *forward.Publisher.
type Peer interface {
	ID() string
	AddCandidate(candidate, ufrag string) error
	Restart(ctx context.Context, offer string) (answer string, err error)
	Close(reason string)
	Done() <-chan struct{}
	Reason() string
}

// Viewer is what this package asks of a *forward.Viewer.
type Viewer interface {
	Peer
	SetQuality(q forward.Quality)
}

// Join admits a viewer to a stream, as (*forward.SFU).Join does.
type Join func(ctx context.Context, stream *forward.Stream, o forward.ViewerOptions) (Viewer, string, error)

// JoinSFU is the Join of an SFU.
func JoinSFU(sfu *forward.SFU) Join {
	return func(ctx context.Context, stream *forward.Stream, o forward.ViewerOptions) (Viewer, string, error) {
		v, answer, err := sfu.Join(ctx, stream, o)
		if err != nil {
			return nil, "", err // not v: a nil pointer in an interface is no nil
		}
		return v, answer, nil
	}
}

// Publish takes a publisher for a camera, as (*box.Box).Publish does.
type Publish func(ctx context.Context, camera string, o forward.PublisherOptions) (Peer, string, error)

// PublishTo is the Publish of a box.
func PublishTo(publish func(context.Context, string, forward.PublisherOptions) (*forward.Publisher, string, error)) Publish {
	return func(ctx context.Context, camera string, o forward.PublisherOptions) (Peer, string, error) {
		p, answer, err := publish(ctx, camera, o)
		if err != nil {
			return nil, "", err // not p: as above
		}
		return p, answer, nil
	}
}

// Options are what a Server needs. All but Publish, ICE and Log are required.
type Options struct {
	Cameras Cameras
	Join    Join
	Publish Publish // nil: no camera takes a publisher
	Gate    *auth.Gate
	Box     BoxInfo
	ICE     func(subject, host string) []forward.ICEServer // host: the name or address that the client reached the box by
	Log     *slog.Logger
}

// BoxInfo is what session.hello tells of the box.
type BoxInfo struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Version string `json:"version"`
}

// Timing and bounds of the protocol; tests shorten the first two.
const (
	helloWait    = 30 * time.Second
	heartbeat    = 15 * time.Second
	expiryNotice = time.Minute      // session.expiring comes this long before
	grace        = 15 * time.Second // an unplugged camera's viewers and newcomers wait this long for it
	maxMessage   = 64 << 10         // bytes of a message, an offer, a fragment
	maxSessions  = 512
	maxViews     = 64 // of one session
)

// Server has what all sessions share. It starts no goroutine of its own: each
// handler owns those of its connection, and returns when its request's
// context is done and they have ended.
type Server struct {
	o         Options
	log       *slog.Logger
	throttle  auth.Throttle
	stats     stats
	helloWait time.Duration
	heartbeat time.Duration

	publishers registry // WHIP's

	views registry // WHEP's, and those of /api/v1/signal; a WebSocket session keeps its own

	mu       sync.Mutex // guards sessions
	sessions int
}

// New makes a Server.
func New(o Options) (*Server, error) {
	if o.Cameras == nil || o.Join == nil || o.Gate == nil {
		return nil, errors.New("signaling: cameras, join and gate are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ICE == nil {
		o.ICE = func(string, string) []forward.ICEServer { return nil }
	}
	if o.Publish == nil {
		o.Publish = func(context.Context, string, forward.PublisherOptions) (Peer, string, error) {
			return nil, "", forward.ErrNoIngest
		}
	}
	return &Server{o: o, log: o.Log, helloWait: helloWait, heartbeat: heartbeat}, nil
}

// Authorize checks the bearer token of a request for a right on a camera
// (empty: on the box). Where it does not suffice the request has been
// answered with 401, 403 or 429 and ok is false.
func (s *Server) Authorize(w http.ResponseWriter, r *http.Request, right auth.Right, camera string) (g auth.Grant, ok bool) {
	g, f := s.admit(Bearer(r), RemoteAddr(r))
	if f == nil && !g.Allows(right, camera) {
		f = failf(forbidden, "the token does not permit %s here", right)
	}
	if f != nil {
		problem(w, f)
		return auth.Grant{}, false
	}
	return g, true
}

// admit turns a token into a grant; too many bad ones from one address are
// told to wait.
func (s *Server) admit(token string, remote netip.Addr) (auth.Grant, *failure) {
	now := time.Now()
	g, err := s.o.Gate.Grant(token, now)
	if err == nil {
		return g, nil
	}
	if wait := s.throttle.Refuse(remote, now); wait > 0 {
		return auth.Grant{}, &failure{limited, "too many refused tokens from this address", wait}
	}
	return auth.Grant{}, failureOf(err)
}

// join admits a viewer to a camera, if the grant permits.
func (s *Server) join(ctx context.Context, g auth.Grant, camera, offer string) (v *view, answer string, f *failure) {
	began := time.Now()
	if !g.Allows(auth.View, camera) {
		return nil, "", failf(forbidden, "the token does not permit to view this camera")
	}
	state, stream, ok := s.o.Cameras.Camera(camera)
	if !ok {
		return nil, "", failf(unknownCamera, "no camera %.40q", camera)
	}
	if stream == nil || lost(state, began) {
		return nil, "", offlineFailure(state)
	}
	viewer, answer, err := s.o.Join(ctx, stream, forward.ViewerOptions{Offer: offer, Subject: g.Subject})
	if err != nil {
		f := failureOf(err)
		if f.kind == internal {
			s.log.Warn("join", "camera", camera, "err", err)
		}
		return nil, "", f
	}
	s.stats.handshake(time.Since(began))
	v = newView(viewer, camera, offer, g)
	v.viewer = viewer
	return v, answer, nil
}

// lost tells that a camera has been away for longer than its grace, and that
// nothing is shown in its place.
func lost(st capture.State, now time.Time) bool {
	away := st.Phase == capture.Offline || st.Phase == capture.Unmet || st.Phase == capture.Waiting
	return away && now.Sub(st.LastFrame) > grace && !st.Placeholder
}

func offlineFailure(st capture.State) *failure {
	detail := "camera offline"
	if st.Code != "" {
		detail += ": " + string(st.Code)
	}
	if st.Reason != "" {
		detail += ": " + st.Reason
	}
	return &failure{offline, detail, retryOffline}
}

// cameras lists the cameras that a grant permits to view.
func (s *Server) cameras(g auth.Grant) []Camera {
	list := []Camera{}
	for _, id := range s.o.Cameras.IDs() {
		if !g.Allows(auth.View, id) {
			continue
		}
		if st, stream, ok := s.o.Cameras.Camera(id); ok {
			list = append(list, Describe(st, stream))
		}
	}
	return list
}

// List lists the cameras that a grant permits to view, in order.
func (s *Server) List(g auth.Grant) []Camera { return s.cameras(g) }

// ICEServers lists the servers for a viewer, never nil.
func (s *Server) ICEServers(subject, host string) []forward.ICEServer {
	return append([]forward.ICEServer{}, s.o.ICE(subject, host)...)
}

// enter counts a WebSocket session in; false where there are too many.
func (s *Server) enter(delta int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions+delta > maxSessions {
		return false
	}
	s.sessions += delta
	return true
}

// Bearer is the token of a request's Authorization header (RFC 6750 §2.1);
// empty where there is none.
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// RemoteAddr is the address that a request came from; invalid where unknown.
func RemoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Host is the name or address, without port, that a client reached the box by.
func Host(r *http.Request) string {
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		return h
	}
	return strings.Trim(r.Host, "[]")
}
