package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"edged/forward/ingest"

	"github.com/pion/ice/v4"
	"github.com/pion/srtp/v3"
)

// PublisherOptions say how a publisher joins.
type PublisherOptions struct {
	Offer   string // SDP
	Camera  string // its id
	Source  *ingest.Source
	Sound   bool         // is taken, too
	Subject string       // who, for the log
	Log     *slog.Logger // nil: the SFU's
}

// Publisher is who sends a camera's pictures to the box. Its methods may be
// called from any goroutine.
type Publisher struct {
	link
	session *ingest.Session
	voice   atomic.Pointer[voice] // nil before the handshake has ended
}

// voice is how feedback reaches the publisher. Its session's goroutine alone
// uses it.
type voice struct {
	out  *srtp.Context
	conn *ice.Conn
}

// Publish takes a publisher for a camera whose source has none: it answers the
// offer and returns at once. Errors: ErrOffer, *CodecError, ErrGone,
// ingest.ErrBusy.
func (s *SFU) Publish(ctx context.Context, o PublisherOptions) (*Publisher, string, error) {
	parsed, err := parseOffer(o.Offer)
	if err != nil {
		return nil, "", err
	}
	taken, err := takePublication(o.Offer, parsed, o.Sound)
	if err != nil {
		return nil, "", err
	}
	p := &Publisher{link: s.newLink(o.Subject, o.Log, parsed)}
	p.log = p.log.With("camera", o.Camera, "publisher", p.id[:6])
	p.answer = taken.answer
	options := taken.options()
	options.Send, options.Fail, options.Log = p.send, func(why error) { p.cancel(why) }, p.log
	p.session = ingest.NewSession(options)
	p.takeRTCP, p.takeRTP = p.session.RTCP, p.session.RTP
	if err := s.admitPublisher(p); err != nil {
		return nil, "", err
	}
	text, err := p.begin(ctx, o.Source)
	if err != nil {
		p.finish(err)
		s.group.Done()
		return nil, "", err
	}
	go func() {
		defer s.group.Done()
		p.run(p.ctx)
	}()
	return p, text, nil
}

func (s *SFU) admitPublisher(p *Publisher) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return ErrGone
	}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	p.share = &muxShare{mux: s.mux, owner: &p.link}
	s.group.Add(1)
	return nil
}

// begin claims the camera before anything costs something.
func (p *Publisher) begin(ctx context.Context, source *ingest.Source) (answer string, err error) {
	if err := source.Claim(p.session); err != nil {
		return "", err
	}
	return p.open(ctx)
}

// run is the publisher's goroutine: it logs the reason once.
func (p *Publisher) run(ctx context.Context) {
	p.finish(p.runInner(ctx))
	p.log.Info("publisher left", "reason", p.Reason(), "after", time.Since(p.since).Round(time.Millisecond))
}

// finish settles the reason and gives the camera back.
func (p *Publisher) finish(err error) {
	p.settle(err)
	p.session.End()
	_ = p.share.Close()
	close(p.done)
}

// runInner is the publisher's life in a straight line, as a viewer's.
func (p *Publisher) runInner(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer p.agent.GracefulClose() //nolint:errcheck // ends read; nothing is left to do about an error
	cut := time.AfterFunc(math.MaxInt64, func() { _ = p.agent.Close() })
	defer cut.Stop()
	defer context.AfterFunc(ctx, func() { cut.Reset(farewellLimit) })()
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer p.dtls.Close()
	group.Go(func() { p.cancel(p.read(conn)) })

	secure, err := p.handshake(ctx, conn, p.dtls)
	if err != nil {
		return err
	}
	defer secure.close() // tells the publisher, while the path still stands
	p.voice.Store(&voice{secure.out, conn})
	p.in.open(secure.in)
	p.log.Info("publisher connected", "path", p.path(), "srtp", secure.media.Profile(), "after", time.Since(p.since).Round(time.Millisecond))
	said := make(chan struct{})
	context.AfterFunc(ctx, func() { secure.close(); close(said) }) // ends wait
	if err := secure.wait(func([]byte) {}); errors.Is(err, errClosed) {
		p.cancel(errors.New("closed by the publisher"))
	} else {
		p.cancel(err)
	}
	<-said
	return context.Cause(ctx)
}

// send sends feedback to the publisher.
func (p *Publisher) send(rtcp []byte) {
	v := p.voice.Load()
	if v == nil {
		return
	}
	sealed, err := v.out.EncryptRTCP(nil, rtcp, nil)
	if err != nil {
		p.cancel(fmt.Errorf("SRTCP: %w", err))
		return
	}
	_, _ = v.conn.Write(sealed) // a path that is gone ends the link
}
