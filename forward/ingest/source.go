// Package ingest is the receiving side of a publisher, above its transport:
// packets of RTP and RTCP in; frames, and feedback for the publisher, out.
//
// A packet's way: Session.RTP queues a copy; the session's goroutine, which is
// that of Source.Run, finds the encoding it belongs to (Session.packet), puts
// packets in order and asks for those that are missing (reorder), makes access
// units of them (receive.Assembler) and frames of those (encoding.unit).
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"edged/capture"
)

// ErrBusy says that another publisher has the camera.
var ErrBusy = errors.New("somebody else publishes to this camera")

// Source is a camera whose pictures a publisher sends. It implements
// [capture.Source].
type Source struct {
	log  *slog.Logger
	next chan *Session // what Claim has for Run

	mu      sync.Mutex
	current *Session
}

// New makes a source that waits for a publisher once it runs.
func New(log *slog.Logger) *Source {
	return &Source{log: log, next: make(chan *Session, 1)}
}

// Claim gives the camera to a publisher, until its session has ended. The
// error is ErrBusy where there is another.
func (s *Source) Claim(session *Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && !s.current.ended() {
		return ErrBusy
	}
	s.current = session
	select {
	case <-s.next: // came and went while the source did not run
	default:
	}
	s.next <- session
	return nil
}

// Run hands on what publishers send, one after the other, until ctx is done;
// it then ends the publisher that there is.
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	var why error = capture.Errorf(capture.CodeNoPublisher, "nobody publishes to this camera")
	for {
		wait(sink, why)
		select {
		case <-ctx.Done():
			return nil
		case session := <-s.next:
			why = session.run(ctx, sink)
			if ctx.Err() != nil {
				session.fail(errGone)
				return nil
			}
		}
	}
}

func wait(sink capture.Sink, why error) {
	if s, ok := sink.(capture.WaitingSink); ok {
		s.Waiting(why)
	}
}

// Keyframe asks the publisher for a keyframe of a layer, at most once in 500
// ms.
func (s *Source) Keyframe(layer int) {
	s.mu.Lock()
	session := s.current
	s.mu.Unlock()
	if session != nil {
		session.wantKeyframe(layer)
	}
}

// Encoder says who encodes.
func (*Source) Encoder() string { return "publisher" }
