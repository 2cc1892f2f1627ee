package rtsp

import (
	"strings"
	"testing"

	"edged/capture"
)

// Whatever a camera says in its description, its transport header and on the
// connection afterwards, Run ends with a code when the connection does.
func FuzzSession(f *testing.F) {
	const transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
	f.Add(h264SDP, transport, []byte("$\x00\x00\x0e\x80\xe0\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x67\x42"))
	f.Add(h264SDP, transport, []byte("$\x00\x00\x12\x80\xe0\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x78\x00\x02\x67\x42\x00"))
	f.Add(h264SDP, transport, []byte("$\x01\x00\x1c\x80\xc8\x00\x06\x00\x00\x00\x01aaaabbbbccccddddeeee"))
	f.Add(h264SDP+"a=key-mgmt:mikey AQAFgM0=\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\n", transport+";ssrc=1;mode=\"PLAY\"", []byte("RTSP/1.0 200 OK\r\n\r\n"))
	f.Add(sdp("video 0 RTP/AVP 96 97", "a=rtpmap:96 H264/90000\r\na=rtpmap:97 H265/90000\r\na=fmtp:96 sprop-parameter-sets=Z0LADdoFB+hAAAADAEAAAAyjxQqo,aM48gA==\r\n"), "RTP/AVP;unicast;client_port=1-2;server_port=3-4;source=127.0.0.1", []byte("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, description, transport string, stream []byte) {
		if strings.ContainsAny(transport, "\r\n") || !strings.HasPrefix(description, "v=0") {
			return
		}
		at := serve(t, camera{sdp: description, on: map[string]func(*peer, asked) bool{
			"SETUP": says("200 OK", "Transport: "+transport, "Session: 1"),
		}, media: func(p *peer) { _, _ = p.Write(stream) }}.play)
		err := run(t, source(t, "rtsp://"+at+"/"), discard{t})
		if err == nil {
			t.Fatal("no error")
		}
		switch code := capture.CodeOf(err); code {
		case capture.CodeProtocol, capture.CodeUnplugged, capture.CodeCodec, capture.CodeRefused:
		default:
			t.Fatalf("%s: %v", code, err)
		}
	})
}

type discard struct{ t *testing.T }

func (discard) Describe([]capture.Track) {}
func (d discard) Frame(f *capture.Frame) {
	for _, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			d.t.Errorf("payload of %d bytes", len(p))
		}
	}
}
