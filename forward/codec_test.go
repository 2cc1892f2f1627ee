package forward

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"edged/capture"
)

// chrome is the video part of an offer as Chromium makes it, shortened.
const chrome = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 114 127 125\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n" +
	"a=ice-ufrag:AbCd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\n" +
	"a=fingerprint:sha-256 AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99\r\n" +
	"a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:toffset\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n" +
	"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n" +
	"a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n" +
	"a=rtpmap:103 H264/90000\r\na=rtcp-fb:103 nack\r\na=rtcp-fb:103 nack pli\r\na=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\n" +
	"a=rtpmap:104 rtx/90000\r\na=fmtp:104 apt=103\r\n" +
	"a=rtpmap:107 H264/90000\r\na=fmtp:107 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f\r\n" +
	"a=rtpmap:108 rtx/90000\r\na=fmtp:108 apt=107\r\n" +
	"a=rtpmap:109 H264/90000\r\na=rtcp-fb:109 ccm fir\r\na=rtcp-fb:109 nack\r\na=rtcp-fb:109 nack pli\r\na=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n" +
	"a=rtpmap:114 rtx/90000\r\na=fmtp:114 apt=109\r\n" +
	"a=rtpmap:127 H264/90000\r\na=fmtp:127 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f\r\n" +
	"a=rtpmap:125 red/90000\r\n" +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sctp-port:5000\r\n"

var (
	h264Track = capture.Track{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Fmtp: "profile-level-id=42e01f;packetization-mode=1"}
	vp8Track  = capture.Track{Kind: capture.Video, Codec: capture.VP8, ClockRate: 90000}
	av1Track  = capture.Track{Kind: capture.Video, Codec: capture.AV1, ClockRate: 90000}
	opusTrack = capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}
)

func TestNegotiate(t *testing.T) {
	o, err := parseOffer(chrome)
	if err != nil {
		t.Fatal(err)
	}
	low := h264Track
	low.Layer = 1
	for _, c := range []struct {
		name   string
		tracks []capture.Track
		want   string // track:media:pt:rtx
	}{
		{"exact profile", []capture.Track{h264Track}, "0:0:109:114"},
		{"best layer first", []capture.Track{low, h264Track}, "1:0:109:114"},
		{"a profile that is not offered", []capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Fmtp: "profile-level-id=640028;packetization-mode=1"}}, "0:0:127:0"},
		{"VP8", []capture.Track{vp8Track}, "0:0:96:97"},
		{"what can be decoded", []capture.Track{av1Track, vp8Track}, "1:0:96:97"},
		{"no m-line for the sound", []capture.Track{h264Track, opusTrack}, "0:0:109:114"},
	} {
		got, err := negotiate(c.tracks, o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s := fmt.Sprintf("%d:%d:%d:%d", got[0].tracks[0], got[0].media, got[0].pt, got[0].rtx); s != c.want || len(got) != 1 {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
	_, err = negotiate([]capture.Track{av1Track}, o)
	var codec *CodecError
	if !errors.As(err, &codec) || !strings.Contains(err.Error(), "camera has AV1; viewer offers VP8, H264") {
		t.Errorf("AV1: %v", err)
	}
	sending, err := parseOffer(strings.Replace(chrome, "a=recvonly", "a=sendonly", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := negotiate([]capture.Track{h264Track}, sending); !errors.As(err, &codec) {
		t.Errorf("an offer that wants to send: %v", err)
	}
}

// Every order of m-lines gets an answer of the same order, with what is not
// sent refused.
func TestAnswerMirrorsTheOffer(t *testing.T) {
	head, rest, _ := strings.Cut(chrome, "m=video")
	video, data, _ := strings.Cut("m=video"+rest, "m=application")
	data = "m=application" + data
	audio := "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
	for _, order := range [][]string{{video}, {video, data}, {data, video}, {audio, data, video}, {video, audio, strings.Replace(video, "a=mid:0", "a=mid:2", 1)}} {
		o, err := parseOffer(head + strings.Join(order, ""))
		if err != nil {
			t.Fatal(err)
		}
		tracks := []capture.Track{h264Track, opusTrack}
		chosen, err := negotiate(tracks, o)
		if err != nil {
			t.Fatal(err)
		}
		p := answerParams{sessionID: 1, version: 1, ufrag: "ufrag", pwd: "0123456789012345678901", fingerprint: "AA", stream: "dock", candidates: []string{"candidate:1 1 udp 1 192.0.2.1 8189 typ host"}}
		for _, c := range chosen {
			p.lanes = append(p.lanes, newLane([]*ring{newRing(tracks[c.tracks[0]].Kind)}, c.clockRate, c.format, testTime))
		}
		text := answer(o, chosen, p)
		back, err := parseOffer(text) // an answer has all that an offer must have
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if len(back.media) != len(o.media) {
			t.Fatalf("%d m-lines for %d", len(back.media), len(o.media))
		}
		sent := 0
		for i, m := range back.media {
			if m.kind != o.media[i].kind || m.mid != o.media[i].mid {
				t.Errorf("m-line %d is %s %s, want %s %s", i, m.kind, m.mid, o.media[i].kind, o.media[i].mid)
			}
			if !m.rejected {
				sent++
			}
		}
		want := len(chosen)
		if slices.Contains(order, data) {
			want++
		}
		if sent != want {
			t.Errorf("%d m-lines are taken, want %d\n%s", sent, want, text)
		}
	}
}

func FuzzOffer(f *testing.F) {
	f.Add(chrome)
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=fmtp:96 apt=96\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOffer(text)
		if err != nil {
			if !errors.Is(err, ErrOffer) {
				t.Fatalf("%v is no ErrOffer", err)
			}
			return
		}
		tracks := []capture.Track{h264Track, vp8Track, opusTrack}
		chosen, err := negotiate(tracks, o)
		if err != nil {
			return
		}
		p := answerParams{ufrag: "uf", pwd: "pw", fingerprint: "AA", stream: "dock"}
		for _, c := range chosen {
			p.lanes = append(p.lanes, newLane([]*ring{newRing(tracks[c.tracks[0]].Kind)}, c.clockRate, c.format, testTime))
		}
		if strings.Count(answer(o, chosen, p), "m=") < len(o.media) {
			t.Fatal("the answer lacks m-lines")
		}
	})
}
