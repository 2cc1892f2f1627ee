package mic

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"edged/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sine makes samples of a device: a tone in every channel, from sample n on.
func sine(m mode, n, frames int, tone, level float64) []byte {
	var raw []byte
	for i := range frames {
		v := level * math.Sin(2*math.Pi*tone*float64(n+i)/float64(m.rate))
		for range m.channels {
			switch m.format.bytes {
			case 2:
				raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(v*(1<<15-1))))
			case 3:
				raw = append(raw, binary.LittleEndian.AppendUint32(nil, uint32(int32(v*(1<<23-1))))[:3]...)
			case 4:
				raw = binary.LittleEndian.AppendUint32(raw, uint32(int32(v*(1<<31-1))))
			}
		}
	}
	return raw
}

// What comes out at 48 kHz is the tone that went in, with its level and no
// more delay than the resampler says, at every rate; what 48 kHz cannot carry
// is gone.
func TestResampler(t *testing.T) {
	for _, rate := range rates {
		r := newResampler(rate, 1)
		const tone = 440
		var out []float32
		n := 0
		for len(out) < outRate {
			var in []float32
			for range 1 + n%977 { // in pieces of any size
				in = append(in, float32(0.5*math.Sin(2*math.Pi*tone*float64(n)/float64(rate))))
				n++
			}
			before := len(out)
			if lag := r.lag(); before > 0 && (before+lag-(n-len(in))*outRate/rate) > 1 {
				t.Fatalf("%d Hz: %d samples out, %d behind, of %d in", rate, before, lag, n-len(in))
			}
			out = r.add(out, in)
		}
		worst := 0.0
		for i := outRate / 10; i < outRate; i++ {
			worst = max(worst, math.Abs(float64(out[i])-0.5*math.Sin(2*math.Pi*tone*float64(i)/outRate)))
		}
		if worst > 0.002 {
			t.Errorf("%d Hz: off by %.4f", rate, worst)
		}
	}
	r := newResampler(96000, 1)
	var in []float32
	for i := range 96000 {
		in = append(in, float32(0.5*math.Sin(2*math.Pi*30000*float64(i)/96000)))
	}
	for i, v := range r.add(nil, in)[1000:] {
		if math.Abs(float64(v)) > 0.005 {
			t.Fatalf("30 kHz is heard: %f at %d", v, i)
		}
	}
}

// Whatever the device has, its tone comes out of a decoder, and each frame's
// time is that at which its sound was heard.
func TestVoice(t *testing.T) {
	for _, m := range []mode{
		{48000, 2, formats[0]}, {48000, 1, formats[0]}, {44100, 2, formats[0]}, {16000, 1, formats[0]}, {8000, 1, formats[0]},
		{48000, 2, formats[1]}, {48000, 1, formats[2]}, {32000, 6, formats[0]},
	} {
		e := newEar(t, -1, nil)
		v := voice{}
		if err := v.begin(m); err != nil {
			t.Fatal(err)
		}
		start, step := time.Unix(1e9, 0), m.rate/50
		// The tone begins after a second; what jitter the device has is smoothed.
		for n := 0; n < 3*m.rate; n += step {
			level := 0.0
			if n >= m.rate {
				level = 0.3
			}
			at := start.Add(time.Duration(n)*time.Second/time.Duration(m.rate) + time.Duration(n%7)*time.Millisecond/7)
			if err := v.add(sine(m, n, step, 1000, level), at, e); err != nil {
				t.Fatal(err)
			}
		}
		even(t, e.frames)
		a, rms := measure(e.pcm[2*outRate:2*outRate+outRate/2], 1000)
		if a < 0.25 || a > 0.35 || a/math.Sqrt2/rms < 0.98 {
			t.Errorf("%v: a tone of %.3f, %.3f in all", m, a, rms*math.Sqrt2)
		}
		first := 0
		for math.Abs(float64(e.pcm[first])) < 0.05 {
			first++
		}
		f := e.frames[first/frameSamples]
		if at := f.Captured.Add(samples(first%frameSamples)).Sub(start) - time.Second; at.Abs() > 4*time.Millisecond {
			t.Errorf("%v: the tone is heard %v late", m, at)
		}
	}
}

// Samples that were lost leave a gap in time, and nothing else.
func TestGap(t *testing.T) {
	m := mode{44100, 1, formats[0]}
	e, v := newEar(t, -1, nil), voice{}
	if err := v.begin(m); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1e9, 0)
	for i := range 100 {
		if i == 50 {
			at, v.lost = at.Add(300*time.Millisecond), true
		}
		if err := v.add(sine(m, i*882, 882, 500, 0.2), at, e); err != nil {
			t.Fatal(err)
		}
		at = at.Add(20 * time.Millisecond)
	}
	lost := 0
	for i, f := range e.frames[1:] {
		if f.Lost {
			lost++
			if d := time.Duration(f.RTPTime-e.frames[i].RTPTime) * time.Second / outRate; d < 300*time.Millisecond || d > 350*time.Millisecond {
				t.Errorf("a gap of %v", d)
			}
		}
	}
	if lost != 1 {
		t.Errorf("%d gaps", lost)
	}
}

// script is a device that does what is written down for it.
type script struct {
	mode
	reads    []error // nil: a chunk comes
	n        int
	restarts int
	closed   bool
}

var errSilent = fmt.Errorf("nothing comes")

func (s *script) is() mode { return s.mode }

func (s *script) read(buf []byte) (int, time.Time, error) {
	if len(s.reads) == 0 {
		time.Sleep(500 * time.Millisecond) // in a bubble's time
		return 0, time.Time{}, nil
	}
	err := s.reads[0]
	s.reads = s.reads[1:]
	time.Sleep(20 * time.Millisecond)
	if err == errSilent {
		return 0, time.Time{}, nil
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	frames := s.rate / 50
	copy(buf, sine(s.mode, s.n, frames, 500, 0.2))
	s.n += frames
	return frames, time.Now().Add(-20 * time.Millisecond), nil
}

func (s *script) restart() error { s.restarts++; return nil }
func (s *script) close() error   { s.closed = true; return nil }

// What goes wrong is said, and does not end the sound for good: an overrun is
// mended, a device that is gone, busy or dumb is looked for again.
func TestTrouble(t *testing.T) {
	m := mode{48000, 1, formats[0]}
	devices := []*script{
		{mode: m, reads: []error{nil, nil, fmt.Errorf("read: %w", unix.EPIPE), nil, errSilent, nil, fmt.Errorf("read: %w", unix.ENODEV)}},
		nil,       // not there
		{mode: m}, // gives nothing
		{mode: m, reads: []error{nil, nil, nil, nil}},
	}
	all := devices
	synctest.Test(t, func(t *testing.T) {
		mic := &Microphone{name: "hw:1,0", log: slog.New(slog.DiscardHandler)}
		mic.open = func(string, string) (device, string, error) {
			if len(devices) == 0 {
				return nil, "", fmt.Errorf("/dev/snd/pcmC1D0c: %w", unix.EBUSY)
			}
			d := devices[0]
			devices = devices[1:]
			if d == nil {
				return nil, "", capture.Errorf(capture.CodeNotFound, "no sound card 1")
			}
			return d, "/dev/snd/pcmC1D0c", nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		e := newEar(t, -1, cancel)
		mic.Run(ctx, e)
		even(t, e.frames)
		if len(e.frames) < 7 {
			t.Errorf("%d frames", len(e.frames))
		}
		var codes []capture.Code
		for _, err := range e.why {
			codes = append(codes, capture.CodeOf(err))
		}
		want := []capture.Code{capture.CodeUnplugged, capture.CodeNotFound, capture.CodeStalled, capture.CodeStalled, capture.CodeBusy}
		if len(codes) < len(want) || fmt.Sprint(codes[:len(want)]) != fmt.Sprint(want) {
			t.Errorf("%v, want %v first", codes, want)
		}
	})
	for i, d := range all {
		if d != nil && !d.closed {
			t.Errorf("device %d is still open", i)
		}
	}
	if all[0].restarts != 1 {
		t.Errorf("%d restarts after an overrun", all[0].restarts)
	}
}

// In the steady state no frame costs memory that has to be collected.
func TestNoGarbage(t *testing.T) {
	m := mode{44100, 2, formats[0]}
	v := voice{}
	if err := v.begin(m); err != nil {
		t.Fatal(err)
	}
	raw, at := sine(m, 0, 882, 500, 0.2), time.Unix(1e9, 0)
	add := func() {
		if err := v.add(raw, at, nothing{}); err != nil {
			t.Fatal(err)
		}
		at = at.Add(20 * time.Millisecond)
	}
	for range 100 {
		add()
	}
	if n := testing.AllocsPerRun(200, add); n > 0 {
		t.Errorf("%.1f allocations a frame", n)
	}
}

type nothing struct{}

func (nothing) Describe([]capture.Track) {}
func (nothing) Frame(*capture.Frame)     {}

// BenchmarkVoice: 20 ms of sound.
func BenchmarkVoice(b *testing.B) {
	for _, m := range []mode{{48000, 1, formats[0]}, {48000, 2, formats[0]}, {44100, 2, formats[0]}} {
		b.Run(m.String(), func(b *testing.B) {
			v := voice{}
			if err := v.begin(m); err != nil {
				b.Fatal(err)
			}
			raw, at := sine(m, 0, m.rate/50, 440, 0.2), time.Unix(1e9, 0)
			b.ReportAllocs()
			for b.Loop() {
				if err := v.add(raw, at, nothing{}); err != nil {
					b.Fatal(err)
				}
				at = at.Add(20 * time.Millisecond)
			}
		})
	}
}

// A camera's own microphone is the one in its USB device, whatever the
// numbers; others have none.
func TestFind(t *testing.T) {
	root := t.TempDir()
	s := system{sys: filepath.Join(root, "class"), dev: "/dev"}
	make := func(name string) string {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	put := func(name, text string) {
		make(filepath.Dir(name))
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(from, to string) {
		make(filepath.Dir(from))
		if err := os.Symlink(filepath.Join(root, to), filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	// Two webcams in USB sockets 1-1 and 1-2, a built-in card, a chip's camera.
	for _, usb := range []string{"1-1", "1-2"} {
		put("devices/"+usb+"/"+usb+":1.0/bInterfaceNumber", "00")
		put("devices/"+usb+"/"+usb+":1.2/bInterfaceNumber", "02")
	}
	make("devices/pci/card")
	make("devices/soc/camera")
	link("class/video4linux/video0/device", "devices/soc/camera")
	link("class/video4linux/video1/device", "devices/1-2/1-2:1.0")
	link("class/video4linux/video2/device", "devices/1-1/1-1:1.0")
	link("class/sound/card0/device", "devices/pci/card")
	link("class/sound/card1/device", "devices/1-1/1-1:1.2")
	link("class/sound/card10/device", "devices/1-2/1-2:1.2")
	put("class/sound/card0/id", "PCH\n")
	put("class/sound/card1/id", "Webcam\n")
	put("class/sound/card10/id", "Webcam_1\n")
	for _, pcm := range []string{"pcmC0D0c", "pcmC0D0p", "pcmC0D1p", "pcmC1D0c", "pcmC10D2c"} {
		make("class/sound/" + pcm)
	}
	video := func(n string) string { put("dev/video"+n, ""); return filepath.Join(root, "dev/video"+n) }
	link("dev/by-id", "dev/video2")
	for _, c := range []struct {
		name, video, want string
		code              capture.Code
	}{
		{name: "hw:0,0", want: "/dev/snd/pcmC0D0c"},
		{name: "hw:PCH,0", want: "/dev/snd/pcmC0D0c"},
		{name: "hw:Webcam_1,02", want: "/dev/snd/pcmC10D2c"},
		{name: "hw:PCH,1", code: capture.CodeNotFound}, // plays only
		{name: "hw:2,0", code: capture.CodeNotFound},
		{name: "auto", video: video("1"), want: "/dev/snd/pcmC10D2c"},
		{name: "auto", video: video("2"), want: "/dev/snd/pcmC1D0c"},
		{name: "auto", video: filepath.Join(root, "dev/by-id"), want: "/dev/snd/pcmC1D0c"},
		{name: "auto", video: video("0"), code: capture.CodeNotFound},
		{name: "auto", video: filepath.Join(root, "dev/video9"), code: capture.CodeNotFound},
		{name: "auto", video: "auto", want: "/dev/snd/pcmC10D2c"},
	} {
		got, err := s.find(c.name, c.video)
		if got != c.want || (err != nil) != (c.code != "") || err != nil && capture.CodeOf(err) != c.code {
			t.Errorf("%s of %s: %q, %v", c.name, c.video, got, err)
		}
	}
}

// The numbers of the ioctls hold the sizes of their structures: these are the
// C headers', on machines of 64 and of 32 bits.
func TestABI(t *testing.T) {
	got := []uintptr{pcmRefine, pcmHwParams, pcmSwParams, pcmDelay, pcmPrepare, pcmStart, pcmRead}
	want := []uintptr{0xc2604110, 0xc2604111, 0xc0884113, 0x80084121, 0x4140, 0x4142, 0x80184151}
	if unsafe.Sizeof(uintptr(0)) == 4 {
		want = []uintptr{0xc25c4110, 0xc25c4111, 0xc0684113, 0x80044121, 0x4140, 0x4142, 0x800c4151}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %#x, want %#x", i, got[i], want[i])
		}
	}
}
