package forward

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"edged/capture"
)

// publisherOffer is an offer as Chromium makes it for three encodings and a
// microphone, shortened.
const publisherOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
	"a=fingerprint:sha-256 00:11\r\na=setup:actpass\r\na=mid:0\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\na=rtcp-mux\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\n" +
	"a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n" +
	"a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n" +
	"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n" +
	"a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1;profile-level-id=42e01f\r\n" +
	"a=rid:h send\r\na=rid:m send max-width=640\r\na=rid:l send\r\na=simulcast:send h;~m;l\r\n"

func publicationOf(t testing.TB, text string, sound bool) (*publication, error) {
	t.Helper()
	o, err := parseOffer(text)
	if err != nil {
		return nil, err
	}
	return takePublication(text, o, sound)
}

func TestPublication(t *testing.T) {
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(publisherOffer) }
	var codec *CodecError
	for name, c := range map[string]struct {
		offer  string
		mute   bool
		has    []string // in the answer
		lacks  []string
		rids   []string
		number uint8
		err    error
	}{
		"as it is": {offer: publisherOffer, rids: []string{"h", "m", "l"}, number: 3, has: []string{
			"a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n", "a=recvonly", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 transport-cc",
			"a=extmap:3 ", "a=extmap:10 ", "a=extmap:11 ", "a=rid:m recv", "a=simulcast:recv h;m;l", "a=setup:passive",
		}, lacks: []string{"remb", "H264", "PCMU", "sendonly"}},
		"no sound is wanted": {offer: publisherOffer, mute: true, rids: []string{"h", "m", "l"}, number: 3, has: []string{"m=audio 9", "a=inactive", "a=group:BUNDLE 0 1"}},
		"sound alone":        {offer: edit("m=video 9", "m=video 0"), mute: true, has: []string{"m=audio 9", "m=video 0"}, lacks: []string{"a=inactive\r\na=rtcp-mux"}},
		"not bundled":        {offer: edit("BUNDLE 0 1", "BUNDLE 1"), rids: []string{"h", "m", "l"}, number: 3, has: []string{"m=audio 0", "a=group:BUNDLE 1\r\n"}},
		"a second choice":    {offer: edit("VP8", "XP8"), rids: []string{"h", "m", "l"}, has: []string{"a=rtpmap:98 H264/90000", "profile-level-id=42e01f"}, lacks: []string{"transport-cc"}},
		"more than three":    {offer: edit("send h;~m;l", "send h;m;l;x", "a=rid:l send\r\n", "a=rid:l send\r\na=rid:x send\r\n"), rids: []string{"h", "m", "l"}, number: 3, lacks: []string{"rid:x"}},
		"one of its RIDs":    {offer: edit("send h;~m;l", "send h"), number: 3, lacks: []string{"simulcast", "a=rid", "a=extmap:10"}},
		"RIDs that are none": {offer: edit("send h;~m;l", "send h\x7f;;,"), number: 3, lacks: []string{"simulcast"}},
		"without the RID":    {offer: edit("a=extmap:10 ", "a=extmap:10/recvonly "), number: 3, lacks: []string{"simulcast"}},
		"RTX of itself":      {offer: edit("rtpmap:97 rtx", "rtpmap:97 XP8", "a=rtpmap:96", "a=rtpmap:96 rtx/90000\r\na=fmtp:96 apt=96\r\na=rtpmap:96"), rids: []string{"h", "m", "l"}, number: 3},
		"a viewer":           {offer: edit("a=sendonly", "a=recvonly"), err: codec},
		"unknown codecs":     {offer: edit("VP8", "XP8", "H264", "X264"), err: codec},
		"no media":           {offer: edit("m=video 9", "m=video 0", "m=audio 9", "m=audio 0"), err: codec},
		"plain RTP":          {offer: edit("UDP/TLS/RTP/SAVPF", "RTP/AVP"), err: codec},
		"no fingerprint":     {offer: edit("fingerprint", "finger"), err: ErrOffer},
	} {
		p, err := publicationOf(t, c.offer, !c.mute)
		if c.err != nil || err != nil {
			if !(errors.As(err, &codec) && errors.As(c.err, &codec)) && !errors.Is(err, c.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		answer := p.answer(answerParams{ufrag: "u", pwd: "p", fingerprint: "00:11"})
		for _, s := range c.has {
			if !strings.Contains(answer, s) {
				t.Errorf("%s: no %q in\n%s", name, s, answer)
			}
		}
		for _, s := range c.lacks {
			if strings.Contains(answer, s) {
				t.Errorf("%s: %q in\n%s", name, s, answer)
			}
		}
		o := p.options()
		if !slices.Equal(o.RIDs, c.rids) || o.Extensions.Number != c.number {
			t.Errorf("%s: RIDs %v, number %d", name, o.RIDs, o.Extensions.Number)
		}
		if name == "as it is" && (len(o.Formats) != 3 || o.Formats[96].Codec != capture.VP8 || !o.Formats[96].NACK || o.Formats[97].Codec != "" || o.Formats[111].Kind != capture.Audio) {
			t.Errorf("%s: %+v", name, o.Formats)
		}
	}
}

// Whatever is offered, the answer has a line for each m-line, and what is
// taken can be received.
func FuzzPublication(f *testing.F) {
	f.Add(publisherOffer, true)
	f.Add(strings.ReplaceAll(publisherOffer, "apt=96", "apt=111"), false)
	f.Add(strings.ReplaceAll(publisherOffer, "96 97 98", "96 96 97"), false)
	f.Fuzz(func(t *testing.T, text string, sound bool) {
		p, err := publicationOf(t, text, sound)
		if err != nil {
			return
		}
		answer := p.answer(answerParams{ufrag: "u", pwd: "p", fingerprint: "00:11"})
		if n := strings.Count("\n"+answer, "\nm="); n != len(p.media) {
			t.Fatalf("%d m-lines for %d:\n%s", n, len(p.media), answer)
		}
		if o := p.options(); len(o.Formats) == 0 || len(o.RIDs) > capture.MaxLayers {
			t.Fatalf("%+v", o)
		}
	})
}
