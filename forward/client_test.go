package forward_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture/capturetest"
	"edged/forward"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"
)

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "box"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// testLog writes to the test's log until the test ends.
type testLog struct {
	t    testing.TB
	over *atomic.Bool
}

func (w testLog) Write(p []byte) (int, error) {
	if !w.over.Load() {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func logger(t testing.TB) *slog.Logger {
	over := &atomic.Bool{}
	t.Cleanup(func() { over.Store(true) })
	return slog.New(slog.NewTextHandler(testLog{t, over}, nil))
}

// startSFU runs an SFU for the length of the test and checks that it leaves
// no goroutine behind.
func startSFU(t testing.TB, edit func(*forward.Config)) *forward.SFU {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	cfg := forward.Config{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", MaxViewers: 100}
	if edit != nil {
		edit(&cfg)
	}
	s, err := forward.New(cfg, certificate(t), logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		goleak.VerifyNone(t, ignore)
	})
	return s
}

// client is a viewer as pion/webrtc makes it.
type client struct {
	t      testing.TB
	pc     *webrtc.PeerConnection
	viewer *forward.Viewer

	mu      sync.Mutex
	packets []*rtp.Packet
	sound   []*rtp.Packet
	times   map[uint32][]*rtcp.SenderReport // by SSRC
	streams map[webrtc.RTPCodecType]string  // by kind, the msid's
	arrived chan struct{}
}

type clientOptions struct {
	networks []webrtc.NetworkType
	codecs   []webrtc.RTPCodecParameters
	nacks    bool                     // pion's interceptors: NACK generator, reports, RTX
	twcc     bool                     // transport-wide feedback
	kinds    []webrtc.RTPCodecType    // of the m-lines, in order; nil: a video alone
	ids      []string                 // URIs of header extensions, besides
	drop     func(p *rtp.Packet) bool // below the interceptors
}

func h264(fmtp string, pt webrtc.PayloadType) webrtc.RTPCodecParameters {
	fb := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	return webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/H264", ClockRate: 90000, SDPFmtpLine: fmtp, RTCPFeedback: fb}, PayloadType: pt}
}

func rtx(apt string, pt webrtc.PayloadType) webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/rtx", ClockRate: 90000, SDPFmtpLine: "apt=" + apt}, PayloadType: pt}
}

func newClient(t testing.TB, o clientOptions) *client {
	t.Helper()
	m := &webrtc.MediaEngine{}
	if o.codecs == nil {
		o.codecs = []webrtc.RTPCodecParameters{h264("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 106), rtx("106", 107)}
	}
	for _, c := range o.codecs {
		if err := m.RegisterCodec(c, webrtc.RTPCodecTypeVideo); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range o.kinds {
		if kind == webrtc.RTPCodecTypeAudio {
			offerSound(t, m)
		}
	}
	for _, uri := range o.ids {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	if o.networks == nil {
		o.networks = []webrtc.NetworkType{webrtc.NetworkTypeUDP4}
	}
	se.SetNetworkTypes(o.networks)
	se.SetICEMulticastDNSMode(0)
	se.DisableSRTPReplayProtection(o.drop != nil) // what is dropped above SRTP counts as received there
	r := &interceptor.Registry{}
	if o.drop != nil {
		r.Add(dropFactory{o.drop}) // first: nearest to the network
	}
	if o.nacks {
		if err := webrtc.ConfigureNack(m, r); err != nil {
			t.Fatal(err)
		}
	}
	if o.twcc {
		if err := webrtc.ConfigureTWCCSender(m, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := webrtc.ConfigureRTCPReports(r); err != nil {
		t.Fatal(err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(r), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, pc: pc, times: map[uint32][]*rtcp.SenderReport{}, streams: map[webrtc.RTPCodecType]string{}, arrived: make(chan struct{}, 1)}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	pc.OnTrack(func(tr *webrtc.TrackRemote, rc *webrtc.RTPReceiver) {
		go c.reports(rc)
		for {
			p, _, err := tr.ReadRTP()
			if err != nil {
				return
			}
			c.mu.Lock()
			if tr.Kind() == webrtc.RTPCodecTypeAudio {
				c.sound = append(c.sound, p)
			} else {
				c.packets = append(c.packets, p)
			}
			c.streams[tr.Kind()] = tr.StreamID()
			c.mu.Unlock()
			select {
			case c.arrived <- struct{}{}:
			default:
			}
		}
	})
	if o.kinds == nil {
		o.kinds = []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo}
	}
	for _, kind := range o.kinds {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// offer makes a complete offer.
func (c *client) offer(options *webrtc.OfferOptions) string {
	c.t.Helper()
	done := webrtc.GatheringCompletePromise(c.pc)
	offer, err := c.pc.CreateOffer(options)
	if err == nil {
		err = c.pc.SetLocalDescription(offer)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	<-done
	return c.pc.LocalDescription().SDP
}

func (c *client) answer(sdp string) {
	c.t.Helper()
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		c.t.Fatalf("answer: %v\n%s", err, sdp)
	}
}

// join joins a stream and waits for nothing.
func (c *client) join(s *forward.SFU, st *forward.Stream) {
	c.t.Helper()
	v, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: c.offer(nil), Subject: "test"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.viewer = v
	c.answer(answer)
}

// wait waits until ok says of the packets so far that they suffice.
func (c *client) wait(what string, ok func(packets []*rtp.Packet) bool) {
	c.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		enough := ok(c.packets)
		c.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-c.arrived:
		case <-limit:
			c.t.Fatalf("%s: %d packets in 20 s; viewer: %q %+v", what, len(c.packets), c.viewer.Reason(), c.viewer.Stats())
		}
	}
}

func frames(n int) func([]*rtp.Packet) bool {
	return func(packets []*rtp.Packet) bool {
		k := 0
		for _, p := range packets {
			if p.Marker {
				k++
			}
		}
		return k >= n
	}
}

// play runs a recording into a stream for the length of the test.
func play(t testing.TB, s *forward.SFU, id string) (*forward.Stream, *atomic.Int64) {
	t.Helper()
	asked := &atomic.Int64{}
	source, err := capturetest.New(capturetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st := s.AddStream(id, func(layer int) { asked.Add(1); source.Keyframe(layer) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, st) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("source: %v", err)
		}
	})
	awaitRing(t, st)
	return st, asked
}

// awaitRing waits for the first frame, without which nobody may join.
func awaitRing(t testing.TB, st *forward.Stream) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); st.Stats().Ring == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no frame in 10 s")
		}
	}
}

// checkStream checks what every viewer may rely on: one SSRC, no hole in the
// sequence numbers, time that does not run back, a decodable start.
func checkStream(t testing.TB, packets []*rtp.Packet) {
	t.Helper()
	for i, p := range packets {
		if len(p.Payload)+12+16 > 1200 {
			t.Errorf("packet %d has %d bytes of payload", i, len(p.Payload))
		}
		if i == 0 {
			if n := p.Payload[0] & 31; n != 7 && n != 24 {
				t.Errorf("the first packet has NAL unit type %d, want parameter sets", n)
			}
			continue
		}
		before := packets[i-1]
		if p.SSRC != before.SSRC {
			t.Fatalf("packet %d has another SSRC", i)
		}
		if p.SequenceNumber != before.SequenceNumber+1 {
			t.Fatalf("packet %d has sequence number %d after %d", i, p.SequenceNumber, before.SequenceNumber)
		}
		if int32(p.Timestamp-before.Timestamp) < 0 {
			t.Fatalf("packet %d has time %d after %d", i, p.Timestamp, before.Timestamp)
		}
		if before.Marker == (p.Timestamp == before.Timestamp) {
			t.Fatalf("packet %d: marker %v before, time %d after %d", i, before.Marker, p.Timestamp, before.Timestamp)
		}
	}
}
