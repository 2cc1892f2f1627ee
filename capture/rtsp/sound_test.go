package rtsp

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

// soundRecord keeps why there is no sound, too.
type soundRecord struct {
	*record
	mu  sync.Mutex
	why error
}

func (r *soundRecord) SoundFailed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = err
}

// sounding is a camera with a picture and a sound of a format; it sends n
// packets of each, the sound's of so many bytes.
func sounding(rtpmap string, n, bytes int) func(*peer) {
	text := h264SDP + "m=audio 0 RTP/AVP 97\r\n" + rtpmap + "a=control:track2\r\n"
	return camera{sdp: text, media: func(p *peer) {
		for i := range n {
			keyframe(p, uint32(i)*3600)
			if p.tracks == 2 {
				_ = p.rtp(2, 97, false, uint32(i*max(960, bytes)), []byte(strings.Repeat("s", bytes)))
			}
		}
	}}.play
}

func TestSound(t *testing.T) {
	opus := capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}
	stereo := opus
	stereo.Fmtp = "sprop-stereo=1"
	g711 := func(c capture.Codec) capture.Track {
		return capture.Track{Kind: capture.Audio, Codec: c, ClockRate: 8000}
	}
	for name, c := range map[string]struct {
		rtpmap string
		bytes  int
		track  capture.Track
		each   int // frames that a packet becomes
		why    capture.Code
		words  string
	}{
		"Opus":            {"a=rtpmap:97 opus/48000/2\r\n", 80, opus, 1, "", ""},
		"Opus in stereo":  {"a=rtpmap:97 opus/48000/2\r\na=fmtp:97 sprop-stereo=1\r\n", 80, stereo, 1, "", ""},
		"a huge packet":   {"a=rtpmap:97 opus/48000/2\r\n", capture.MaxPayload + 1, opus, 0, "", ""},
		"an empty packet": {"a=rtpmap:97 opus/48000/2\r\n", 0, opus, 0, "", ""},
		"PCMU":            {"a=rtpmap:97 PCMU/8000\r\n", 160, g711(capture.PCMU), 1, "", ""},
		"PCMA":            {"a=rtpmap:97 PCMA/8000\r\n", 160, g711(capture.PCMA), 1, "", ""},
		"long PCMA":       {"a=rtpmap:97 PCMA/8000\r\n", 1400, g711(capture.PCMA), 2, "", ""},
		"wide PCMA":       {"a=rtpmap:97 PCMA/16000\r\n", 160, capture.Track{}, 0, capture.CodeCodec, "PCMA at 16000 Hz"},
		"AAC": {"a=rtpmap:97 mpeg4-generic/48000/2\r\na=fmtp:97 streamtype=5;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\n",
			100, capture.Track{}, 0, capture.CodeCodec, "AAC"},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 50
			addr := serve(t, sounding(c.rtpmap, n, c.bytes))
			s, err := New(capture.Config{Source: "rtsp://" + addr + "/#transport=tcp", Audio: capture.AudioConfig{Enabled: true}}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			r := &soundRecord{record: newRecord()}
			if err := run(t, s, r); capture.CodeOf(err) != capture.CodeUnplugged {
				t.Fatal(err)
			}
			r.check(t, c.track, n*c.each, c.why, c.words)
		})
	}
}

func (r *soundRecord) check(t *testing.T, track capture.Track, frames int, why capture.Code, words string) {
	t.Helper()
	if why != "" {
		if len(r.tracks) != 1 || r.why == nil || capture.CodeOf(r.why) != why || !strings.Contains(r.why.Error(), words) {
			t.Errorf("tracks %+v, no sound because %v", r.tracks, r.why)
		}
		return
	}
	if len(r.tracks) != 2 || r.tracks[1] != track || r.why != nil {
		t.Fatalf("tracks %+v, %v", r.tracks, r.why)
	}
	var last *capture.Frame
	n := 0
	for i, f := range r.frames {
		if f.Track != 1 {
			continue
		}
		if n++; len(f.Payloads) != 1 || !f.Keyframe {
			t.Fatalf("%+v", f)
		}
		if last != nil && (int32(f.RTPTime-last.RTPTime) <= 0) {
			t.Errorf("time %d after %d", f.RTPTime, last.RTPTime)
		}
		last = &r.frames[i]
	}
	if frames > 0 && n < frames-5 || n > frames { // the first come before the picture is known
		t.Errorf("%d frames of sound, want %d", n, frames)
	}
}

// A camera with sound that nobody has asked for is not asked for it.
func TestSoundIsOff(t *testing.T) {
	addr := serve(t, sounding("a=rtpmap:97 opus/48000/2\r\n", 10, 80))
	r := &soundRecord{record: newRecord()}
	if err := run(t, source(t, "rtsp://"+addr+"/#transport=tcp"), r); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Fatal(err)
	}
	if len(r.tracks) != 1 || r.why != nil {
		t.Errorf("tracks %+v, %v", r.tracks, r.why)
	}
}

// Packets of sound are foreign bytes: whatever they are, what goes out keeps
// the sink's contract.
func FuzzSound(f *testing.F) {
	f.Add(uint16(1), uint32(7), []byte("abc"), false)
	f.Add(uint16(0xffff), uint32(1<<31), make([]byte, 1400), true)
	f.Add(uint16(3), uint32(0), []byte{}, true)
	f.Fuzz(func(t *testing.T, seq uint16, at uint32, payload []byte, opus bool) {
		track := capture.Track{Kind: capture.Audio, Codec: capture.PCMU, ClockRate: 8000}
		if opus {
			track = capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}
		}
		w := sound{track: track, clock: receive.Clock{All: &receive.Clocks{}, Rate: int(track.ClockRate)}, sink: sinkFunc(func(fr *capture.Frame) {
			if len(fr.Payloads) != 1 || len(fr.Payloads[0]) == 0 || len(fr.Payloads[0]) > capture.MaxPayload {
				t.Fatalf("%d payloads", len(fr.Payloads))
			}
		})}
		for i := range 3 {
			w.push(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq + uint16(i)*seq, Timestamp: at * uint32(i)}, Payload: payload}, time.Unix(int64(i), 0))
		}
	})
}
