package receive

import (
	"testing"
	"time"

	"github.com/pion/rtp"
)

// tape is a track whose packets were captured every step by the camera's
// clock, arrive some time later, and are told of by reports from a moment on.
type tape struct {
	Clock
	step     time.Duration
	delay    func(i int) time.Duration
	cameraIs time.Duration // ahead of the box's clock
	reports  time.Duration // when the first report comes
}

var tapeStart = time.Unix(1_000_000, 0)

// play gives the times of capture, by the clock, of what was captured in the
// first so many seconds, beside the truth.
func (k *tape) play(t *testing.T, length time.Duration) (got, truth []time.Time) {
	t.Helper()
	k.NTP = func(p *rtp.Packet) (time.Time, bool) {
		at := time.Duration(p.Timestamp-77) * time.Second / time.Duration(k.Rate)
		return tapeStart.Add(at + k.cameraIs), at >= k.reports
	}
	for i := 0; time.Duration(i)*k.step < length; i++ {
		at := time.Duration(i) * k.step
		p := &rtp.Packet{Header: rtp.Header{Timestamp: 77 + uint32(at.Microseconds()*int64(k.Rate)/1e6)}}
		got = append(got, k.Captured(p, tapeStart.Add(at+k.delay(i))))
		truth = append(truth, tapeStart.Add(at))
	}
	return got, truth
}

// steady fails where the times between packets are not those of the camera,
// but for what is brought back slowly.
func steady(t *testing.T, name string, got []time.Time, step time.Duration, from int) {
	t.Helper()
	for i := from; i < len(got); i++ {
		if d := (got[i].Sub(got[i-1]) - step).Abs(); d > step/slewShare+time.Microsecond {
			t.Fatalf("%s: packet %d is %v after the one before, they are %v apart", name, i, got[i].Sub(got[i-1]), step)
		}
	}
}

func jittery(least time.Duration) func(int) time.Duration {
	return func(i int) time.Duration { return least + time.Duration(i*i*7919%40)*time.Millisecond }
}

// Picture and sound of a camera, whose clock may be right or wrong and known
// late or never, get times of one clock.
func TestClockOfTwoTracks(t *testing.T) {
	for _, c := range []struct {
		name     string
		cameraIs time.Duration
		reports  time.Duration
		late     time.Duration // of the truth, in the end
	}{
		{"right", 0, 0, 0},
		{"right, told after 5 s", 0, 5 * time.Second, 0},
		{"never told", 0, time.Hour, 60 * time.Millisecond},
		{"hours behind", -2 * time.Hour, 0, 60 * time.Millisecond},
		{"hours behind, told after 5 s", -2 * time.Hour, 5 * time.Second, 60 * time.Millisecond},
		{"a minute ahead", time.Minute, 5 * time.Second, 60 * time.Millisecond},
		{"never set", -1_000_000 * time.Second, 5 * time.Second, 60 * time.Millisecond},
	} {
		all := &Clocks{}
		picture := &tape{Clock: Clock{All: all, Rate: 90000}, step: 40 * time.Millisecond, delay: jittery(60 * time.Millisecond), cameraIs: c.cameraIs, reports: c.reports}
		sound := &tape{Clock: Clock{All: all, Rate: 8000}, step: 20 * time.Millisecond, delay: jittery(60 * time.Millisecond), cameraIs: c.cameraIs, reports: c.reports}
		p, pt := picture.play(t, 10*time.Second)
		s, st := sound.play(t, 10*time.Second)
		steady(t, c.name+": picture", p, picture.step, 40)
		steady(t, c.name+": sound", s, sound.step, 40)
		pLate, sLate := p[len(p)-1].Sub(pt[len(pt)-1]), s[len(s)-1].Sub(st[len(st)-1])
		if d := (pLate - sLate).Abs(); d > 5*time.Millisecond {
			t.Errorf("%s: picture %v late, sound %v", c.name, pLate, sLate)
		}
		if d := (pLate - c.late).Abs(); d > 10*time.Millisecond {
			t.Errorf("%s: %v late, want %v", c.name, pLate, c.late)
		}
	}
}

// A camera that sets its clock is followed; one that jumps in RTP time, too.
func TestClockIsReset(t *testing.T) {
	all := &Clocks{}
	k := &tape{Clock: Clock{All: all, Rate: 90000}, step: 40 * time.Millisecond, delay: jittery(50 * time.Millisecond)}
	k.play(t, 2*time.Second)
	for _, set := range []time.Duration{-time.Hour, time.Hour, 0} {
		now := tapeStart.Add(time.Minute)
		k.NTP = func(*rtp.Packet) (time.Time, bool) { return now.Add(set - 70*time.Millisecond), true }
		var got time.Time
		for i := range 200 { // 8 s
			now = now.Add(40 * time.Millisecond)
			got = k.Captured(&rtp.Packet{Header: rtp.Header{Timestamp: 5 + uint32(i)*3600}}, now)
		}
		if late := now.Sub(got); late < -time.Millisecond || late > 200*time.Millisecond {
			t.Errorf("set by %v: captured %v ago", set, late)
		}
	}
	k.NTP = nil
	now := tapeStart.Add(2 * time.Minute)
	if got := k.Captured(&rtp.Packet{Header: rtp.Header{Timestamp: 1 << 31}}, now); !got.Equal(now) {
		t.Errorf("after a jump in RTP time: captured %v ago", now.Sub(got))
	}
}
