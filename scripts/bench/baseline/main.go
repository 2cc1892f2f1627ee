// Command baseline is the plain pion WHEP server that edged is measured
// against: one TrackLocalStaticRTP shared by a PeerConnection a viewer, all
// on one UDP port. It plays a recording as edged's file source does, or the
// test pattern, and serves nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"edged/capture"
	"edged/capture/pattern"
	"edged/internal/lab/bench"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "baseline:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. It prints the WHEP endpoint on a line of its
// own once it is open.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("baseline", flag.ContinueOnError)
	clip := flags.String("clip", "", "H.264 byte stream to play; empty: a small built-in one")
	fps := flags.Float64("fps", 30, "frames a second of the clip")
	full := flags.Bool("interceptors", false, "with pion's default interceptors")
	nack := flags.Bool("nack", false, "with pion's answers to NACK, and reports; no other interceptors")
	live := flags.Bool("pattern", false, "the test pattern, 1280x720 at 30 frames and 2.5 Mbit/s a second, in place of a clip; it makes the keyframes that viewers ask for")
	if err := flags.Parse(args); err != nil {
		return err
	}
	source, err := play(*clip, *fps, *live)
	if err != nil {
		return err
	}
	media, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer media.Close()
	ask := source.Keyframe
	if !*live { // a recording makes none
		ask = func(int) {}
	}
	s, err := newServer(media, ask, *full, *nack)
	if err != nil {
		return err
	}
	defer s.close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(stdout, "http://%s/whep/clip\n", l.Addr())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx, s) })
	group.Go(func() error {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	return group.Wait()
}

// play makes the camera.
func play(clip string, fps float64, live bool) (capture.Source, error) {
	if live {
		return pattern.New(capture.Config{ID: "clip", Source: "pattern:"}, slog.New(slog.DiscardHandler))
	}
	return bench.Play(clip, fps)
}

// server is the sink of the camera and the WHEP endpoint.
type server struct {
	ask    func(layer int) // the camera's keyframe request
	api    *webrtc.API
	track  *webrtc.TrackLocalStaticRTP
	packet rtp.Packet // of the source's goroutine

	mu      sync.Mutex
	viewers map[string]*webrtc.PeerConnection // by session path
	joined  int                               // so far
	asked   time.Time                         // the camera for a keyframe
}

// newServer makes the pion API as most programs do: default codecs, default
// roles and profiles.
func newServer(media net.PacketConn, ask func(layer int), full, nack bool) (*server, error) {
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if full {
		if err := webrtc.RegisterDefaultInterceptors(m, registry); err != nil {
			return nil, err
		}
	}
	if nack {
		if err := webrtc.ConfigureNack(m, registry); err != nil {
			return nil, err
		}
		if err := webrtc.ConfigureRTCPReports(registry); err != nil {
			return nil, err
		}
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, media))
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
	}, "video", "clip")
	if err != nil {
		return nil, err
	}
	return &server{
		ask:    ask,
		api:    webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings)),
		track:  track,
		packet: rtp.Packet{Header: rtp.Header{Version: 2}},

		viewers: map[string]*webrtc.PeerConnection{},
	}, nil
}

// Describe implements capture.Sink; the clip's one track is known.
func (s *server) Describe([]capture.Track) {}

// Frame implements capture.Sink: a frame becomes packets, and pion writes
// each to each viewer.
func (s *server) Frame(f *capture.Frame) {
	s.packet.Timestamp = f.RTPTime
	for i, payload := range f.Payloads {
		s.packet.SequenceNumber++
		s.packet.Marker = i == len(f.Payloads)-1
		s.packet.Payload = payload
		_ = s.track.WriteRTP(&s.packet) // a viewer that is gone is pion's to forget
	}
}

// ServeHTTP answers WHEP offers and ends sessions.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodDelete {
		s.mu.Lock()
		pc := s.viewers[r.URL.Path]
		delete(s.viewers, r.URL.Path)
		s.mu.Unlock()
		if pc != nil {
			_ = pc.Close()
		}
		return
	}
	offer, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		var answer, session string
		if answer, session, err = s.join(string(offer), r.URL.Path); err == nil {
			w.Header().Set("Location", session)
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, answer)
			return
		}
	}
	http.Error(w, err.Error(), http.StatusUnprocessableEntity)
}

func (s *server) join(offer, path string) (answer, session string, err error) {
	pc, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", "", err
	}
	s.mu.Lock()
	s.joined++
	session = fmt.Sprintf("%s/%d", path, s.joined)
	s.viewers[session] = pc
	s.mu.Unlock()
	sender, err := pc.AddTrack(s.track)
	if err != nil {
		return "", "", err
	}
	go s.listen(sender)
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	local, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", "", err
	}
	if err := pc.SetLocalDescription(local); err != nil {
		return "", "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, session, nil
}

// listen reads a viewer's reports, which interceptors see only then, until it
// leaves.
func (s *server) listen(sender *webrtc.RTPSender) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				s.keyframe()
			}
		}
	}
}

// keyframe asks the camera for one, twice a second at most.
func (s *server) keyframe() {
	s.mu.Lock()
	ask := time.Since(s.asked) >= 500*time.Millisecond
	if ask {
		s.asked = time.Now()
	}
	s.mu.Unlock()
	if ask {
		s.ask(0)
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pc := range s.viewers {
		_ = pc.GracefulClose()
	}
}
