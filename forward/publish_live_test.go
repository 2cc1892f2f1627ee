package forward_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/forward/ingest"
	"edged/internal/lab/link"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
)

// ingested is a camera whose source is a publisher, on a box.
type ingested struct {
	sfu    *forward.SFU
	source *ingest.Source
	camera *capture.Camera
	stream *forward.Stream

	mu     sync.Mutex
	tracks []capture.Track
	frames map[capture.Kind][]capture.Frame
	layers map[int]int // frames by layer
	arrive chan struct{}
}

func (c *ingested) Describe(tracks []capture.Track) {
	c.mu.Lock()
	c.tracks = slices.Clone(tracks)
	c.mu.Unlock()
	c.stream.Describe(tracks)
}

func (c *ingested) Frame(f *capture.Frame) {
	c.mu.Lock()
	t := c.tracks[f.Track]
	own := *f
	own.Payloads = make([][]byte, len(f.Payloads)) // how many there were
	c.frames[t.Kind] = append(c.frames[t.Kind], own)
	if t.Kind == capture.Video {
		c.layers[t.Layer]++
	}
	c.mu.Unlock()
	c.stream.Frame(f)
	select {
	case c.arrive <- struct{}{}:
	default:
	}
}

// newIngested runs a box with one such camera.
func newIngested(t *testing.T) *ingested {
	t.Helper()
	c := &ingested{
		sfu: startSFU(t, nil), source: ingest.New(logger(t)), frames: map[capture.Kind][]capture.Frame{}, layers: map[int]int{},
		arrive: make(chan struct{}, 1),
	}
	var err error
	if c.camera, err = capture.New(capture.Config{ID: "dock", Source: "whip:"}, c.source, c, logger(t)); err != nil {
		t.Fatal(err)
	}
	c.stream = c.sfu.AddStream("dock", c.camera.Keyframe)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = c.camera.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return c
}

// until waits for something to become true of what arrives.
func (c *ingested) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		ok := is()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.arrive:
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			st := c.camera.State()
			t.Fatalf("never %s: %s %s %q, tracks %+v, frames %v", what, st.Phase, st.Code, st.Reason, st.Tracks, st.Frames)
		}
	}
}

// publisher is one as pion/webrtc makes it: it sends made-up VP8, in one or
// more sizes, and Opus.
type publisher struct {
	t       *testing.T
	pc      *webrtc.PeerConnection
	rids    []string
	tracks  []*webrtc.TrackLocalStaticRTP
	sound   *webrtc.TrackLocalStaticRTP
	video   *webrtc.RTPSender
	keys    [3]atomic.Bool
	plis    atomic.Int32
	nacks   atomic.Int32
	reports atomic.Int32
	numbers atomic.Int32
	on      *forward.Publisher
	group   sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
	path    *link.Path // to the box; nil: direct
}

func newPublisher(t *testing.T, rids ...string) *publisher {
	t.Helper()
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	m.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}, webrtc.RTPCodecTypeVideo)
	r := &interceptor.Registry{}
	p := &publisher{t: t, rids: rids}
	for _, err := range []error{webrtc.ConfigureNack(m, r), webrtc.ConfigureRTCPReports(r), webrtc.ConfigureSimulcastExtensionHeaders(m), webrtc.ConfigureTWCCHeaderExtensionSender(m, r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetICEMulticastDNSMode(0)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(r), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p.pc = pc
	p.ctx, p.cancel = context.WithCancel(context.Background())
	t.Cleanup(p.close)
	p.addTracks()
	return p
}

func (p *publisher) close() {
	p.cancel()
	if p.pc == nil {
		return
	}
	_ = p.pc.GracefulClose()
	p.group.Wait()
	p.pc, p.tracks, p.sound, p.video, p.on = nil, nil, nil, nil, nil // t keeps p to its end
}

func (p *publisher) addTracks() {
	vp8 := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	rids := p.rids
	if len(rids) == 0 {
		rids = []string{""}
	}
	for i, rid := range rids {
		var options []func(*webrtc.TrackLocalStaticRTP)
		if rid != "" {
			options = append(options, webrtc.WithRTPStreamID(rid))
		}
		track, err := webrtc.NewTrackLocalStaticRTP(vp8, "video", "scene", options...)
		if err != nil {
			p.t.Fatal(err)
		}
		p.tracks = append(p.tracks, track)
		if i == 0 {
			p.video, err = p.pc.AddTrack(track)
		} else {
			err = p.video.AddEncoding(track)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	var err error
	if p.sound, err = webrtc.NewTrackLocalStaticRTP(opus, "sound", "scene"); err != nil {
		p.t.Fatal(err)
	}
	sender, err := p.pc.AddTrack(p.sound)
	if err != nil {
		p.t.Fatal(err)
	}
	p.group.Go(func() {
		for _, _, err := sender.ReadRTCP(); err == nil; _, _, err = sender.ReadRTCP() {
		}
	})
	for i, rid := range rids {
		p.group.Go(func() { p.listen(i, rid) })
	}
}

// listen reads what the box says of an encoding.
func (p *publisher) listen(i int, rid string) {
	for {
		var packets []rtcp.Packet
		var err error
		if rid == "" {
			packets, _, err = p.video.ReadRTCP()
		} else {
			packets, _, err = p.video.ReadSimulcastRTCP(rid)
		}
		if err != nil {
			return
		}
		for _, q := range packets {
			switch q.(type) {
			case *rtcp.PictureLossIndication:
				p.plis.Add(1)
				p.keys[i].Store(true)
			case *rtcp.TransportLayerNack:
				p.nacks.Add(1)
			case *rtcp.ReceiverReport:
				p.reports.Add(1)
			case *rtcp.TransportLayerCC:
				p.numbers.Add(1)
			}
		}
	}
}

func (p *publisher) offer() string {
	p.t.Helper()
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		p.t.Fatal(err)
	}
	<-gathered
	return p.pc.LocalDescription().SDP
}

func (p *publisher) answer(text string) {
	p.t.Helper()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		p.t.Fatalf("%v\n%s", err, text)
	}
}

// publish joins a camera and sends until the test, or the publisher, ends.
func (p *publisher) publish(c *ingested) {
	p.t.Helper()
	offer := p.offer()
	if p.path != nil {
		offer = regexp.MustCompile(`a=candidate:.*\r\n`).ReplaceAllString(offer, "") // or the box would go round it
	}
	on, answer, err := c.sfu.Publish(context.Background(), forward.PublisherOptions{Offer: offer, Camera: "dock", Source: c.source, Sound: true, Log: logger(p.t)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.on = on
	if p.path != nil {
		answer = p.path.Through(answer)
	}
	p.answer(answer)
	p.group.Go(p.send)
}

// vp8Frame is what passes for a frame of VP8: the header is real.
func vp8Frame(key bool, width, height, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}
	b[0] = 0x11
	if key {
		b[0] = 0x10
		copy(b[3:], []byte{0x9d, 0x01, 0x2a})
		binary.LittleEndian.PutUint16(b[6:], uint16(width))
		binary.LittleEndian.PutUint16(b[8:], uint16(height))
	}
	return b
}

// send sends 25 frames a second of each encoding, each half as large as the
// one before.
func (p *publisher) send() {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	starts := []uint32{rand.Uint32(), rand.Uint32(), rand.Uint32()}
	seqs := []uint16{uint16(rand.Uint32()), 65500, 7}
	var mid, rid uint8
	for _, e := range p.video.GetParameters().HeaderExtensions {
		switch e.URI {
		case "urn:ietf:params:rtp-hdrext:sdes:mid":
			mid = uint8(e.ID)
		case "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id":
			rid = uint8(e.ID)
		}
	}
	for n := uint32(0); ; n++ {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		for i, track := range p.tracks {
			key := p.keys[i].Swap(false) || n == 0
			pieces := (&codecs.VP8Payloader{}).Payload(1000, vp8Frame(key, 640>>i, 360>>i, 3000>>i))
			for j, piece := range pieces {
				q := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seqs[i], Timestamp: starts[i] + n*3600, Marker: j == len(pieces)-1}, Payload: piece}
				seqs[i]++
				if len(p.rids) > 0 {
					_ = q.SetExtension(mid, []byte("0"))
					_ = q.SetExtension(rid, []byte(p.rids[i]))
				}
				_ = track.WriteRTP(q)
			}
		}
		for i := range uint32(2) {
			_ = p.sound.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(2*n + i), Timestamp: (2*n + i) * 960}, Payload: []byte("an Opus packet")})
		}
	}
}

// A publisher's pictures and sound reach the camera's stream and its viewers,
// who stay when it leaves and go on with the next one.
func TestPublish(t *testing.T) {
	c := newIngested(t)
	c.until(t, "waiting", func() bool {
		st := c.camera.State()
		return st.Phase == capture.Waiting && st.Code == capture.CodeNoPublisher
	})
	p := newPublisher(t)
	p.publish(c)
	c.until(t, "50 frames", func() bool { return len(c.frames[capture.Video]) > 50 && len(c.frames[capture.Audio]) > 80 })
	if st := c.camera.State(); st.Phase != capture.Live || st.Encoder != "publisher" || len(st.Tracks) != 2 || st.Tracks[0].Width != 640 || st.Tracks[1].Codec != capture.Opus {
		t.Errorf("%+v", st)
	}

	second := newPublisher(t)
	if _, _, err := c.sfu.Publish(context.Background(), forward.PublisherOptions{Offer: second.offer(), Camera: "dock", Source: c.source}); !errors.Is(err, forward.ErrBusy) {
		t.Errorf("a second publisher: %v", err)
	}

	v := newClient(t, clientOptions{codecs: []webrtc.RTPCodecParameters{{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, PayloadType: 96,
	}}})
	v.join(c.sfu, c.stream)
	v.wait("20 packets", func(packets []*rtp.Packet) bool { return len(packets) > 20 })
	if plis := p.plis.Load(); plis > 3 {
		t.Errorf("%d keyframes were asked for", plis)
	}
	left := p.on.Done()
	p.close()
	<-left
	c.until(t, "waiting again", func() bool { return c.camera.State().Phase == capture.Waiting })

	c.mu.Lock()
	n := len(c.frames[capture.Video])
	c.mu.Unlock()
	next := newPublisher(t)
	next.publish(c)
	c.until(t, "frames of the next publisher", func() bool { return len(c.frames[capture.Video]) > n+20 })
	c.mu.Lock()
	first, last := c.frames[capture.Video][n], c.frames[capture.Video][n-1]
	c.mu.Unlock()
	if !first.Keyframe || !first.Lost {
		t.Errorf("the first frame of the next publisher: key %v, lost %v", first.Keyframe, first.Lost)
	}
	if gap := int32(first.RTPTime - last.RTPTime); gap <= 0 || gap > 20*90000 {
		t.Errorf("the next publisher's time is %d later", gap)
	}
	v.mu.Lock()
	before := len(v.packets)
	v.mu.Unlock()
	v.wait("packets of the next publisher", func(packets []*rtp.Packet) bool { return len(packets) > before+20 })
	if v.viewer.Reason() != "" {
		t.Errorf("the viewer was ended: %s", v.viewer.Reason())
	}
	if st := c.camera.State(); len(st.Restarts) != 0 {
		t.Errorf("restarts: %v", st.Restarts)
	}
	c.until(t, "reports and transport-wide feedback", func() bool { return next.reports.Load() > 0 && next.numbers.Load() > 0 })
}

// The encodings of a simulcast are the camera's layers, the best first
// whatever their order, on one clock.
func TestPublishSimulcast(t *testing.T) {
	c := newIngested(t)
	p := newPublisher(t, "h", "m", "l")
	slices.Reverse(p.rids) // as they are named in the packets
	slices.Reverse(p.tracks)
	p.publish(c)
	c.until(t, "three layers", func() bool { return c.layers[0] > 30 && c.layers[1] > 30 && c.layers[2] > 30 })
	st := c.camera.State()
	if len(st.Tracks) != 4 || st.Tracks[0].Width != 640 || st.Tracks[1].Width != 320 || st.Tracks[2].Width != 160 {
		t.Fatalf("%+v", st.Tracks)
	}
	// What was sent at one time has about the same time, once its sender
	// reports have come.
	c.until(t, "aligned", func() bool {
		newest := map[int]uint32{}
		for _, f := range c.frames[capture.Video] {
			newest[f.Track] = f.RTPTime
		}
		a, b := int32(newest[0]-newest[1]), int32(newest[0]-newest[2])
		return max(a, -a) <= 5400 && max(b, -b) <= 5400 && len(c.frames[capture.Video]) > 200
	})
	before := p.plis.Load()
	c.camera.Keyframe(1)
	c.until(t, "asked for a keyframe", func() bool { return p.plis.Load() == before+1 })
}

// Packets that the path loses, or brings late, are asked for again; a viewer
// sees whole frames.
func TestPublishOverALossyPath(t *testing.T) {
	c := newIngested(t)
	udp, _ := c.sfu.Ports()
	p := newPublisher(t)
	p.path = newBottleneck(t, udp).Path
	p.publish(c)
	c.until(t, "a frame", func() bool { return len(c.frames[capture.Video]) > 0 })
	p.path.Shape(link.Shape{Loss: 0.05, Delay: 15 * time.Millisecond}, link.Shape{Loss: 0.05, Delay: 15 * time.Millisecond, Jitter: 5 * time.Millisecond})
	c.until(t, "200 frames", func() bool { return len(c.frames[capture.Video]) > 200 })
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := 0
	for i, f := range c.frames[capture.Video] {
		if f.Lost && i > 0 {
			lost++
		}
	}
	_, up := p.path.Counts()
	t.Logf("%d packets lost on the way, %d requests for them, %d of %d frames after one that never came", up.Lost, p.nacks.Load(), lost, len(c.frames[capture.Video]))
	if up.Lost < 10 || p.nacks.Load() < 10 || lost > 15 {
		t.Error("not repaired")
	}
}

// Publishers that come and go leave nothing.
func TestPublishersLeaveNothing(t *testing.T) {
	c := newIngested(t)
	visit := func(n int) {
		for range n {
			p := newPublisher(t)
			p.publish(c)
			c.mu.Lock()
			was := len(c.frames[capture.Video])
			c.mu.Unlock()
			c.until(t, "a frame", func() bool { return len(c.frames[capture.Video]) > was })
			p.on.Close("enough")
			<-p.on.Done()
			p.close()
			c.mu.Lock()
			clear(c.frames)
			c.mu.Unlock()
		}
	}
	visit(5)
	before := measure(t)
	visit(joins(200))
	c.until(t, "settled", func() bool { return measure(t).goroutines <= before.goroutines+5 })
	after := measure(t)
	if after.files > before.files+5 || after.heap > before.heap+8<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// Offers that cannot be taken are refused in words.
func TestPublishRefuses(t *testing.T) {
	c := newIngested(t)
	p := newPublisher(t)
	good := p.offer()
	var codec *forward.CodecError
	for name, offer := range map[string]string{
		"nothing":       "",
		"a viewer":      strings.ReplaceAll(good, "a=sendrecv", "a=recvonly"),
		"another codec": strings.NewReplacer("VP8", "XP8", "H264", "X264", "VP9", "XP9", "AV1", "XV1", "H265", "X265").Replace(good),
		"a bad mid":     strings.ReplaceAll(good, "a=mid:0", "a=mid:\x01"),
	} {
		_, _, err := c.sfu.Publish(context.Background(), forward.PublisherOptions{Offer: offer, Camera: "dock", Source: c.source, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, forward.ErrOffer) && !errors.As(err, &codec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
