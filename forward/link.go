package forward

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v4/packetio"
)

// link is the way to one viewer or publisher: an ICE agent, and the DTLS
// handshake over it. What it makes of path.go and secure.go is the same for
// both.
type link struct {
	id      string
	subject string
	sfu     *SFU
	log     *slog.Logger
	since   time.Time
	offer   *offer
	answer  func(answerParams) string
	share   *muxShare        // of the media socket
	dtls    *packetio.Buffer // records that wait for the DTLS stack
	in      inbound

	// What takes opened packets; each is valid for the length of the call.
	takeRTCP func(plain []byte, at time.Time)
	takeRTP  func(plain []byte, at time.Time) // nil: there is to be none

	agent  *ice.Agent
	ctx    context.Context // of run
	cancel context.CancelCauseFunc
	done   chan struct{}

	where    atomic.Pointer[[2]string]      // kind and address of the selected pair
	remote   atomic.Pointer[netip.AddrPort] // where packets go through the media socket; nil: through the agent
	selected atomic.Pointer[ice.Candidate]  // the far end of the selected pair
	remotes  atomic.Int32                   // remote candidates taken, of this ICE generation

	mending   sync.Mutex // one ICE restart at a time; guards the two below once open has returned
	sessionID uint64     // of the answer's o= line
	restarts  int

	reason atomic.Pointer[string]
}

// newLink makes the link of who sent an offer; it opens nothing.
func (s *SFU) newLink(subject string, log *slog.Logger, parsed *offer) link {
	var id [16]byte
	_, _ = rand.Read(id[:])
	if log == nil {
		log = s.log
	}
	records := packetio.NewBuffer()
	records.SetLimitCount(dtlsQueue)
	return link{
		id: base64.RawURLEncoding.EncodeToString(id[:]), subject: subject, sfu: s, since: time.Now(), log: log,
		offer: parsed, done: make(chan struct{}), dtls: records,
	}
}

// Errors that end a viewer or publisher.
var (
	errClosed    = errors.New("closed by the viewer")
	errICEFailed = errors.New("no working path (ICE failed)")
)

// ID is unique in this process's life: 128 random bits, base64url, a secret
// (the URLs of WHEP and WHIP rest on it).
func (l *link) ID() string { return l.id }

// Done is closed when the viewer, or publisher, has ended.
func (l *link) Done() <-chan struct{} { return l.done }

// Reason says why it ended; empty before.
func (l *link) Reason() string {
	if r := l.reason.Load(); r != nil {
		return *r
	}
	return ""
}

// Close ends it; reason goes to the log and to Reason. It does not
// wait: see Done.
func (l *link) Close(reason string) { l.cancel(errors.New(reason)) }

// settle makes the reason known: err, unless there was one before.
func (l *link) settle(err error) {
	l.cancel(err)
	reason := context.Cause(l.ctx).Error()
	l.reason.Store(&reason)
}

// connect does ICE until the first pair works.
func (l *link) connect(ctx context.Context) (*ice.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectLimit, errICEFailed)
	defer cancel()
	start := l.agent.Accept
	if l.offer.lite {
		start = l.agent.Dial // RFC 8445 §6.1.1: against a lite agent the full one controls
	}
	conn, err := start(ctx, l.offer.ufrag, l.offer.pwd)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("ICE: %w", err)
	}
	return conn, nil
}

// AddCandidate takes a remote candidate ("candidate:…", or with "a="), for
// the ICE generation of the given ufrag where not empty. End-of-candidates is
// the empty string. Errors: ErrOffer, ErrGone.
func (l *link) AddCandidate(candidate, ufrag string) error {
	if ufrag != "" {
		if current, _, err := l.agent.GetRemoteUserCredentials(); err == nil && current != "" && current != ufrag {
			return nil // of a generation that has passed (RFC 8838 §11)
		}
	}
	return l.addCandidate(candidate)
}
