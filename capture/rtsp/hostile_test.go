package rtsp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
)

func TestHostileCamera(t *testing.T) {
	idr := append([]byte{0x65, 0x88}, make([]byte, 100)...)
	fuMiddle := append([]byte{0x7c, 0x05}, make([]byte, 60000)...)
	for name, c := range map[string]struct {
		script  func(*peer)
		code    capture.Code
		mention string
	}{
		"hangs up": {func(*peer) {}, capture.CodeUnplugged, "closed the connection"},
		"hangs up on setup": {camera{on: map[string]func(*peer, asked) bool{
			"SETUP": func(*peer, asked) bool { return false },
		}}.play, capture.CodeUnplugged, "closed the connection"},
		"hangs up playing": {well(func(*peer) {}), capture.CodeUnplugged, "closed the connection"},
		"says nothing":     {func(p *peer) { _, _ = io.Copy(io.Discard, p) }, capture.CodeUnreachable, "does not answer"},
		"garbage":          {flood("", "\x00\xff\x13\x37garbage"), capture.CodeProtocol, "before the first picture"},
		"other protocol":   {flood("RTSP/9.9 200 OK\r\n", "\r\n"), capture.CodeProtocol, "RTSP/1.0"},
		"endless headers":  {flood("RTSP/1.0 200 OK\r\n", "X: y\r\n"), capture.CodeProtocol, "255"},
		"endless header":   {flood("RTSP/1.0 200 OK\r\nX: ", "y"), capture.CodeProtocol, "makes no sense"},
		"endless blanks":   {flood("RTSP/1.0 200 OK\r\nX:", " "), capture.CodeProtocol, "before the first picture"},
		"endless answers":  {flood("", "RTSP/1.0 200 OK\r\nCSeq: 999\r\n\r\n"), capture.CodeProtocol, "before the first picture"},
		"huge body":        {flood("RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n", "y"), capture.CodeProtocol, "Content-Length"},
		"media too early":  {flood("", "$\x00\x00\x04abcd"), capture.CodeProtocol, "interleaved"},
		"redirect loop": {func(p *peer) {
			describe("302 Moved", "Location: rtsp://"+p.LocalAddr().String()+"/again")(p)
		}, capture.CodeProtocol, "redirects without end"},
		"redirect elsewhere": {describe("302 Moved", "Location: rtsp://127.0.0.2:9/"), capture.CodeRefused, `redirects to "127.0.0.2"`},
		"not found":          {describe("404 Not Found"), capture.CodeNotFound, "no such path"},
		"no credentials":     {describe("401 Unauthorized", `WWW-Authenticate: Digest realm="x", nonce="y"`), capture.CodeUnauthorized, "password"},
		"strange scheme":     {describe("401 Unauthorized", `WWW-Authenticate: Bearer`), capture.CodeUnauthorized, "authentication"},
		"too many clients":   {describe("453 Not Enough Bandwidth"), capture.CodeBusy, "453"},
		"forbidden":          {describe("403 Forbidden"), capture.CodeRefused, "403"},
		"no description":     {describe("200 OK"), capture.CodeProtocol, "Content-Type"},
		"THEORA only": {describe("200 OK", sdp("video 0 RTP/AVP 96", "a=rtpmap:96 THEORA/90000\r\n")),
			capture.CodeCodec, "video THEORA"},
		"H.264 interleaved": {describe("200 OK", sdp("video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=2\r\n")),
			capture.CodeCodec, "packetization mode 2"},
		"H.265 out of order": {describe("200 OK", sdp("video 0 RTP/AVP 96", "a=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-max-don-diff=3\r\n")),
			capture.CodeCodec, "sprop-max-don-diff=3"},
		"MJPEG only":  {describe("200 OK", sdp("video 0 RTP/AVP 26", "")), capture.CodeCodec, "video JPEG"},
		"sound only":  {describe("200 OK", sdp("audio 0 RTP/AVP 0", "")), capture.CodeCodec, "audio PCMU"},
		"SDP garbage": {describe("200 OK", "v=0\r\nnonsense"), capture.CodeProtocol, "SDP"},
		"other payload type": {well(func(p *peer) {
			for p.rtp(0, 98, true, 0, []byte{0x40, 1, 2}) == nil {
			}
		}), capture.CodeCodec, "announced H.264"},
		"H.265 in its place": {well(func(p *peer) {
			for p.rtp(0, 96, true, 0, []byte{0x42, 1, 2, 3}) == nil {
			}
		}), capture.CodeCodec, "announced H.264"},
		"gigantic fragments": {well(func(p *peer) {
			err := p.rtp(0, 96, false, 0, []byte{0x7c, 0x85, 0x80})
			for err == nil {
				err = p.rtp(0, 96, false, 0, fuMiddle)
			}
		}), capture.CodeProtocol, "more than 4194304 bytes"},
		"endless unit": {well(func(p *peer) {
			for p.rtp(0, 96, false, 0, idr[:2]) == nil {
			}
		}), capture.CodeProtocol, "more than 2048 parts"},
		"broken SPS": {well(func(p *peer) {
			_ = p.rtp(0, 96, true, 0, []byte{0x67, 1})
			_, _ = io.Copy(io.Discard, p)
		}), capture.CodeProtocol, "SPS"},
		"wrong channels": {well(func(p *peer) {
			for range 100 {
				_ = p.rtp(7, 96, true, 0, idr)
			}
		}), capture.CodeUnplugged, "closed the connection"},
		"ends the session": {well(func(p *peer) {
			_, _ = io.WriteString(p, "TEARDOWN rtsp://127.0.0.1/ RTSP/1.0\r\nCSeq: 1\r\n\r\n")
			_, _ = io.Copy(io.Discard, p)
		}), capture.CodeUnplugged, "ended the session"},
		"falls silent": {well(func(p *peer) { _, _ = io.Copy(io.Discard, p) }), capture.CodeStalled, "nothing comes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := serve(t, c.script)
			s := source(t, "rtsp://admin:"+secret+"@"+at+"/main?password="+secret+"#transport=tcp")
			if name == "no credentials" {
				s = source(t, "rtsp://"+at+"/main?password="+secret+"#transport=tcp")
			}
			if c.code == capture.CodeUnreachable || c.code == capture.CodeStalled {
				s.limits.step = 100 * time.Millisecond
			}
			err := run(t, s, newRecord())
			t.Log(err)
			if got := capture.CodeOf(err); got != c.code {
				t.Errorf("code %q, want %q", got, c.code)
			}
			for _, want := range []string{c.mention, "rtsp://" + at + "/main?password=***: "} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not mention %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "admin") {
				t.Errorf("%q shows credentials", err)
			}
		})
	}
}

func TestTransportHeaderNamesAHost(t *testing.T) {
	at := serve(t, camera{on: map[string]func(*peer, asked) bool{
		"SETUP": says("200 OK", "Transport: RTP/AVP;unicast;client_port=1-2;server_port=5004-5005;source=evil.example", "Session: 1"),
	}}.play)
	err := run(t, source(t, "rtsp://"+at+"/"), newRecord())
	if capture.CodeOf(err) != capture.CodeProtocol || !strings.Contains(err.Error(), "names a host") {
		t.Error(err)
	}
}

func TestNobodyListens(t *testing.T) {
	l := listenTCP(t)
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run(t, source(t, "rtsp://"+at+"/"), newRecord()); capture.CodeOf(err) != capture.CodeRefused {
		t.Error(err)
	}
}

// The owner leaves while the camera hangs, at each step: Run ends with nil.
func TestCancelWhileCameraHangs(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, step := range []string{"OPTIONS", "DESCRIBE", "SETUP", "PLAY", "media"} {
		for _, scheme := range []string{"rtsp", "rtsps"} {
			if scheme == "rtsps" && step != "OPTIONS" {
				continue // never answers the TLS hello
			}
			t.Run(scheme+" "+step, func(t *testing.T) {
				hanging := make(chan struct{}, 1)
				hang := func(p *peer) {
					hanging <- struct{}{}
					buf := make([]byte, 1)
					_, _ = p.Read(buf) // once, then reads no more
					<-t.Context().Done()
				}
				stuck := func(p *peer, _ asked) bool { hang(p); return false }
				script := camera{on: map[string]func(*peer, asked) bool{step: stuck}, media: hang}.play
				if scheme == "rtsps" {
					script = hang
				}
				at := serve(t, script)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- source(t, scheme+"://"+at+"/x#transport=tcp").Run(ctx, newRecord()) }()
				<-hanging
				cancel()
				select {
				case err := <-ended:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(8 * time.Second): // less than the limit of a step
					t.Fatal("Run does not end")
				}
			})
		}
	}
}

// A camera that changes its codec mid-way is told apart from one that loses
// packets, and what came before was delivered.
func TestCodecChangesMidway(t *testing.T) {
	at := serve(t, well(func(p *peer) {
		keyframe(p, 1000)
		for i := uint32(2); p.rtp(0, 96, true, 1000*i, []byte{0x02, 1, 0xd0, 3}) == nil; i++ {
		}
	}))
	r := newRecord()
	err := run(t, source(t, "rtsp://"+at+"/#transport=tcp"), r)
	if capture.CodeOf(err) != capture.CodeCodec {
		t.Error(err)
	}
	if len(r.frames) != 1 || !r.frames[0].Keyframe || len(r.tracks) != 1 || r.tracks[0].Width != 320 {
		t.Errorf("%+v %+v", r.tracks, r.frames)
	}
}

// No packet comes by UDP, so the source asks again for TCP.
func TestFallBackToTCP(t *testing.T) {
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	port := udp.LocalAddr().(*net.UDPAddr).Port
	setups := make(chan string, 4)
	at := serve(t, camera{on: map[string]func(*peer, asked) bool{"SETUP": func(p *peer, r asked) bool {
		if strings.Contains(r.header.Get("Transport"), "TCP") {
			setups <- "tcp"
			return says("200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 2")(p, r)
		}
		setups <- "udp"
		_, ports, _ := strings.Cut(r.header.Get("Transport"), "client_port=")
		return says("200 OK", fmt.Sprintf("Transport: RTP/AVP;unicast;client_port=%s;server_port=%d-%d", ports, port, port+1), "Session: 1")(p, r)
	}}, media: func(p *peer) {
		if len(setups) >= 2 { // by now the transport is TCP
			keyframe(p, 1000)
			return
		}
		_, _ = p.request() // TEARDOWN
	}}.play)
	s := source(t, "rtsp://"+at+"/")
	s.limits.udp = 50 * time.Millisecond
	for range 2 {
		r := newRecord()
		if err := run(t, s, r); capture.CodeOf(err) != capture.CodeUnplugged || len(r.frames) != 1 {
			t.Errorf("%v, %d frames", err, len(r.frames))
		}
	}
	close(setups)
	if got := slices.Collect(func(yield func(string) bool) {
		for s := range setups {
			yield(s)
		}
	}); !slices.Equal(got, []string{"udp", "tcp", "tcp"}) {
		t.Errorf("asked for %v: a lesson is learned once", got)
	}
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	at := serveOn(t, tls.NewListener(listenTCP(t), web.TLS), well(func(p *peer) { keyframe(p, 1000) }))

	err := run(t, source(t, "rtsps://"+at+"/"), newRecord())
	if capture.CodeOf(err) != capture.CodeRefused || !strings.Contains(err.Error(), "certificate is not trusted") {
		t.Error(err)
	}

	s := source(t, "rtsps://"+at+"/")
	s.tls = web.Client().Transport.(*http.Transport).TLSClientConfig
	r := newRecord()
	if err := run(t, s, r); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Error(err)
	}
	if len(r.frames) != 1 {
		t.Errorf("%d frames", len(r.frames))
	}
}

// A pinned certificate is trusted though nobody vouches for it, and no other.
func TestPinnedCertificate(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	at := serveOn(t, tls.NewListener(listenTCP(t), web.TLS), well(func(p *peer) { keyframe(p, 1000) }))
	sum := sha256.Sum256(web.Certificate().Raw)
	right := strings.ToUpper(fmt.Sprintf("%x:%x", sum[:1], sum[1:])) // openssl prints colons and capitals
	for print, want := range map[string]capture.Code{right: capture.CodeUnplugged, strings.Repeat("ab", 32): capture.CodeRefused} {
		s, err := New(capture.Config{Source: "rtsps://" + at + "/", TLSFingerprint: print}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r := newRecord()
		err = run(t, s, r)
		if got := capture.CodeOf(err); got != want || (len(r.frames) == 1) != (print == right) {
			t.Errorf("%v, %d frames", err, len(r.frames))
		}
		if print != right && !strings.Contains(err.Error(), fmt.Sprintf("another certificate than the configured one: its SHA-256 is %x", sum)) {
			t.Error(err)
		}
	}
	for _, bad := range []string{"12", "zz" + right[2:], right + "00"} {
		if _, err := New(capture.Config{Source: "rtsps://" + at + "/", TLSFingerprint: bad}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
