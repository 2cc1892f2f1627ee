package forward_test

import (
	"encoding/binary"
	"testing"

	"edged/capture/encode"
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
	st := layeredPattern(t, s)
	c := newClient(t, clientOptions{})
	c.join(s, st)
	want := []int{480}
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
	}{{forward.Low, 240}, {forward.High, 480}, {forward.Low, 240}, {forward.Auto, 480}} {
		c.viewer.SetQuality(step.quality)
		want = append(want, step.width)
		see()
	}
	if v := c.viewer.Stats(); v.Quality != forward.Auto || v.Layer != 0 {
		t.Errorf("%+v", v)
	}
}
