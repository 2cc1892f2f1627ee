package forward

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"edged/capture"
)

const offerHead = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 a\r\n" +
	"a=ice-ufrag:AbCd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n"

func videoLine(extra ...string) string {
	return "m=video 9 UDP/TLS/RTP/SAVPF 109 114\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\na=rtcp-mux\r\n" +
		"a=rtpmap:109 H264/90000\r\na=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n" +
		"a=rtpmap:114 rtx/90000\r\na=fmtp:114 apt=109\r\n" + strings.Join(extra, "\r\n") + "\r\n"
}

const audioLine = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"

// answerTo is the answer to an offer, or the error.
func answerTo(text string) (string, []selection, error) {
	o, err := parseOffer(text)
	if err != nil {
		return "", nil, err
	}
	tracks := []capture.Track{h264Track, opusTrack}
	chosen, err := negotiate(tracks, o)
	if err != nil {
		return "", nil, err
	}
	p := answerParams{sessionID: 1, version: 1, ufrag: "ufrag", pwd: "0123456789012345678901", fingerprint: "AA", stream: "dock"}
	for _, c := range chosen {
		p.lanes = append(p.lanes, newLane([]*ring{newRing(tracks[c.tracks[0]].Kind)}, c.clockRate, c.format, testTime))
	}
	return answer(o, chosen, p), chosen, nil
}

func TestUnusualOffers(t *testing.T) {
	for _, c := range []struct {
		name, offer string
		chosen      int    // m-lines that are sent; 0: the offer is refused
		has, lacks  string // of the answer
	}{
		{"plain", offerHead + videoLine("a=mid:0"), 1, "a=group:BUNDLE 0\r\n", ""},
		{"no mid", offerHead + videoLine(), 1, "m=video 9", "a=mid"},
		{"no mid, no group", offerHead + videoLine(), 1, "m=video 9", "BUNDLE"},
		{"no mid twice", offerHead + audioLine + videoLine(), 1, "m=audio 0", "BUNDLE"},
		{"two of one mid", offerHead + videoLine("a=mid:0") + audioLine + "a=mid:0\r\n", 0, "", ""},
		{"two pictures", offerHead + videoLine("a=mid:0") + videoLine("a=mid:1"), 1, "a=group:BUNDLE 0\r\n", ""},
		{"sound first", offerHead + audioLine + "a=mid:a\r\n" + videoLine("a=mid:0"), 2, "a=group:BUNDLE 0 a\r\n", ""},
		{"sound outside of the bundle", offerHead + audioLine + "a=mid:b\r\n" + videoLine("a=mid:0"), 1, "m=audio 0", "BUNDLE b"},
		{"mid with a line break", offerHead + videoLine("a=mid:0\ra=ice-lite"), 0, "", ""},
		{"fmtp with a line break", offerHead + videoLine("a=mid:0", "a=fmtp:109 packetization-mode=1\ra=ice-lite"), 1, "packetization-mode=1", "ice-lite"},
		{"mid with a blank", offerHead + videoLine("a=mid:0 1"), 0, "", ""},
		{"long mid", offerHead + videoLine("a=mid:"+strings.Repeat("x", maxMid+1)), 0, "", ""},
		{"short password", strings.Replace(offerHead, "0123456789012345678901", "short", 1) + videoLine("a=mid:0"), 0, "", ""},
		{"long ufrag", strings.Replace(offerHead, "AbCd", strings.Repeat("u", 257), 1) + videoLine("a=mid:0"), 0, "", ""},
		{"blank in the ufrag", strings.Replace(offerHead, "AbCd", "Ab Cd", 1) + videoLine("a=mid:0"), 0, "", ""},
		{"long fmtp", offerHead + videoLine("a=mid:0", "a=fmtp:109 "+strings.Repeat("x=y;", 5000)), 1, "packetization-mode=1", "x=y"},
		{"RTX of itself", offerHead + videoLine("a=mid:0", "a=fmtp:114 apt=114"), 1, "apt=109", "apt=114"},
		{"RTX of nobody", offerHead + strings.Replace(videoLine("a=mid:0"), "apt=109", "apt=9", 1), 1, "m=video 9 UDP/TLS/RTP/SAVPF 109\r\n", "rtx"},
		{"all m-lines refused", offerHead + strings.Replace(videoLine("a=mid:0"), "m=video 9", "m=video 0", 1), 0, "", ""},
		{"bundle-only", offerHead + strings.Replace(videoLine("a=mid:0", "a=bundle-only"), "m=video 9", "m=video 0", 1), 1, "m=video 9", ""},
		{"too many m-lines", offerHead + strings.Repeat(audioLine, maxMedia+1), 0, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, chosen, err := answerTo(c.offer)
			var codec *CodecError
			if c.chosen == 0 {
				if !errors.Is(err, ErrOffer) && !errors.As(err, &codec) {
					t.Fatalf("%v, want a refusal\n%s", err, text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(chosen) != c.chosen || !strings.Contains(text, c.has) || c.lacks != "" && strings.Contains(text, c.lacks) {
				t.Errorf("%d m-lines; want %d, %q and no %q in\n%s", len(chosen), c.chosen, c.has, c.lacks, text)
			}
			checkLines(t, text)
		})
	}
}

// checkLines holds an answer against SDP's grammar: nothing of the offer may
// have broken a line.
func checkLines(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		if len(line) < 2 || line[1] != '=' || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %q", line)
		}
	}
	if _, err := parseOffer(text); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&b, "a=candidate:1 1 udp 1 192.0.2.1 %d typ host\r\n", i+1)
	}
	o, err := parseOffer(offerHead + videoLine("a=mid:0") + b.String())
	if err != nil || len(o.candidates) != maxCandidates {
		t.Fatalf("%d candidates, %v", len(o.candidates), err)
	}
	for text, want := range map[string]string{
		"candidate:1 1 udp 1 192.0.2.1 5000 typ host":                               "192.0.2.1",
		"a=candidate:1 1 udp 1 2001:db8::1 5000 typ host":                           "2001:db8::1",
		"candidate:1 1 udp 1 4e0c1a33-c1f1-4f4e-9e8c-0c4ed4c7ad2c.local 5 typ host": "",
		"candidate:1 1 udp 1 0.0.0.0 5000 typ host":                                 "",
		"candidate:1 1 udp 1 224.0.0.1 5000 typ host":                               "",
		"candidate:1 1 udp 1 192.0.2.1 0 typ host":                                  "",
		"candidate:1 1 udp 1 example.org 5000 typ host":                             "",
		"end-of-candidates": "", "": "",
	} {
		c, err := parseCandidate(text)
		if err != nil && !errors.Is(err, ErrOffer) {
			t.Errorf("%q: %v", text, err)
		}
		if got := ""; c != nil {
			if got = c.Address(); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		} else if want != "" {
			t.Errorf("%q: none (%v)", text, err)
		}
	}
}

func FuzzCandidate(f *testing.F) {
	f.Add("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host generation 0 ufrag abcd")
	f.Add("a=candidate:1 1 tcp 1 2001:db8::1 9 typ srflx raddr 10.0.0.1 rport 9 tcptype active")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCandidate(text)
		if err != nil && !errors.Is(err, ErrOffer) {
			t.Fatalf("%v is no ErrOffer", err)
		}
		if c != nil && (err != nil || c.Port() == 0) {
			t.Fatalf("%v and %v", c, err)
		}
	})
}
