package forward_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/forward"
	"edged/forward/protect"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

func TestViewerUDP(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := play(t, s, "dock")
	c := newClient(t, clientOptions{})
	c.join(s, st)
	c.wait("frames", frames(30))
	checkStream(t, c.packets[:20])
	stats := c.viewer.Stats()
	preferred, err := protect.Preferred()
	if err != nil {
		t.Fatal(err)
	}
	if stats.State != "live" || stats.Path != "host/udp" && stats.Path != "prflx/udp" || stats.Profile != preferred[0].String() || stats.Codec != "H264" || stats.Join == 0 {
		t.Errorf("stats: %+v", stats)
	}
	c.viewer.Close("enough")
	<-c.viewer.Done()
	if c.viewer.Reason() != "enough" {
		t.Errorf("reason %q", c.viewer.Reason())
	}
	if n := len(st.Stats().Viewers); n != 0 {
		t.Errorf("%d viewers after Close", n)
	}
}

func TestViewerTCP(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := play(t, s, "dock")
	c := newClient(t, clientOptions{networks: []webrtc.NetworkType{webrtc.NetworkTypeTCP4}})
	c.join(s, st)
	c.wait("frames", frames(30))
	checkStream(t, c.packets[:20])
	if p := c.viewer.Stats().Path; !strings.HasSuffix(p, "/tcp") {
		t.Errorf("path %q", p)
	}
}

func TestViewerLeaves(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := play(t, s, "dock")
	c := newClient(t, clientOptions{})
	c.join(s, st)
	c.wait("a frame", frames(1))
	_ = c.pc.Close()
	select {
	case <-c.viewer.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the viewer is still there 10 s after it closed DTLS")
	}
	if got := c.viewer.Reason(); got != "closed by the viewer" {
		t.Errorf("reason %q", got)
	}
}

func TestICERestart(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := play(t, s, "dock")
	c := newClient(t, clientOptions{})
	c.join(s, st)
	c.wait("frames", frames(5))
	bad := "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:garbage\r\n"
	if _, err := c.viewer.Restart(context.Background(), bad); !errors.Is(err, forward.ErrOffer) {
		t.Fatalf("a bad candidate: %v", err)
	}
	answer, err := c.viewer.Restart(context.Background(), c.offer(&webrtc.OfferOptions{ICERestart: true}))
	if err != nil {
		t.Fatal(err)
	}
	c.answer(answer)
	c.wait("frames after the restart", frames(60))
	checkStream(t, c.packets)
}

func TestPLIReachesTheCamera(t *testing.T) {
	s := startSFU(t, nil)
	st, asked := play(t, s, "dock")
	c := newClient(t, clientOptions{})
	c.join(s, st)
	c.wait("frames", frames(20))
	before := asked.Load()
	c.mu.Lock()
	ssrc := c.packets[0].SSRC
	c.mu.Unlock()
	for range 200 { // a storm
		if err := c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}); err != nil {
			t.Fatal(err)
		}
	}
	c.wait("frames after PLI", frames(60))
	if n := asked.Load() - before; n < 1 || n > 8 {
		t.Errorf("the camera was asked %d times for a keyframe", n)
	}
	if n := c.viewer.Stats().PLIs; n < 100 {
		t.Errorf("%d PLIs counted", n)
	}
}

// A lossy viewer gets every packet in the end, by RTX where it is negotiated
// and by the same packet again where it is not.
func TestNACKIsAnswered(t *testing.T) {
	fmtp := "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
	for name, codecs := range map[string][]webrtc.RTPCodecParameters{
		"RTX":       {h264(fmtp, 106), rtx("106", 107)},
		"same SSRC": {h264(fmtp, 106)},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSFU(t, nil)
			st, _ := play(t, s, "dock")
			var mu sync.Mutex
			lost := map[uint16]bool{}
			c := newClient(t, clientOptions{codecs: codecs, nacks: true, drop: func(p *rtp.Packet) bool {
				mu.Lock()
				defer mu.Unlock()
				if p.PayloadType != 106 || p.SequenceNumber%10 != 3 || lost[p.SequenceNumber] {
					return false
				}
				lost[p.SequenceNumber] = true // once
				return true
			}})
			c.join(s, st)
			c.wait("every packet of the first hundred", func(packets []*rtp.Packet) bool {
				if len(packets) == 0 {
					return false
				}
				seen, first := map[uint16]bool{}, packets[0].SequenceNumber
				for _, p := range packets {
					seen[p.SequenceNumber-first] = true
				}
				for i := range uint16(100) {
					if !seen[i] {
						return false
					}
				}
				return true
			})
			stats := c.viewer.Stats()
			mu.Lock()
			defer mu.Unlock()
			if stats.NACKs == 0 || stats.RTX == 0 || stats.RTX > 10*uint64(len(lost)) {
				t.Errorf("%d lost, %d asked for again, %d sent again", len(lost), stats.NACKs, stats.RTX)
			}
		})
	}
}

// dropFactory loses packets below the client's other interceptors.
type dropFactory struct{ drop func(*rtp.Packet) bool }

func (f dropFactory) NewInterceptor(string) (interceptor.Interceptor, error) {
	return &dropper{drop: f.drop}, nil
}

type dropper struct {
	interceptor.NoOp
	drop func(*rtp.Packet) bool
}

func (d *dropper) BindRemoteStream(_ *interceptor.StreamInfo, r interceptor.RTPReader) interceptor.RTPReader {
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		for {
			n, attributes, err := r.Read(b, a)
			var p rtp.Packet
			if err != nil || p.Unmarshal(b[:n]) != nil || !d.drop(&p) {
				return n, attributes, err
			}
		}
	})
}

func TestPause(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := play(t, s, "dock")
	c := newClient(t, clientOptions{})
	c.join(s, st)
	c.wait("frames", frames(10))
	c.viewer.SetQuality(forward.Off)
	before := c.viewer.Stats().Packets
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n := c.viewer.Stats().Packets; n != before {
			t.Fatalf("%d packets sent while paused", n-before)
		}
	}
	c.viewer.SetQuality(forward.Auto)
	c.mu.Lock()
	have := 0
	for _, p := range c.packets {
		if p.Marker {
			have++
		}
	}
	c.mu.Unlock()
	c.wait("frames after the pause", frames(have+20))
	checkStream(t, c.packets)
}
