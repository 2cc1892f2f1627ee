package forward

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"edged/capture"
)

func video(c capture.Codec, layer int, fmtp string) capture.Track {
	return capture.Track{Kind: capture.Video, Layer: layer, Codec: c, ClockRate: 90000, Fmtp: fmtp}
}

// wanted is an offer of one video m-line whose payload types, from 100 on,
// are "CODEC fmtp".
func wanted(formats ...string) *offer {
	m := offeredMedia{kind: "video", mid: "0", proto: "UDP/TLS/RTP/SAVPF", receives: true}
	for i, text := range formats {
		codec, fmtp, _ := strings.Cut(text, " ")
		m.formats = append(m.formats, format{pt: uint8(100 + i), codec: codec, clockRate: 90000, fmtp: fmtp})
	}
	return &offer{media: []offeredMedia{m}, bundle: []string{"0"}}
}

// The best of what is offered, by codec and parameters.
func TestMatch(t *testing.T) {
	h264 := func(ids ...string) (out []string) {
		for _, id := range ids {
			out = append(out, "H264 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id="+id)
		}
		return out
	}
	all := h264("42001f", "42e01f", "4d001f", "f4001f", "64001f")
	avc := func(id string) capture.Track {
		return video(capture.H264, 0, "profile-level-id="+id+";packetization-mode=1")
	}
	for _, c := range []struct {
		name  string
		track capture.Track
		offer []string
		want  int // index into the offer; -1: refused
	}{
		{"baseline", avc("42001f"), all, 0},
		{"constrained baseline", avc("42c01f"), all, 1},
		{"main that is constrained baseline", avc("4d801f"), all, 1},
		{"main", avc("4d0028"), all, 2},
		{"high", avc("640028"), all, 4},
		{"constrained high", avc("640c28"), all, 4},
		{"high 4:4:4", avc("f4001f"), all, 3},
		{"main for high", avc("4d0028"), h264("42e01f", "64001f"), 1},
		{"constrained baseline for main", avc("42e01f"), h264("f4001f", "4d001f"), 1},
		{"baseline for constrained baseline", avc("42001f"), h264("64001f", "42e01f"), 1},
		{"high for Chromium without it", avc("640028"), all[:4], 2},
		{"high for constrained baseline", avc("640028"), h264("42e01f"), 0},
		{"high for 4:4:4", avc("640028"), h264("f4001f"), 0},
		{"not said", avc(""), h264("42e01f"), 0},
		{"not said by the viewer", avc("42001f"), []string{"H264 packetization-mode=1"}, 0},
		{"mode 0", avc("42e01f"), []string{"H264 packetization-mode=0;profile-level-id=42e01f", "H264 profile-level-id=42e01f"}, -1},

		{"H.265", video(capture.H265, 0, "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"), []string{"H265 profile-id=2", "H265 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"}, 1},
		{"H.265 main for main 10", video(capture.H265, 0, "profile-id=1"), []string{"H265 profile-id=2"}, 0},
		{"H.265 main 10 for main", video(capture.H265, 0, "profile-id=2"), []string{"H265 "}, -1},
		{"H.265 defaults", video(capture.H265, 0, "level-id=93;profile-id=1;tier-flag=0"), []string{"h265"}, 0},
		{"H.265 level too high", video(capture.H265, 0, "level-id=153;profile-id=1"), []string{"H265 level-id=93", "H265 level-id=156"}, 1},
		{"H.265 level too high, nothing else", video(capture.H265, 0, "level-id=153;profile-id=1"), []string{"H265 level-id=93"}, 0},
		{"H.265 many streams", video(capture.H265, 0, "profile-id=1"), []string{"H265 tx-mode=MRST"}, -1},
		{"H.265 nonsense", video(capture.H265, 0, "profile-id=1"), []string{"H265 profile-id=x"}, -1},

		{"VP9", video(capture.VP9, 0, "profile-id=0"), []string{"VP9 profile-id=2", "VP9 profile-id=0"}, 1},
		{"VP9 by default", video(capture.VP9, 0, "profile-id=0"), []string{"VP9 profile-id=2", "VP9"}, 1},
		{"VP9 profile 2", video(capture.VP9, 0, "profile-id=2"), []string{"VP9 profile-id=0"}, -1},
		{"AV1", video(capture.AV1, 0, "level-idx=8;profile=0;tier=0"), []string{"AV1 profile=1;level-idx=5;tier=0", "AV1 level-idx=5;profile=0;tier=0"}, 1},
		{"AV1 in a higher profile", video(capture.AV1, 0, "level-idx=4;profile=0;tier=0"), []string{"AV1 profile=1"}, 0},
		{"AV1 profile 1", video(capture.AV1, 0, "level-idx=4;profile=1;tier=0"), []string{"AV1"}, -1},
		{"VP8", video(capture.VP8, 0, ""), []string{"VP9", "vp8"}, 1},
	} {
		got, err := negotiate([]capture.Track{c.track}, wanted(c.offer...))
		if c.want < 0 {
			if !errors.As(err, new(*CodecError)) {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || int(got[0].pt) != 100+c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.offer[c.want])
		}
	}
}

// Each viewer gets the best that it can decode; layers are of one codec.
func TestSeveralCodecs(t *testing.T) {
	main265, sub264 := video(capture.H265, 0, "profile-id=1"), video(capture.H264, 1, "profile-level-id=42e01f")
	low265 := video(capture.H265, 2, "profile-id=1")
	const avc, hevc = "H264 packetization-mode=1;profile-level-id=42e01f", "H265 profile-id=1"
	for _, c := range []struct {
		offer []string
		want  string
	}{
		{[]string{"VP8", avc}, "[1] H264"},
		{[]string{avc, hevc}, "[0 2] H265"},
		{[]string{hevc}, "[0 2] H265"},
		{[]string{avc, "H265 profile-id=3"}, "[1] H264"},
	} {
		got, err := negotiate([]capture.Track{main265, sub264, low265}, wanted(c.offer...))
		if err != nil {
			t.Errorf("%v: %v", c.offer, err)
		} else if s := fmt.Sprint(got[0].tracks, " ", got[0].codec); s != c.want || len(got) != 1 {
			t.Errorf("%v: %s, want %s", c.offer, s, c.want)
		}
	}
}

// A refusal names both sides, and what keeps them apart.
func TestRefusalNamesBothSides(t *testing.T) {
	for want, c := range map[string]struct {
		tracks []capture.Track
		offer  *offer
	}{
		"camera has H265, VP9; viewer offers VP8, H264": {
			[]capture.Track{video(capture.H265, 0, "profile-id=1"), video(capture.H265, 1, "profile-id=1"), video(capture.VP9, 2, "")},
			wanted("VP8", "rtx apt=100", "H264 packetization-mode=1", "red")},
		"camera has H264 (packetization-mode=1); viewer offers VP8, H264 (packetization-mode=0)": {
			[]capture.Track{video(capture.H264, 0, "profile-level-id=42e01f;packetization-mode=1")}, wanted("VP8", "H264 profile-level-id=42e01f")},
		"camera has VP9 (profile-id=2); viewer offers VP9 (profile-id=0), VP9 (profile-id=1)": {
			[]capture.Track{video(capture.VP9, 0, "profile-id=2")}, wanted("VP9", "VP9 profile-id=1")},
		"camera has H265; viewer offers no video": {[]capture.Track{video(capture.H265, 0, "")}, &offer{}},
	} {
		_, err := negotiate(c.tracks, c.offer)
		if err == nil || !strings.HasSuffix(err.Error(), "no common codec: "+want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The level of the answer is the camera's where the offer allows that.
func TestAnsweredLevel(t *testing.T) {
	const offer31 = "packetization-mode=1;profile-level-id=42e01f"
	for _, c := range []struct{ have, offer, want string }{
		{"640028", "level-asymmetry-allowed=1;" + offer31, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e028"},
		{"640028", offer31, offer31},
		{"42e00d", "level-asymmetry-allowed=1;" + offer31, "level-asymmetry-allowed=1;" + offer31},
		{"42e028", "level-asymmetry-allowed=1; profile-level-id=42E01F;packetization-mode=1", "level-asymmetry-allowed=1;profile-level-id=42e028;packetization-mode=1"},
		{"", "level-asymmetry-allowed=1;" + offer31, "level-asymmetry-allowed=1;" + offer31},
	} {
		if got := answered(video(capture.H264, 0, "profile-level-id="+c.have), c.offer); got != c.want {
			t.Errorf("camera %s, offer %s: %s", c.have, c.offer, got)
		}
	}
	if got := answered(video(capture.AV1, 0, "level-idx=9"), "level-idx=5"); got != "level-idx=5" {
		t.Errorf("AV1: %s", got)
	}
}
