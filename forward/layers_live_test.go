package forward_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"testing"

	"edged/capture"
	"edged/capture/encode"
	"edged/capture/pattern"
	"edged/forward"

	parameters "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/pion/rtp"
)

// widths lists the picture widths that a viewer was sent, in order, by the
// parameter sets that begin each keyframe.
func widths(packets []*rtp.Packet) (out []int) {
	for _, p := range packets {
		if len(p.Payload) < 5 || p.Payload[0]&31 != 24 { // STAP-A (RFC 6184 §5.7.1)
			continue
		}
		n := int(binary.BigEndian.Uint16(p.Payload[1:]))
		var sps parameters.SPS
		if 3+n > len(p.Payload) || sps.Unmarshal(p.Payload[3:3+n]) != nil {
			continue
		}
		if w := sps.Width(); len(out) == 0 || out[len(out)-1] != w {
			out = append(out, w)
		}
	}
	return out
}

// A viewer changes between encodings of a camera that encodes them only while
// somebody needs them.
func TestQualityChoosesTheLayer(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no software encoder")
	}
	s := startSFU(t, nil)
	cfg := capture.Config{ID: "dock", Source: "pattern:", Video: capture.VideoConfig{Width: 320, Height: 180, FPS: 25, Bitrate: 600_000, Layers: 2}}
	source, err := pattern.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var sink struct{ capture.Sink }
	camera, err := capture.New(cfg, source, &sink, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	st := s.AddStream("dock", camera.Keyframe)
	st.OnDemand(camera.Demand)
	sink.Sink = st
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- camera.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	awaitRing(t, st)
	c := newClient(t, clientOptions{})
	c.join(s, st)
	want := []int{320}
	see := func() {
		t.Helper()
		c.wait("the layer", func(p []*rtp.Packet) bool { return len(widths(p)) >= len(want) })
		c.mu.Lock()
		defer c.mu.Unlock()
		if got := widths(c.packets); len(got) != len(want) || got[len(got)-1] != want[len(want)-1] {
			t.Fatalf("widths %v, want %v", got, want)
		}
		checkStream(t, c.packets)
	}
	see()
	for _, step := range []struct {
		quality forward.Quality
		width   int
	}{{forward.Low, 160}, {forward.High, 320}, {forward.Low, 160}, {forward.Auto, 320}} {
		c.viewer.SetQuality(step.quality)
		want = append(want, step.width)
		see()
	}
	if v := c.viewer.Stats(); v.Quality != forward.Auto || v.Layer != 0 {
		t.Errorf("%+v", v)
	}
}
