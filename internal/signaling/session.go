package signaling

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"edged/internal/auth"
)

// SessionOptions say how a session reaches its client.
type SessionOptions struct {
	// Send takes a message to the client. It never blocks and keeps msg; false
	// means that the client does not keep up, which ends the session.
	Send   func(msg []byte) bool
	Remote netip.Addr // of the client, invalid where unknown
	Host   string     // that the client reached the box by
}

// Session is one client's conversation, whatever carries it. It is one loop:
// what other goroutines have to say is posted to it, so that an answer is
// always sent before what it makes possible.
type Session struct {
	srv    *Server
	o      SessionOptions
	id     string
	limit  *rate.Limiter
	single bool   // one message over plain HTTP: no notifications, views outlive it
	owner  string // of those views

	// Owned by the goroutine of Run.
	greeted bool
	grant   auth.Grant
	version uint64            // of the state as told to the client
	known   map[string]Camera // as told to the client
	views   map[string]*view
	expiry  <-chan time.Time // when to say that the session expires, then when it does
	slow    bool             // Send has said no
	wg      sync.WaitGroup   // watchers of views

	mu    sync.Mutex // guards posts
	posts []func()
	wake  chan struct{}
	dirty atomic.Bool // cameras may have changed
}

// End is why a session ended, where the session itself has a reason to give.
type End struct {
	Code   int // WebSocket close code
	Reason string
}

func (e *End) Error() string { return e.Reason }

// The ends of a session (RFC 6455 §7.4: 4000 to 4999 are an application's own).
var (
	endHello   = &End{4408, "no session.hello in time"}
	endExpired = &End{4401, "token expired"}
	endSlow    = &End{4409, "reads too slowly"}
	endStop    = &End{1001, "the box stops"}
)

// NewSession makes a session; it does nothing before Run.
func (s *Server) NewSession(o SessionOptions) *Session {
	return &Session{
		srv: s, o: o, id: newID(),
		limit: rate.NewLimiter(100, 400), // calls a second: a page makes a few
		known: map[string]Camera{}, views: map[string]*view{},
		wake: make(chan struct{}, 1),
	}
}

// Run serves the messages of in until it is closed (then it returns nil), ctx
// is done, or the session has to end (then it returns an *End). It closes
// the session's views and returns when all its goroutines have ended.
func (s *Session) Run(ctx context.Context, in <-chan []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	unsubscribe := s.srv.o.Cameras.Subscribe(s.changed)
	defer s.wg.Wait()
	defer cancel()
	defer s.closeViews()
	defer unsubscribe()

	hello := time.NewTimer(s.srv.helloWait)
	defer hello.Stop()
	for {
		if s.slow {
			return endSlow
		}
		select {
		case <-ctx.Done():
			return endStop
		case msg, ok := <-in:
			if !ok {
				return nil
			}
			s.send(s.receive(ctx, msg))
		case <-s.wake:
			s.takePosts()
			if s.dirty.Swap(false) {
				s.tellChanges()
			}
		case <-hello.C:
			if !s.greeted {
				return endHello
			}
		case <-s.expiry:
			if time.Until(s.grant.Expires) <= 0 {
				return endExpired
			}
			s.send(notification("session.expiring", map[string]any{
				"expires": s.grant.Expires.UTC(), "in": max(0, time.Until(s.grant.Expires).Seconds()),
			}))
			s.expiry = time.After(time.Until(s.grant.Expires))
		}
	}
}

func (s *Session) send(msg []byte) {
	if msg != nil && !s.slow && !s.o.Send(msg) {
		s.slow = true
	}
}

// post has the loop run f, after what it does now. It may be called from any
// goroutine and never blocks.
func (s *Session) post(f func()) {
	s.mu.Lock()
	s.posts = append(s.posts, f)
	s.mu.Unlock()
	s.rouse()
}

// changed has the loop look at the cameras, once for any number of changes.
func (s *Session) changed() {
	s.dirty.Store(true)
	s.rouse()
}

func (s *Session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Session) takePosts() {
	s.mu.Lock()
	posts := s.posts
	s.posts = nil
	s.mu.Unlock()
	for _, f := range posts {
		f()
	}
}

// receive handles one message and gives the answer; nil where none is due.
func (s *Session) receive(ctx context.Context, msg []byte) []byte {
	calls, batch := parseCalls(msg)
	var answers []response
	for _, c := range calls {
		res, f := s.perform(ctx, c)
		if c.id != nil {
			answers = append(answers, respond(c.id, res, f))
		}
	}
	switch {
	case len(answers) == 0:
		return nil
	case batch:
		return marshal(answers)
	}
	return marshal(answers[0])
}

// perform does one call and counts it.
func (s *Session) perform(ctx context.Context, c call) (res any, f *failure) {
	m, known := methods[c.method]
	name := c.method
	if !known {
		name = "unknown"
	}
	switch {
	case !s.limit.Allow():
		f = &failure{limited, "too many calls", time.Second}
	case c.fault != nil:
		f = c.fault
	case !known:
		f = failf(badMethod, "no method %.40q", c.method)
	case m.greeted && !s.greeted:
		f = failf(unauthorized, "session.hello comes first")
	default:
		var err error
		if res, err = m.do(s, ctx, c.params); err != nil {
			f = failureOf(err)
		}
	}
	s.srv.stats.message(name, f)
	return res, f
}

// begin takes a grant into force.
func (s *Session) begin(g auth.Grant) {
	s.greeted, s.grant, s.expiry = true, g, nil
	for _, v := range s.views {
		v.extend(g)
	}
	if !g.Expires.IsZero() && !s.single {
		s.expiry = time.After(max(0, time.Until(g.Expires)-expiryNotice))
	}
}

// snapshot lists the cameras and takes them as told.
func (s *Session) snapshot() []Camera {
	list := s.srv.cameras(s.grant)
	clear(s.known)
	for _, c := range list {
		s.known[c.ID] = c
	}
	return list
}

// tellChanges notifies of each camera that differs from what the client was
// told last; the version rises by one with each.
func (s *Session) tellChanges() {
	if !s.greeted {
		return
	}
	list := s.srv.cameras(s.grant)
	for _, c := range list {
		if old, ok := s.known[c.ID]; ok && sameState(old, c) {
			continue
		}
		s.known[c.ID] = c
		s.version++
		s.send(notification("camera.changed", map[string]any{"state_version": s.version, "camera": c}))
	}
	for id := range s.known {
		if slices.ContainsFunc(list, func(c Camera) bool { return c.ID == id }) {
			continue
		}
		delete(s.known, id)
		s.version++
		s.send(notification("camera.changed", map[string]any{
			"state_version": s.version, "camera": map[string]any{"id": id}, "removed": true,
		}))
	}
}

// hold keeps a view for as long as the session lives, and tells the client
// when it ends by itself.
func (s *Session) hold(ctx context.Context, v *view) {
	s.views[v.ID()] = v
	s.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-v.Done():
			s.post(func() { s.viewEnded(v) })
		}
	})
}

func (s *Session) viewEnded(v *view) {
	if s.views[v.ID()] != v {
		return // closed by the client, who knows
	}
	s.forget(v)
	s.send(notification("view.closed", map[string]any{"view": v.ID(), "camera": v.camera, "reason": v.Reason()}))
}

func (s *Session) forget(v *view) {
	v.release()
	delete(s.views, v.ID())
}

func (s *Session) closeViews() {
	for _, v := range s.views {
		s.forget(v)
		v.Close("session ended")
	}
}

// candidateInit is an RTCIceCandidateInit of the WebRTC API, or only its text.
type candidateInit struct {
	Candidate string  `json:"candidate"`
	Mid       *string `json:"sdpMid,omitempty"`
	Line      *int    `json:"sdpMLineIndex,omitempty"`
	Ufrag     string  `json:"usernameFragment,omitempty"`
}

// UnmarshalJSON takes an object, a text, or null for the end of candidates.
func (c *candidateInit) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &c.Candidate)
	}
	type plain candidateInit
	return json.Unmarshal(b, (*plain)(c))
}
