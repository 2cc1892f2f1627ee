// Package rtsp is the source of network cameras: RTSP 1.0 (RFC 2326) with
// H.264, H.265, VP8, VP9 or AV1 over RTP, and sound in Opus or G.711.
//
// A URL may end in #transport=udp, #transport=tcp or #transport=auto. The
// default, auto, asks for UDP and falls back to interleaved TCP when the
// camera refuses or when no packet has come within 3 seconds, and stays with
// what works. Over rtsps://
// media travels inside the TLS connection, or as SRTP where the camera offers
// that.
//
// Most cameras encode their scene twice. The second URL of a configuration is
// the lower layer: it is opened while somebody wants it, and its trouble is
// its own.
package rtsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

const maxRedirects = 3

// limits are the times that a camera is given.
type limits struct {
	knock   time.Duration // to take a connection, at an address that needs no name server
	step    time.Duration // to connect, to answer a request, to be silent while playing
	udp     time.Duration // to send a first packet by UDP, before TCP is tried
	goodbye time.Duration // to take the TEARDOWN when the owner wants to leave
	silence time.Duration // the lower layer may be without a frame
	linger  time.Duration // the lower layer stays open when nobody wants it any more
}

// A step ends before the supervisor loses its patience with a first frame, at
// 10 s: the reason given here says more. A connection is asked for twice, after
// a second again, and then anew, so that no more than 3 seconds pass between:
// the system by itself would soon ask once in 8.
var defaultLimits = limits{
	knock: 2 * time.Second, step: 8 * time.Second, udp: 3 * time.Second, goodbye: time.Second,
	silence: 10 * time.Second, linger: 10 * time.Second,
}

// Source is one RTSP camera. It implements [capture.Source] and
// [capture.LayerDemand].
type Source struct {
	session          // the main URL
	sub     *session // the second URL; nil: none
	demand  demand   // for the second
	sound   bool     // it is wanted; of the main URL
	asking  asking

	low lowLayer // what is known of it, over runs
}

// session is what it takes to play one URL.
type session struct {
	addr   address
	log    *slog.Logger
	limits limits
	tls    *tls.Config // nil: the system's authorities
	viaTCP atomic.Bool // see protocol
}

// New checks the URLs and the credentials' place in them. It opens nothing.
// Credentials in cfg win over those in a URL. Errors never quote them.
func New(cfg capture.Config, log *slog.Logger) (*Source, error) {
	addr, err := parseAddress(cfg)
	if err != nil {
		return nil, err
	}
	trust, err := pinned(cfg.TLSFingerprint)
	if err != nil {
		return nil, err
	}
	s := &Source{session: session{addr: addr, log: log, limits: defaultLimits, tls: trust}, sound: cfg.Audio.Enabled}
	s.asking.wanted = make(chan int, capture.MaxLayers)
	if cfg.Sub == "" {
		s.low.none = true // unless the URL turns out to have two
		return s, nil
	}
	cfg.Source = cfg.Sub
	if addr, err = parseAddress(cfg); err != nil {
		return nil, fmt.Errorf("sub: %w", err)
	}
	s.sub = &session{addr: addr, log: log.With("layer", 1), limits: defaultLimits, tls: trust}
	return s, nil
}

// Demand opens the second URL while layer 1 is wanted; it stays open for 10
// seconds longer. The main one is always open.
func (s *Source) Demand(layer int, wanted bool) {
	if layer == 1 {
		s.demand.set(wanted)
	}
}

// Run connects, plays and delivers the video of the main URL, its sound where
// that is enabled, and the video of the second as layer 1, until ctx is done (nil) or the main URL fails. Each
// network step takes at most 8 seconds. The error names the URL without
// credentials and wraps a [*capture.Error].
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	err := s.runBoth(ctx, sink)
	if ctx.Err() != nil {
		return nil
	}
	return s.fault(err)
}

// fault gives an error its code, its words and the URL.
func (s *session) fault(err error) error {
	why := fault(err)
	return &capture.Error{Code: why.Code, Err: fmt.Errorf("%s: %w", s.addr.shown, why), Soon: why.Soon}
}

// run plays until ctx is done or the camera fails, and says why it ended. A
// second medium with pictures goes to second, the sound to voice, where those
// are not nil.
func (s *session) run(ctx context.Context, sink capture.Sink, second *lowSink, voice capture.SoundSink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := newFeed(sink, &receive.Clocks{})
	g := &guard{host: s.addr.url.Hostname(), knock: s.limits.knock, step: s.limits.step, secure: s.addr.url.Scheme == "rtsps"}
	c := s.client(g, f, cancel)
	if err := c.Start(); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		<-ctx.Done()
		hurry := time.AfterFunc(s.limits.goodbye, g.cut)
		defer hurry.Stop()
		c.Close()
	}()
	err := s.play(c, g, f, second, voice, cancel)
	cancel(err) // the first cause stays: a verdict on the media comes before what it brought about
	<-closed
	why := context.Cause(ctx)
	s.learn(f.units.Begun(), why)
	return why
}

// client is the library's, with every limit set.
func (s *session) client(g *guard, f *feed, fail context.CancelCauseFunc) *gortsplib.Client {
	describes := 0
	return &gortsplib.Client{
		Scheme:                s.addr.url.Scheme,
		Host:                  s.addr.url.Host,
		Protocol:              s.protocol(),
		ReadTimeout:           s.limits.step,
		WriteTimeout:          s.limits.step,
		InitialUDPReadTimeout: s.limits.udp,
		UserAgent:             "edged",
		TLSConfig:             s.tls,
		DialContext:           g.dial,
		ListenPacket:          g.listen,
		ResolveIPAddr:         g.resolve,
		OnRequest: func(r *base.Request) {
			// Once with and once without credentials for each address, and once
			// more for the fall-back to TCP.
			if r.Method != base.Describe {
				return
			}
			if describes++; describes > 2*(maxRedirects+2) {
				fail(capture.Errorf(capture.CodeProtocol, "the camera redirects without end"))
				g.cut()
			}
		},
		OnTransportSwitch: func(err error) {
			s.viaTCP.Store(true)
			s.log.Info("rtsp transport", "reason", err)
		},
		OnPacketsLost: func(uint64) {}, // the assembler counts
		OnDecodeError: func(err error) {
			// Comes from the goroutine that f belongs to only for packets of RTP,
			// and where there is no other medium.
			if f.alone && errors.As(err, new(liberrors.ErrClientRTPPacketUnknownPayloadType)) {
				if err := f.units.Stranger(); err != nil {
					fail(err)
				}
			}
		},
	}
}

// play walks through the session and waits for its end, which always has a
// reason.
func (s *session) play(c *gortsplib.Client, g *guard, f *feed, second *lowSink, voice capture.SoundSink, fail context.CancelCauseFunc) error {
	desc, _, err := c.Describe(s.addr.url)
	if err != nil {
		return err
	}
	media, forma, err := pick(desc)
	if err != nil {
		return err
	}
	if err := s.setup(c, desc, media, forma, f, fail); err != nil {
		return err
	}
	f.alone = voice == nil
	if media, forma := another(desc, media); media != nil && second != nil {
		second.expect()
		err := s.setup(c, desc, media, forma, newFeed(second, f.clock.All), fail)
		if errors.As(err, new(liberrors.ErrClientBadStatusCode)) {
			second.unfit(s.fault(err))
		} else if err != nil {
			return err
		}
		f.alone = f.alone && err != nil
	}
	if voice != nil {
		s.listen(c, desc, f.clock.All, voice)
	}
	g.playing.Store(true)
	if _, err := c.Play(nil); err != nil {
		return err
	}
	err = c.Wait()
	s.log.Debug("rtsp session over", "loss", f.units.String())
	return err
}

// setup has the packets of a medium go to a feed.
func (s *session) setup(c *gortsplib.Client, desc *description.Session, media *description.Media, forma format.Format, f *feed, fail context.CancelCauseFunc) error {
	if _, err := c.Setup(desc.BaseURL, media, 0, 0); err != nil {
		return err
	}
	if err := f.begin(forma); err != nil {
		return err
	}
	f.clock.NTP = func(p *rtp.Packet) (time.Time, bool) { return c.PacketNTP(media, p) }
	for _, each := range media.Formats {
		c.OnPacketRTP(media, each, func(p *rtp.Packet) {
			var err error
			if standsIn(p) {
				return
			}
			if each == forma {
				err = f.units.Push(p)
			} else {
				err = f.units.Stranger()
			}
			if err != nil {
				fail(err)
			}
		})
	}
	return nil
}

// another finds a second medium with pictures: the scene in another encoding.
func another(desc *description.Session, first *description.Media) (*description.Media, format.Format) {
	for _, m := range desc.Medias {
		for _, f := range m.Formats {
			if m != first && !m.IsBackChannel && codecOf(f) != "" && checkMode(f) == nil {
				return m, f
			}
		}
	}
	return nil, nil
}

// pick finds the track to forward, or says what the camera offers instead.
func pick(desc *description.Session) (*description.Media, format.Format, error) {
	var offers []string
	for _, m := range desc.Medias {
		for _, f := range m.Formats {
			if codecOf(f) != "" && !m.IsBackChannel {
				return m, f, checkMode(f)
			}
			name, _, _ := strings.Cut(f.RTPMap(), "/")
			if name == "" {
				name = fmt.Sprintf("payload type %d", f.PayloadType())
			}
			offers = append(offers, fmt.Sprintf("%s %.40s", m.Type, name))
		}
	}
	if len(offers) == 0 {
		return nil, nil, capture.Errorf(capture.CodeCodec, "the camera offers no media")
	}
	return nil, nil, capture.Errorf(capture.CodeCodec, "the camera offers %s; only H.264, H.265, VP8, VP9 and AV1 can be forwarded: set its encoder to H.264", strings.Join(offers, ", "))
}

// codecOf gives the codec of a video format that can be forwarded; empty:
// none.
func codecOf(f format.Format) capture.Codec {
	switch f.(type) {
	case *format.H264:
		return capture.H264
	case *format.H265:
		return capture.H265
	case *format.VP8:
		return capture.VP8
	case *format.VP9:
		return capture.VP9
	case *format.AV1:
		return capture.AV1
	}
	return ""
}

// checkMode refuses the modes in which NAL units travel out of order: nobody
// needs them live, and no camera known uses them.
func checkMode(f format.Format) error {
	switch t := f.(type) {
	case *format.H264:
		if t.PacketizationMode > 1 {
			return capture.Errorf(capture.CodeCodec, "the camera sends H.264 in packetization mode %d; only 0 and 1 can be forwarded", t.PacketizationMode)
		}
	case *format.H265:
		if t.MaxDONDiff > 0 {
			return capture.Errorf(capture.CodeCodec, "the camera sends H.265 out of order (sprop-max-don-diff=%d), which cannot be forwarded", t.MaxDONDiff)
		}
	}
	return nil
}
