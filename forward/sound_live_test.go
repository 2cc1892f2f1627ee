package forward_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	playoutURI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
	captureURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
)

var bothKinds = []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio}

func offerSound(t testing.TB, m *webrtc.MediaEngine) {
	t.Helper()
	for _, c := range []webrtc.RTPCodecParameters{
		{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}, PayloadType: 111},
		{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}, PayloadType: 0},
	} {
		if err := m.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
}

// reports keeps the sender reports of a track.
func (c *client) reports(r *webrtc.RTPReceiver) {
	for {
		packets, _, err := r.ReadRTCP()
		if err != nil {
			return
		}
		c.mu.Lock()
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok {
				c.times[sr.SSRC] = append(c.times[sr.SSRC], sr)
			}
		}
		c.mu.Unlock()
	}
}

// take waits for conditions on all that came so far.
func (c *client) take(what string, ok func() bool) {
	c.t.Helper()
	eventually(c.t, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return ok()
	})
}

// talker is a camera with two layers and a sound. Each payload says when it
// was captured, which is some time before it is handed in; the clocks of the
// tracks begin anywhere, and anew with each run.
type talker struct {
	st     *forward.Stream
	wanted [2]atomic.Bool
	base   atomic.Uint32
}

const talkerDelay = 70 * time.Millisecond

func newTalker(t testing.TB, s *forward.SFU) *talker {
	t.Helper()
	k := &talker{}
	k.st = s.AddStream("dock", func(layer int) { k.wanted[layer].Store(true) })
	k.describe()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		for frames, last := 0, -1; ; frames++ {
			i := max(last+1, int(time.Since(began)/(20*time.Millisecond))) // a busy machine leaves some out
			last = i
			at := began.Add(time.Duration(i)*20*time.Millisecond - talkerDelay)
			ticks := uint32(i) + k.base.Load()
			for layer := range k.wanted {
				if frames%2 == 0 {
					key := k.wanted[layer].Swap(false) || frames%100 == 0
					k.st.Frame(stamped(layer, at, ticks*1800, key, 3))
				}
			}
			k.st.Frame(stamped(2, at, ticks*960, true, 1))
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(over); <-ended })
	return k
}

func (k *talker) describe() {
	low := h264Track
	low.Layer = 1
	k.st.Describe([]capture.Track{h264Track, low, {Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}})
}

// stamped is a frame whose payloads say in which layer and when it was
// captured.
func stamped(track int, at time.Time, rtpTime uint32, key bool, packets int) *capture.Frame {
	f := &capture.Frame{Track: track, RTPTime: rtpTime + uint32(track)*1e9, Captured: at, Keyframe: key}
	for range packets {
		p := make([]byte, 100)
		if p[0] = 1; key {
			p[0] = 5
		}
		p[1] = byte(track)
		binary.BigEndian.PutUint64(p[2:], uint64(at.UnixNano()))
		f.Payloads = append(f.Payloads, p)
	}
	return f
}

func capturedAt(p *rtp.Packet) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(p.Payload[2:])))
}

func fromNTP(v uint64) time.Time {
	const toUnix = 2208988800
	return time.Unix(int64(v>>32)-toUnix, int64(v&0xffffffff*1e9>>32))
}

// misled is how far the time that a viewer computes from the newest report is
// from the time of capture.
func (c *client) misled(p *rtp.Packet, rate int) time.Duration {
	all := c.times[p.SSRC]
	sr := all[len(all)-1]
	since := time.Duration(int32(p.Timestamp-sr.RTPTime)) * time.Second / time.Duration(rate)
	return fromNTP(sr.NTPTime).Add(since).Sub(capturedAt(p)).Abs()
}

// inStep waits until, by reports and packets that come from now on, picture
// and sound have the times of their capture.
func (c *client) inStep(when string) {
	c.t.Helper()
	c.mu.Lock()
	var from [2]int
	for i, p := range [][]*rtp.Packet{c.packets, c.sound} {
		if len(p) > 0 {
			from[i] = len(p)
		}
	}
	c.mu.Unlock()
	var off [2]time.Duration
	what := func() bool {
		for i, packets := range [][]*rtp.Packet{c.packets, c.sound} {
			if len(packets) < from[i]+10 || len(c.times[packets[0].SSRC]) == 0 {
				return false
			}
			off[i] = c.misled(packets[len(packets)-1], []int{90000, 48000}[i])
		}
		return off[0] < time.Millisecond && off[1] < time.Millisecond
	}
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%s: picture off by %v, sound by %v", when, off[0], off[1])
		}
	}()
	c.take(when+": picture and sound in step", what)
}

// Picture and sound are sent with the times of their capture: from the start,
// after a change of layer, and after the source has begun anew.
func TestSoundInStep(t *testing.T) {
	s := startSFU(t, nil)
	k := newTalker(t, s)
	awaitRing(t, k.st)
	c := newClient(t, clientOptions{kinds: bothKinds, twcc: true, nacks: true, ids: []string{playoutURI, captureURI}})
	c.join(s, k.st)
	c.inStep("joined")
	c.mu.Lock()
	if age := time.Since(capturedAt(c.sound[0])); age > time.Second {
		t.Errorf("the first sound is %v old", age)
	}
	if c.streams[webrtc.RTPCodecTypeAudio] != "dock" || c.streams[webrtc.RTPCodecTypeVideo] != "dock" {
		t.Errorf("streams %v: picture and sound belong together", c.streams)
	}
	c.mu.Unlock()
	for _, q := range []forward.Quality{forward.Low, forward.High} {
		c.viewer.SetQuality(q)
		layer := map[forward.Quality]byte{forward.Low: 1, forward.High: 0}[q]
		c.take("layer", func() bool { return c.packets[len(c.packets)-1].Payload[1] == layer })
		c.inStep(fmt.Sprint("quality ", q))
	}
	k.base.Store(1 << 20)
	k.describe()
	c.inStep("begun anew")

	c.mu.Lock()
	defer c.mu.Unlock()
	checkTimes(t, c.packets, 3)
	checkTimes(t, c.sound, 1)
	if v := c.viewer.Stats(); v.Sound != "opus" || v.Codec != "H264" {
		t.Errorf("stats %+v", v)
	}
}

// checkTimes checks what each packet of a track carries, and that none is
// missing or out of order.
func checkTimes(t *testing.T, packets []*rtp.Packet, aFrame int) {
	t.Helper()
	sound := aFrame == 1
	for i, p := range packets {
		if i > 0 && (p.SequenceNumber != packets[i-1].SequenceNumber+1 || int32(p.Timestamp-packets[i-1].Timestamp) < 0) {
			t.Fatalf("packet %d, time %d, after %d, time %d", p.SequenceNumber, p.Timestamp, packets[i-1].SequenceNumber, packets[i-1].Timestamp)
		}
		if want := !sound && i%aFrame == aFrame-1; p.Marker != want {
			t.Fatalf("packet %d: marker %v", i, p.Marker)
		}
		var seen time.Duration
		n, playout := 0, ""
		for _, id := range p.GetExtensionIDs() {
			switch b := p.GetExtension(id); len(b) {
			case 2:
				n++
			case 3:
				playout = fmt.Sprintf("%x", b)
			case 8:
				seen = fromNTP(binary.BigEndian.Uint64(b)).Sub(capturedAt(p)).Abs()
				n++
			}
		}
		if n != 2 || seen > time.Microsecond || (playout != "000028") != sound {
			t.Fatalf("packet %d of sound %v: extensions % x, playout delay %q, captured %v off", i, sound, p.Extensions, playout, seen)
		}
	}
}

// What is off sends neither picture nor sound; what is low has sound.
func TestSoundFollowsQuality(t *testing.T) {
	s := startSFU(t, nil)
	k := newTalker(t, s)
	awaitRing(t, k.st)
	c := newClient(t, clientOptions{kinds: bothKinds})
	c.join(s, k.st)
	c.take("sound", func() bool { return len(c.sound) > 5 && len(c.packets) > 5 })
	c.viewer.SetQuality(forward.Low)
	c.take("the low layer", func() bool { return c.packets[len(c.packets)-1].Payload[1] == 1 })
	n := len(c.sound)
	c.take("sound beside the low layer", func() bool { return len(c.sound) > n+5 })

	c.viewer.SetQuality(forward.Off)
	sent := c.viewer.Stats().Packets
	eventually(t, "frames that nobody is sent", func() bool { return len(k.st.Stats().Viewers) == 1 && c.viewer.Stats().Bitrate == 0 })
	if got := c.viewer.Stats().Packets; got > sent+4 {
		t.Errorf("%d packets after off", got-sent)
	}
	c.viewer.SetQuality(forward.Auto)
	back := time.Now().Add(-talkerDelay - 100*time.Millisecond)
	c.mu.Lock()
	n = len(c.sound)
	c.mu.Unlock()
	c.take("sound again", func() bool { return len(c.sound) > n+5 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.sound[n+3]; capturedAt(p).Before(back) {
		t.Errorf("after off comes sound %v older than that", back.Sub(capturedAt(p)))
	}
	for i, p := range c.sound[1:] {
		if p.SequenceNumber != c.sound[i].SequenceNumber+1 || int32(p.Timestamp-c.sound[i].Timestamp) <= 0 {
			t.Fatalf("sound %d, time %d, after %d, time %d", p.SequenceNumber, p.Timestamp, c.sound[i].SequenceNumber, c.sound[i].Timestamp)
		}
	}
}

// A viewer may want only the sound, or only the picture, in any order of
// m-lines.
func TestSoundAlone(t *testing.T) {
	s := startSFU(t, nil)
	k := newTalker(t, s)
	awaitRing(t, k.st)
	video, audio := webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio
	for _, kinds := range [][]webrtc.RTPCodecType{{audio}, {video}, {audio, video}, {video, audio, audio}} {
		c := newClient(t, clientOptions{kinds: kinds})
		c.join(s, k.st)
		wanted := func(kind webrtc.RTPCodecType, packets []*rtp.Packet) bool {
			for _, w := range kinds {
				if w == kind {
					return len(packets) > 10
				}
			}
			return len(packets) == 0
		}
		c.take(fmt.Sprint(kinds), func() bool { return wanted(video, c.packets) && wanted(audio, c.sound) })
		if v := c.viewer.Stats(); v.State != "live" {
			t.Errorf("%v: %+v", kinds, v)
		}
		answer := c.pc.RemoteDescription().SDP
		if n := strings.Count(answer, "m=audio 0 ") + strings.Count(answer, "m=audio 9 "); n != strings.Count(fmt.Sprint(kinds), "audio") {
			t.Errorf("%v: %s", kinds, answer)
		}
		c.viewer.Close("enough")
		<-c.viewer.Done()
	}
}
