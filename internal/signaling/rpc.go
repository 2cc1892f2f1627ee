package signaling

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	queueLen     = 128              // messages waiting for a slow reader
	writeTimeout = 10 * time.Second // of one message
	closeTimeout = time.Second      // for the peer's half of the closing handshake
)

// OriginAllowed tells whether a browser's page may use the box: pages of the
// box itself may, those of the listed origins ("*" for all), and what is no
// browser (no Origin header).
func OriginAllowed(r *http.Request, origins []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(origins, "*") {
		return true
	}
	if slices.ContainsFunc(origins, func(o string) bool { return strings.EqualFold(strings.TrimSuffix(o, "/"), origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// RPC serves JSON-RPC 2.0 over a WebSocket, a message each way a text frame.
// It returns when the session and its goroutines have ended, which they do
// soon after the request's context is done.
func (s *Server) RPC(w http.ResponseWriter, r *http.Request, origins []string) {
	switch {
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		Problem(w, http.StatusUpgradeRequired, "this is a WebSocket; POST /api/v1/signal takes the same methods", nil)
		return
	case !OriginAllowed(r, origins):
		Problem(w, http.StatusForbidden, "origin not in http.origins", nil)
		return
	case !s.enter(1):
		w.Header().Set("Retry-After", "5")
		Problem(w, http.StatusServiceUnavailable, "too many sessions", nil)
		return
	}
	defer s.enter(-1)
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the origin was checked above
	if err != nil {
		return // answered by Accept
	}
	c.SetReadLimit(maxMessage)
	socket{c: c, heartbeat: s.heartbeat}.serve(r.Context(), func(ctx context.Context, in <-chan []byte, send func([]byte) bool) error {
		session := s.NewSession(SessionOptions{Send: send, Remote: RemoteAddr(r), Host: Host(r)})
		log := s.log.With("session", session.id[:8], "remote", r.RemoteAddr)
		log.Debug("session opened")
		err := session.Run(ctx, in)
		log.Debug("session ended", "reason", reasonOf(err))
		return err
	})
}

func reasonOf(err error) string {
	if err == nil {
		return "left by the client"
	}
	return err.Error()
}

// socket carries a session over a WebSocket with three goroutines: a reader,
// a writer and a pinger. The session's own loop runs in the caller's.
type socket struct {
	c         *websocket.Conn
	heartbeat time.Duration
}

func (k socket) serve(ctx context.Context, run func(ctx context.Context, in <-chan []byte, send func([]byte) bool) error) {
	// The connection outlives ctx by one closing handshake: cancelling a read
	// or a write of it would cut it without a word.
	conn, cut := context.WithCancel(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan []byte)
	out := make(chan []byte, queueLen)
	var wg sync.WaitGroup
	wg.Go(func() { defer close(in); k.read(ctx, conn, in) })
	wg.Go(func() { k.write(ctx, conn, out); cancel() })
	wg.Go(func() { k.ping(ctx, conn); cancel() })

	err := run(ctx, in, func(msg []byte) bool {
		select {
		case out <- msg:
			return true
		default:
			return false
		}
	})
	end := &End{int(websocket.StatusNormalClosure), ""}
	errors.As(err, &end)
	cancel()
	k.close(end, cut)
	wg.Wait()
}

// close says goodbye; a peer that does not answer is cut after a second.
func (k socket) close(end *End, cut func()) {
	timer := time.AfterFunc(closeTimeout, cut)
	defer timer.Stop()
	_ = k.c.Close(websocket.StatusCode(end.Code), end.Reason) // the peer may have gone already
	cut()
}

func (k socket) read(ctx, conn context.Context, in chan<- []byte) {
	for {
		typ, msg, err := k.c.Read(conn)
		if err != nil {
			return
		}
		if typ != websocket.MessageText {
			msg = nil // no JSON: answered as such
		}
		select {
		case in <- msg:
		case <-ctx.Done():
			return
		}
	}
}

func (k socket) write(ctx, conn context.Context, out <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-out:
			w, cancel := context.WithTimeout(conn, writeTimeout)
			err := k.c.Write(w, websocket.MessageText, msg)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

// ping returns when two pings in a row have not been answered.
func (k socket) ping(ctx, conn context.Context) {
	tick := time.NewTicker(k.heartbeat)
	defer tick.Stop()
	for missed := 0; missed < 2; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p, cancel := context.WithTimeout(ctx, k.heartbeat)
		if err := k.c.Ping(p); err != nil {
			missed++
		} else {
			missed = 0
		}
		cancel()
	}
}
