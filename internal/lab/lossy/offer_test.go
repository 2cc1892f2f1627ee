package lossy

import "testing"

func TestWithoutRepairs(t *testing.T) {
	with := "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97 49 35\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:49 flexfec-03/90000\r\na=rtcp-fb:49 goog-remb\r\na=fmtp:49 repair-window=10000000\r\na=fmtp:97 apt=96\r\n"
	without := "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97 35\r\na=rtpmap:96 VP8/90000\r\na=fmtp:97 apt=96\r\n"
	last := "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 49\r\na=rtpmap:49 flexfec-03/90000\r\n"
	for offer, want := range map[string]string{with: without, without: without, last: "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"} {
		if got := withoutRepairs(offer); got != want {
			t.Errorf("%q of %q", got, offer)
		}
	}
}
