package rtsp

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"edged/capture"
)

// overUDP answers SETUP with a socket of the camera's, from which it then
// sends.
func overUDP(t *testing.T) func(*peer, asked) bool {
	return func(p *peer, r asked) bool {
		var rtp, rtcp int
		_, ports, _ := strings.Cut(r.header.Get("Transport"), "client_port=")
		if _, err := fmt.Sscanf(ports, "%d-%d", &rtp, &rtcp); err != nil {
			t.Errorf("transport %q", r.header.Get("Transport"))
			return false
		}
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: rtp})
		if err != nil {
			t.Error(err)
			return false
		}
		t.Cleanup(func() { _ = c.Close() })
		p.udp = c
		own := c.LocalAddr().(*net.UDPAddr).Port
		p.answer(r, "200 OK", fmt.Sprintf("Transport: RTP/AVP;unicast;client_port=%s;server_port=%d-%d", ports, own, own+1), "Session: 1")
		return true
	}
}

// What cameras do to the numbers and times of their packets costs at most the
// picture at that place, and viewers are told.
func TestQuirks(t *testing.T) {
	for name, c := range map[string]struct {
		quirk func(p *peer, rtpTime *uint32) // between two keyframes
		lost  bool
	}{
		"nothing":                   {func(*peer, *uint32) {}, false},
		"a sequence that wraps":     {func(*peer, *uint32) {}, false}, // it begins just before
		"a sequence that jumps":     {func(p *peer, _ *uint32) { p.seq += 1000 }, true},
		"a sequence that jumps far": {func(p *peer, _ *uint32) { p.seq += 40000 }, true},
		"a sequence set back":       {func(p *peer, _ *uint32) { p.seq = 7 }, true},
		"another sender":            {func(p *peer, _ *uint32) { p.ssrc, p.seq = 99, 30000 }, true},
		"time that jumps ahead":     {func(_ *peer, at *uint32) { *at += 90000 * 3600 }, false},
		"time set back":             {func(_ *peer, at *uint32) { *at -= 90000 * 3600 }, false},
		"time that wraps":           {func(_ *peer, at *uint32) { *at = 1<<32 - 1800 }, false},
	} {
		for _, transport := range []string{"tcp", "udp"} {
			t.Run(name+", "+transport, func(t *testing.T) {
				t.Parallel()
				script := camera{media: func(p *peer) {
					p.seq, p.ssrc = 20000, 1
					if strings.Contains(name, "wraps") {
						p.seq = 65533
					}
					rtpTime := uint32(1_000_000_000)
					for i := range 20 {
						if i == 10 {
							c.quirk(p, &rtpTime)
						}
						keyframe(p, rtpTime)
						rtpTime += 3600
					}
					if p.udp != nil {
						_, _ = p.request() // TEARDOWN
					}
				}}
				if transport == "udp" {
					script.on = map[string]func(*peer, asked) bool{"SETUP": overUDP(t)}
				}
				s := source(t, "rtsp://"+serve(t, script.play)+"/#transport="+transport)
				s.limits.step = 500 * time.Millisecond // by UDP the end is silence
				r := newRecord()
				err := run(t, s, r)
				if code := capture.CodeOf(err); code != capture.CodeUnplugged && code != capture.CodeStalled {
					t.Error(err)
				}
				if len(r.frames) != 20 {
					t.Fatalf("%d of 20 frames: %v", len(r.frames), err)
				}
				for i, f := range r.frames {
					if f.Lost != (i == 10 && c.lost) || !f.Keyframe {
						t.Errorf("frame %d: lost %v, keyframe %v", i, f.Lost, f.Keyframe)
					}
				}
			})
		}
	}
}

// A camera whose answer comes a byte at a time is given up after a step, not
// after the last byte.
func TestSlowAnswer(t *testing.T) {
	s := source(t, "rtsp://"+serve(t, func(p *peer) {
		for {
			if _, err := p.Write([]byte("R")); err != nil {
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})+"/")
	s.limits.step = 300 * time.Millisecond
	if err := run(t, s, newRecord()); capture.CodeOf(err) != capture.CodeUnreachable && capture.CodeOf(err) != capture.CodeProtocol {
		t.Error(err)
	}
}

// The session is kept alive within the time that the camera names, by the
// method that it knows.
func TestKeepAlive(t *testing.T) {
	for public, want := range map[string]string{"OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN": "OPTIONS", "DESCRIBE, SETUP, GET_PARAMETER": "GET_PARAMETER"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			kept := make(chan string, 1)
			at := serve(t, camera{on: map[string]func(*peer, asked) bool{
				"OPTIONS": says("200 OK", "Public: "+public),
				"SETUP":   says("200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1;timeout=6"),
			}, media: func(p *peer) {
				keyframe(p, 1000)
				r, _ := p.request()
				kept <- r.method + " " + r.header.Get("Session")
			}}.play)
			if err := run(t, source(t, "rtsp://"+at+"/#transport=tcp"), newRecord()); capture.CodeOf(err) != capture.CodeUnplugged {
				t.Error(err)
			}
			if got := <-kept; got != want+" 1" {
				t.Errorf("kept alive by %q", got)
			}
		})
	}
}

// An H.265 camera changes its size: the new parameter sets come with the next
// keyframe.
func TestH265ChangesItsSize(t *testing.T) {
	var clips [2][][]byte // VPS, SPS, PPS, IDR
	for i, name := range []string{"testdata/small.h265", "../file/testdata/clip.h265"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		clips[i] = capture.SplitAnnexB(nil, b)[:4]
	}
	at := serve(t, camera{
		sdp: sdp("video 0 RTP/AVP 96", "a=rtpmap:96 H265/90000\r\n"),
		media: func(p *peer) {
			for i := range uint32(4) {
				for j, n := range clips[i/2] {
					_ = p.rtp(0, 96, j == 3, 3600*i, n)
				}
			}
		},
	}.play)
	r := newRecord()
	if err := run(t, source(t, "rtsp://"+at+"/#transport=tcp"), r); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Error(err)
	}
	if len(r.frames) != 4 || len(r.tracks) != 2 || r.tracks[0].Width != 96 || r.tracks[1].Width != 160 {
		t.Errorf("%d frames, tracks %+v", len(r.frames), r.tracks)
	}
	for i, f := range r.frames {
		if !f.Keyframe || f.Lost {
			t.Errorf("frame %d: %+v", i, f)
		}
	}
}
