package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"edged/capture"
	"edged/forward/protect"

	"github.com/pion/rtp"
)

// Every set of extensions is laid out as a parser that nobody here wrote reads
// it, and a full packet with it is within bounds.
func TestLayout(t *testing.T) {
	for set := range 8 {
		var ids extensions
		for bit, id := range []*uint8{&ids.number, &ids.playout, &ids.capture} {
			if set>>bit&1 != 0 {
				*id = uint8(14 - bit)
			}
		}
		h := layOut(ids)
		b := h.append(nil, &header{marker: true, pt: 100, seq: 0xfffe, time: 1 << 31, ssrc: 7, captured: 0x0102030405060708, number: 0xa1b2})
		if len(b) != h.size || len(b)%4 != 0 || len(b) > headerSize+extensionSize {
			t.Errorf("%+v: %d bytes", ids, len(b))
		}
		if udp := h.size + 2 + capture.MaxPayload + protect.MaxTag; udp > 1200 {
			t.Errorf("%+v: %d bytes of UDP payload", ids, udp)
		}
		var p rtp.Packet
		if err := p.Unmarshal(append(b, 1)); err != nil {
			t.Fatal(err)
		}
		if !p.Marker || p.PayloadType != 100 || p.SequenceNumber != 0xfffe || p.Timestamp != 1<<31 || p.SSRC != 7 || p.Extension != (set != 0) || len(p.Payload) != 1 {
			t.Errorf("%+v: %+v", ids, p.Header)
		}
		for id, want := range map[uint8][]byte{
			ids.number: {0xa1, 0xb2}, ids.playout: {0, 0, 40}, ids.capture: {1, 2, 3, 4, 5, 6, 7, 8},
		} {
			if id != 0 && !bytes.Equal(p.GetExtension(id), want) {
				t.Errorf("%+v: extension %d is % x, want % x", ids, id, p.GetExtension(id), want)
			}
		}
		if n := testing.AllocsPerRun(10, func() { b = h.append(b[:0], &header{pt: 100}) }); n != 0 {
			t.Errorf("%v allocations a packet", n)
		}
	}
}

func TestOfferedExtensions(t *testing.T) {
	for value, want := range map[string]extensions{
		"3 " + numberURI:                         {number: 3},
		"14/recvonly " + playoutURI:              {playout: 14},
		"1/sendrecv " + captureURI + " and more": {capture: 1},
		"2/sendonly " + captureURI:               {},
		"2/inactive " + captureURI:               {},
		"15 " + captureURI:                       {},
		"0 " + captureURI:                        {},
		"256 " + captureURI:                      {},
		"x " + captureURI:                        {},
		"4 urn:ietf:params:rtp-hdrext:toffset":   {},
		"4":                                      {},
		"":                                       {},
	} {
		var got extensions
		if got.offered(value); got != want {
			t.Errorf("%q: %+v, want %+v", value, got, want)
		}
	}
}

const soundOffer = "m=audio 9 UDP/TLS/RTP/SAVPF 8 111 0 13\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=recvonly\r\n" +
	"a=extmap:4 " + numberURI + "\r\na=extmap:5 " + captureURI + "\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n"

// What of an offer is answered with sound: by codec, without a=rtpmap for
// static types, alone, and not where the picture that was asked for cannot be
// had.
func TestNegotiateSound(t *testing.T) {
	head, rest, _ := strings.Cut(chrome, "m=video")
	video, _, _ := strings.Cut("m=video"+rest, "m=application")
	bundled := strings.Replace(head, "BUNDLE 0 1", "BUNDLE 0 a", 1)
	noVideo := strings.Replace(soundOffer, "a=recvonly", "a=recvonly\r\na=ice-ufrag:AbCd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA", 1)
	vp9 := capture.Track{Kind: capture.Video, Codec: "VP9", ClockRate: 90000}
	g711 := func(c capture.Codec) capture.Track {
		return capture.Track{Kind: capture.Audio, Codec: c, ClockRate: 8000}
	}
	for _, c := range []struct {
		name   string
		offer  string
		tracks []capture.Track
		want   string // kind and payload type of the lanes, in order
	}{
		{"both", bundled + video + soundOffer, []capture.Track{h264Track, opusTrack}, "audio 111, video 109"},
		{"sound first", bundled + soundOffer + video, []capture.Track{h264Track, opusTrack}, "audio 111, video 109"},
		{"PCMU", bundled + video + soundOffer, []capture.Track{h264Track, g711(capture.PCMU)}, "audio 0, video 109"},
		{"PCMA", bundled + video + soundOffer, []capture.Track{h264Track, g711(capture.PCMA)}, "audio 8, video 109"},
		{"no such sound", bundled + video + soundOffer, []capture.Track{h264Track, {Kind: capture.Audio, Codec: "G722", ClockRate: 8000}}, "video 109"},
		{"sound is not offered", bundled + video, []capture.Track{h264Track, opusTrack}, "video 109"},
		{"sound is not bundled", head + video + soundOffer, []capture.Track{h264Track, opusTrack}, "video 109"},
		{"sound alone", bundled + noVideo, []capture.Track{h264Track, opusTrack}, "audio 111"},
		{"the picture is rejected", bundled + noVideo + strings.Replace(video, "video 9", "video 0", 1), []capture.Track{h264Track, opusTrack}, "audio 111"},
		{"no picture in common", bundled + video + soundOffer, []capture.Track{vp9, opusTrack}, ""},
		{"sound alone, of a silent camera", bundled + noVideo, []capture.Track{h264Track}, ""},
	} {
		o, err := parseOffer(c.offer)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		chosen, err := negotiate(c.tracks, o)
		if (err != nil) != (c.want == "") {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, s := range chosen {
			got = append(got, fmt.Sprintf("%s %d", o.media[s.media].kind, s.pt))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// soundLane is a lane of a sound of 50 packets a second.
func soundLane(t *testing.T, feedback ...string) (*lane, *ring, func(n int)) {
	t.Helper()
	r := newRing(capture.Audio)
	now, i := testTime, 0
	return newLane([]*ring{r}, 48000, format{pt: 111, codec: "opus", clockRate: 48000, feedback: feedback}, testTime), r, func(n int) {
		for range n {
			r.write(&capture.Frame{RTPTime: uint32(i) * 960, Captured: now, Payloads: [][]byte{{byte(i)}}}, now)
			now, i = now.Add(20*time.Millisecond), i+1
		}
	}
}

// Sound begins with what is new, and what is late is left out: of the past
// nobody wants to hear a burst.
func TestSoundLane(t *testing.T) {
	l, _, speak := soundLane(t)
	speak(100)
	at := testTime.Add(100 * 20 * time.Millisecond)
	got, _ := drain(t, l, at)
	if len(got) != 1 || got[0].Payload[0] != 99 || got[0].Marker {
		t.Fatalf("joined with %v", got)
	}
	speak(5)
	if got, skipped := drain(t, l, at.Add(100*time.Millisecond)); len(got) != 5 || skipped != 0 {
		t.Errorf("%d packets after 100 ms, %d skipped", len(got), skipped)
	}
	speak(50) // a second in which the path takes nothing
	got, skipped := drain(t, l, at.Add(1100*time.Millisecond))
	if len(got) != 1 || skipped != 49 || got[0].Payload[0] != 154 {
		t.Errorf("%d packets, %d skipped, after a second", len(got), skipped)
	}
	speak(2)
	if got, _ = drain(t, l, at.Add(1140*time.Millisecond)); len(got) != 2 || got[1].Timestamp-got[0].Timestamp != 960 {
		t.Errorf("%d packets after that", len(got))
	}
}

// A NACK for sound is answered where that was negotiated, with what was sent,
// bit by bit.
func TestSoundNACK(t *testing.T) {
	for _, feedback := range [][]string{nil, {"nack"}} {
		l, _, speak := soundLane(t, feedback...)
		l.layout = layOut(extensions{capture: 5})
		speak(1)
		var b, again batch
		f, _, _ := l.pick(testTime)
		l.build(f, &b)
		if ok := l.resend(binary.BigEndian.Uint16(b.buf[2:]), &again); !ok || !bytes.Equal(b.buf, again.buf) {
			t.Errorf("% x, sent again % x", b.buf, again.buf)
		}
		if l.nacks != (feedback != nil) {
			t.Errorf("%v: NACK %v", feedback, l.nacks)
		}
	}
}

// A sender report says what the time of capture was, also in a burst whose
// times are squeezed.
func TestSenderReport(t *testing.T) {
	r := newRing(capture.Video)
	fill(r, 0, 20, 30, testTime)
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	now := testTime.Add(20*33*time.Millisecond + 50*time.Millisecond)
	for i := range 20 {
		f, _, ok := l.pick(now)
		if !ok {
			t.Fatalf("no frame %d", i)
		}
		var b batch
		l.build(f, &b)
		sr := l.senderReport(now)
		captured := testTime.Add(time.Duration(i) * 33 * time.Millisecond)
		want := uint32(i)*3000 + l.tsOffset + uint32(now.Sub(captured).Seconds()*90000)
		if d := int32(sr.RTPTime - want); d < -1 || d > 1 || sr.NTPTime != ntp(now) {
			t.Errorf("frame %d: RTP time %d, want %d", i, sr.RTPTime, want)
		}
	}
}
