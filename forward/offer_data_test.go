package forward

import (
	"strings"
	"testing"
)

const dataLine = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"

// TestDataChannelsAreNegotiated: what can be served is taken, wherever it
// stands; anything else is refused and takes nothing with it.
func TestDataChannelsAreNegotiated(t *testing.T) {
	video := videoLine("a=mid:0")
	edit := func(old, new string) string { return offerHead + video + strings.Replace(dataLine, old, new, 1) }
	for _, c := range []struct {
		name, offer string
		taken       bool
		bundle      string
	}{
		{"last", offerHead + video + dataLine, true, "0 1"},
		{"first", offerHead + dataLine + video, true, "0 1"},
		{"between", offerHead + audioLine + "a=mid:a\r\n" + dataLine + video, true, "0 1 a"},
		{"over TCP", edit("UDP/", "TCP/"), true, "0 1"},
		{"any size", edit("size:262144", "size:0"), true, "0 1"},
		{"no size", edit("a=max-message-size:262144\r\n", ""), true, "0 1"},
		{"bundle-only", edit("m=application 9", "a=bundle-only\r\nm=application 0"), false, "0"}, // in the wrong place
		{"bundle-only in its place", edit("m=application 9", "m=application 0") + "a=bundle-only\r\n", true, "0 1"},
		{"refused by the viewer", edit("m=application 9", "m=application 0"), false, "0"},
		{"no port", edit("a=sctp-port:5000\r\n", ""), false, "0"},
		{"port 0", edit("port:5000", "port:0"), false, "0"},
		{"port without sense", edit("port:5000", "port:-1"), false, "0"},
		{"port too high", edit("port:5000", "port:65536"), false, "0"},
		{"size too small", edit("size:262144", "size:100"), false, "0"},
		{"size without sense", edit("size:262144", "size:many"), false, "0"},
		{"old form", edit("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"), false, "0"},
		{"another protocol", edit("webrtc-datachannel", "bfcp"), false, "0"},
		{"not bundled", edit("mid:1", "mid:9"), false, "0"},
		{"no mid", edit("a=mid:1\r\n", ""), false, "0"},
		{"picture not bundled", offerHead + videoLine("a=mid:9") + dataLine, false, ""},
		{"second", edit("", dataLine+strings.Replace(dataLine, "mid:1", "mid:a", 1)), false, ""}, // two of one mid, see below
	} {
		t.Run(c.name, func(t *testing.T) {
			text, chosen, err := answerTo(c.offer)
			if c.name == "second" {
				if err == nil {
					t.Error("two m-lines of one mid were taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkLines(t, text)
			taken := strings.Contains(text, "m=application 9 ") && strings.Contains(text, "\r\na=sctp-port:5000\r\na=max-message-size:1024\r\n")
			refused := strings.Contains(text, "m=application 0 ")
			if taken != c.taken || refused == c.taken || len(chosen) == 0 {
				t.Errorf("taken %v, refused %v, want taken %v in\n%s", taken, refused, c.taken, text)
			}
			if group := "a=group:BUNDLE " + c.bundle + "\r\n"; c.bundle != "" && !strings.Contains(text, group) {
				t.Errorf("no %q in\n%s", group, text)
			}
		})
	}
	text, _, err := answerTo(offerHead + dataLine + video + strings.Replace(dataLine, "mid:1", "mid:a", 1))
	if err != nil || strings.Count(text, "m=application 9 ") != 1 || strings.Count(text, "m=application 0 ") != 1 {
		t.Errorf("of two, one is served: %v\n%s", err, text)
	}
	if _, _, err := answerTo(offerHead + dataLine); err == nil {
		t.Error("an offer without media was taken")
	}
}
