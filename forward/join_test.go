package forward_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"edged/forward"

	"github.com/pion/webrtc/v4"
)

func TestJoinErrors(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.MaxViewers = 1 })
	empty := s.AddStream("empty", func(int) {})
	st, _ := play(t, s, "dock")
	join := func(st *forward.Stream, offer string) error {
		_, _, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: offer})
		return err
	}
	for _, bad := range []string{"", "garbage", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"} {
		if err := join(st, bad); !errors.Is(err, forward.ErrOffer) {
			t.Errorf("offer %q: %v", bad, err)
		}
	}
	vp8 := newClient(t, clientOptions{codecs: []webrtc.RTPCodecParameters{{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/VP8", ClockRate: 90000}, PayloadType: 96}}})
	var codec *forward.CodecError
	if err := join(st, vp8.offer(nil)); !errors.As(err, &codec) || codec.Viewer[0] != "VP8" || codec.Camera[0] != "H264" {
		t.Errorf("VP8 viewer: %v", err)
	}
	c := newClient(t, clientOptions{})
	if err := join(empty, newClient(t, clientOptions{}).offer(nil)); !errors.Is(err, forward.ErrOffline) {
		t.Errorf("stream without frames: %v", err)
	}
	c.join(s, st)
	if err := join(st, newClient(t, clientOptions{}).offer(nil)); !errors.Is(err, forward.ErrFull) {
		t.Errorf("a second viewer of one: %v", err)
	}
	joins := s.Stats().Joins
	for key, n := range map[string]uint64{"dock\x00ok": 1, "dock\x00offer": 4, "dock\x00codec": 1, "empty\x00offline": 1, "dock\x00full": 1} {
		if joins[key] != n {
			t.Errorf("joins: %q %d, want %d", key, joins[key], n)
		}
	}
}

func TestPortInUse(t *testing.T) {
	s := startSFU(t, nil)
	udp, tcp := s.Ports()
	if udp == 0 || udp != tcp {
		t.Fatalf("ports %d and %d, want the same", udp, tcp)
	}
	for _, cfg := range []forward.Config{
		{UDP: fmt.Sprintf("127.0.0.1:%d", udp), MaxViewers: 1},
		{UDP: "127.0.0.1:0", TCP: fmt.Sprintf("127.0.0.1:%d", tcp), MaxViewers: 1},
	} {
		other, err := forward.New(cfg, certificate(t), logger(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Run(context.Background()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(udp)) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
