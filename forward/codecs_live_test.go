package forward_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpav1"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph265"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpvp8"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpvp9"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"edged/capture"
	"edged/forward"
)

// film is a recording of one codec: its access units, the first a keyframe.
type film struct {
	codec capture.Codec
	units [][][]byte
}

func readFilm(t *testing.T, codec capture.Codec, name string) film {
	t.Helper()
	b, err := os.ReadFile("../capture/file/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	f := film{codec: codec}
	if codec == capture.H264 || codec == capture.H265 {
		starts := map[capture.Codec]func([]byte, bool) bool{capture.H264: capture.H264StartsUnit, capture.H265: capture.H265StartsUnit}[codec]
		isPicture := map[capture.Codec]func([]byte) bool{capture.H264: capture.H264IsPicture, capture.H265: capture.H265IsPicture}[codec]
		picture := true
		for _, n := range capture.SplitAnnexB(nil, b) {
			if starts(n, picture) {
				f.units, picture = append(f.units, nil), false
			}
			last := &f.units[len(f.units)-1]
			*last = append(*last, n)
			picture = picture || isPicture(n)
		}
		return f
	}
	for b = b[32:]; len(b) > 0; { // IVF
		n := binary.LittleEndian.Uint32(b)
		unit := [][]byte{b[12 : 12+n]}
		if codec == capture.AV1 {
			if unit, err = capture.SplitOBUs(nil, unit[0]); err != nil {
				t.Fatal(err)
			}
		}
		f.units = append(f.units, unit)
		b = b[12+n:]
	}
	return f
}

// show plays films, a layer each, over and over until the test ends.
func show(t *testing.T, st *forward.Stream, films ...film) {
	t.Helper()
	tracks := make([]capture.Track, len(films))
	streams := make([]*capture.Bitstream, len(films))
	for i, f := range films {
		var err error
		if streams[i], err = capture.NewBitstream(f.codec); err == nil {
			err = streams[i].Observe(f.units[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		tracks[i], _ = streams[i].Track()
		tracks[i].Layer = i
	}
	st.Describe(tracks)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			for i, f := range films {
				frame := capture.Frame{Track: i, RTPTime: uint32(n) * 900, Captured: time.Now()}
				if err := streams[i].Pack(f.units[n%len(f.units)], &frame); err != nil {
					t.Error(err)
					return
				}
				st.Frame(&frame)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	awaitRing(t, st)
}

func codec(mime, fmtp string, pt webrtc.PayloadType) webrtc.RTPCodecParameters {
	c := h264(fmtp, pt)
	c.MimeType = "video/" + mime
	return c
}

// seen puts the frames together that a viewer got, by somebody else's code.
func seen(t *testing.T, codec capture.Codec, packets []*rtp.Packet) (units [][][]byte) {
	t.Helper()
	one := func(decode func(*rtp.Packet) ([]byte, error)) func(*rtp.Packet) ([][]byte, error) {
		return func(p *rtp.Packet) ([][]byte, error) {
			frame, err := decode(p)
			return [][]byte{frame}, err
		}
	}
	h264, h265, vp8, vp9, av1 := &rtph264.Decoder{PacketizationMode: 1}, &rtph265.Decoder{}, &rtpvp8.Decoder{}, &rtpvp9.Decoder{}, &rtpav1.Decoder{}
	for _, d := range []interface{ Init() error }{h264, h265, vp8, vp9, av1} {
		if err := d.Init(); err != nil {
			t.Fatal(err)
		}
	}
	decode := map[capture.Codec]func(*rtp.Packet) ([][]byte, error){
		capture.H264: h264.Decode, capture.H265: h265.Decode, capture.AV1: av1.Decode, capture.VP8: one(vp8.Decode), capture.VP9: one(vp9.Decode),
	}[codec]
	for _, p := range packets {
		if unit, err := decode(p); err == nil {
			units = append(units, unit)
		} else if !strings.Contains(err.Error(), "need more packets") {
			t.Fatalf("%s: %v", codec, err)
		}
	}
	return units
}

// expect waits for more frames than a film has and holds them against it.
func (c *client) expect(t *testing.T, f film) {
	t.Helper()
	c.wait(string(f.codec), frames(2*len(f.units)))
	c.mu.Lock()
	defer c.mu.Unlock()
	units := seen(t, f.codec, c.packets)
	is := func(at int, u [][]byte) bool {
		return slices.EqualFunc(wire(f.codec, f.units[at%len(f.units)]), u, bytes.Equal)
	}
	first := 0
	for first < len(f.units) && !is(first, units[0]) {
		first++
	}
	for i, u := range units {
		if !is(first+i, u) {
			t.Fatalf("%s: frame %d of %d, begun with %d of the film, differs", f.codec, i, len(units), first)
		}
	}
	if s := c.viewer.Stats(); !strings.EqualFold(s.Codec, string(f.codec)) {
		t.Errorf("%s: the viewer has %+v", f.codec, s)
	}
}

// wire is a unit as it is sent: AV1 without delimiters and sizes.
func wire(codec capture.Codec, unit [][]byte) [][]byte {
	if codec != capture.AV1 {
		return unit
	}
	var out [][]byte
	for _, o := range unit {
		if kind := o[0] >> 3; kind != 2 {
			n := 2 // head and size
			if o[1]&0x80 != 0 {
				n++
			}
			out = append(out, append([]byte{o[0] &^ 2}, o[n:]...))
		}
	}
	return out
}

var viewerCodecs = map[capture.Codec]webrtc.RTPCodecParameters{
	capture.H264: h264("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 106),
	capture.H265: codec("H265", "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST", 116),
	capture.VP8:  codec("VP8", "", 96),
	capture.VP9:  codec("VP9", "profile-id=0", 98),
	capture.AV1:  codec("AV1", "level-idx=5;profile=0;tier=0", 45),
}

// Each codec reaches a viewer who offers all of them, as it was recorded.
func TestEachCodecPasses(t *testing.T) {
	s := startSFU(t, nil)
	for name, c := range map[string]capture.Codec{
		"clip.h264": capture.H264, "clip.h265": capture.H265, "vp8.ivf": capture.VP8, "vp9.ivf": capture.VP9, "av1.ivf": capture.AV1,
	} {
		t.Run(name, func(t *testing.T) {
			f := readFilm(t, c, name)
			st := s.AddStream(name, func(int) {})
			show(t, st, f)
			var all []webrtc.RTPCodecParameters
			for _, p := range viewerCodecs {
				all = append(all, p)
			}
			v := newClient(t, clientOptions{codecs: all})
			v.join(s, st)
			v.expect(t, f)
		})
	}
}

// Of a camera that has two codecs each viewer gets the best that it decodes.
func TestViewersOfSeveralCodecs(t *testing.T) {
	s := startSFU(t, nil)
	hevc, avc := readFilm(t, capture.H265, "clip.h265"), readFilm(t, capture.H264, "clip.h264")
	st := s.AddStream("dock", func(int) {})
	show(t, st, hevc, avc)
	for _, c := range []struct {
		offers []capture.Codec
		want   film
	}{
		{[]capture.Codec{capture.H264}, avc},
		{[]capture.Codec{capture.VP8, capture.H265}, hevc},
		{[]capture.Codec{capture.H264, capture.H265}, hevc},
	} {
		var list []webrtc.RTPCodecParameters
		for _, name := range c.offers {
			list = append(list, viewerCodecs[name])
		}
		v := newClient(t, clientOptions{codecs: list})
		v.join(s, st)
		v.expect(t, c.want)
	}
	other := newClient(t, clientOptions{codecs: []webrtc.RTPCodecParameters{viewerCodecs[capture.VP9]}})
	_, _, err := s.Join(t.Context(), st, forward.ViewerOptions{Offer: other.offer(nil)})
	var refused *forward.CodecError
	if !errors.As(err, &refused) || err.Error() != "no common codec: camera has H265, H264; viewer offers VP9" {
		t.Error(err)
	}
}
