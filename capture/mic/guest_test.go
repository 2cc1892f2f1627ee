package mic

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/thesyncim/gopus"
	"golang.org/x/sys/unix"

	"edged/capture"
)

// The tests of this file need the sound card that snd-aloop makes, in which
// what is played to device 0 is heard from device 1. EDGED_TEST_GUEST says
// that this is a guest that has one, as /modules/snd_aloop.ko. It is emulated,
// and slow.

const patience = 2 * time.Minute

func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("EDGED_TEST_GUEST") == "" {
		t.Skip("EDGED_TEST_GUEST is not set: this is no guest with a sound card")
	}
	shell(t, "rmmod snd_aloop 2>/dev/null; insmod /modules/snd_aloop.ko pcm_substreams=1")
}

func shell(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// play plays a tone of a level, over and over, until it is stopped.
func play(t *testing.T, rate, channels int, tone, level float64) (stop func()) {
	t.Helper()
	node, err := kernel.find("hw:Loopback,0", "")
	if err != nil {
		t.Fatal(err)
	}
	p := &pcm{}
	if err := p.open(strings.TrimSuffix(node, "c") + "p"); err != nil {
		t.Fatal(err)
	}
	h := anything(formats[0])
	if !p.refine(h, ofChannels, uint32(channels), uint32(channels)) || !p.refine(h, ofRate, uint32(rate), uint32(rate)) {
		t.Fatal("the card does not play that")
	}
	p.mode = mode{rate: rate, channels: channels, format: formats[0]}
	if err := p.set(h); err != nil {
		t.Fatal(err)
	}
	if err := p.ioctl(pcmPrepare, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var playing sync.WaitGroup
	playing.Go(func() { p.tone(ctx, t, tone, level) })
	return func() {
		cancel()
		playing.Wait()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}

func (p *pcm) tone(ctx context.Context, t *testing.T, tone, level float64) {
	writeFrame := request(writes, 0x50, unsafe.Sizeof(transfer{}))
	buf := make([]int16, p.rate/50*p.channels)
	for n := 0; ctx.Err() == nil; {
		for i := range buf {
			buf[i] = int16(level * 32767 * math.Sin(2*math.Pi*tone*float64(n+i/p.channels)/float64(p.rate)))
		}
		p.poll[0].Events = unix.POLLOUT
		if _, err := unix.Poll(p.poll[:], 100); err != nil && !errors.Is(err, unix.EINTR) {
			t.Error(err)
			return
		}
		x := &transfer{buf: unsafe.Pointer(&buf[0]), frames: culong(p.rate / 50)}
		err := p.ioctl(writeFrame, unsafe.Pointer(x))
		switch {
		case errors.Is(err, unix.EPIPE): // nothing was there to play, on a slow machine
			err = p.ioctl(pcmPrepare, nil)
		case errors.Is(err, unix.EAGAIN):
			err = nil
		case err == nil:
			n += int(x.result)
		}
		if err != nil && ctx.Err() == nil {
			t.Errorf("play: %v", err)
			return
		}
	}
}

// ear decodes what a microphone delivers.
type ear struct {
	t       *testing.T
	enough  int // frames
	done    context.CancelFunc
	decoder *gopus.Decoder

	mu     sync.Mutex
	pcm    []float32
	frames []capture.Frame
	why    []error
}

func newEar(t *testing.T, enough int, done context.CancelFunc) *ear {
	d, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(outRate, 1))
	if err != nil {
		t.Fatal(err)
	}
	return &ear{t: t, enough: enough, done: done, decoder: d}
}

func (e *ear) Describe(tracks []capture.Track) {
	if len(tracks) != 1 || tracks[0] != Track {
		e.t.Errorf("%+v", tracks)
	}
}

func (e *ear) SoundFailed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.why = append(e.why, err)
}

func (e *ear) Frame(f *capture.Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]float32, 5760)
	n, err := e.decoder.Decode(f.Payloads[0], out)
	if err != nil || n != frameSamples {
		e.t.Errorf("%d samples, %v", n, err)
	}
	e.pcm = append(e.pcm, out[:n]...)
	e.frames = append(e.frames, *f)
	if len(e.frames) == e.enough {
		e.done()
	}
}

// listen waits for so many frames of a microphone.
func listen(t *testing.T, name string, enough int) *ear {
	t.Helper()
	m, err := New(capture.Config{Source: "v4l2:auto", Audio: capture.AudioConfig{Enabled: true, Device: name}}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e := newEar(t, enough, cancel)
	m.Run(ctx, e)
	if len(e.frames) < enough {
		t.Fatalf("%d frames of %d; %v", len(e.frames), enough, e.why)
	}
	return e
}

// measure tells of samples at 48 kHz how much of a tone there is (its
// amplitude), and how much in all (root mean square).
func measure(pcm []float32, tone float64) (amplitude, rms float64) {
	var re, im, sum float64
	for i, v := range pcm {
		phase := 2 * math.Pi * tone * float64(i) / outRate
		re += float64(v) * math.Cos(phase)
		im += float64(v) * math.Sin(phase)
		sum += float64(v) * float64(v)
	}
	n := float64(len(pcm))
	return 2 * math.Hypot(re, im) / n, math.Sqrt(sum / n)
}

// A tone that is played is heard: its frequency and its level, at every rate
// and with one channel and two; and each frame is 20 ms after the one before,
// by its RTP time and by the time it was heard.
func TestGuestTone(t *testing.T) {
	for _, with := range []struct{ rate, channels int }{{48000, 2}, {48000, 1}, {44100, 2}, {16000, 1}, {8000, 1}} {
		inGuest(t)
		const tone, level = 600, 0.25
		stop := play(t, with.rate, with.channels, tone, level)
		e := listen(t, "hw:Loopback,1", 150)
		stop()
		if age := time.Since(e.frames[len(e.frames)-1].Captured); age < 0 || age > patience {
			t.Errorf("the last frame was heard %v ago", age)
		}
		// A slow machine plays with holes: the best tenth of a second is the tone.
		best := 0.0
		for from := outRate / 2; from+outRate/10 <= len(e.pcm); from += outRate / 50 {
			a, rms := measure(e.pcm[from:from+outRate/10], tone)
			if rms > 0 && a/math.Sqrt2/rms > 0.97 {
				best = max(best, a)
			}
		}
		t.Logf("%+v: a tone of %.3f of %.3f", with, best, level)
		if best < 0.8*level || best > 1.2*level {
			t.Errorf("%+v: a tone of %.3f, %.3f was played", with, best, level)
		}
		even(t, e.frames)
	}
}

// even wants frames that follow each other.
func even(t *testing.T, frames []capture.Frame) {
	t.Helper()
	for i, f := range frames[1:] {
		ticks := time.Duration(f.RTPTime-frames[i].RTPTime) * time.Second / outRate
		d := f.Captured.Sub(frames[i].Captured)
		if ticks < 20*time.Millisecond || (ticks-d).Abs() > 5*time.Millisecond {
			t.Errorf("frame %d: %v after the one before, by its RTP time %v (lost %v)", i+1, d, ticks, f.Lost)
		}
	}
}

// A card that goes away ends the sound and says so; when it is back, the sound
// goes on, at the time that it then is.
func TestGuestReplug(t *testing.T) {
	inGuest(t)
	m, err := New(capture.Config{Source: "v4l2:auto", Audio: capture.AudioConfig{Enabled: true, Device: "hw:Loopback,1"}}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e := newEar(t, -1, cancel)
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx, e) })
	await := func(what string, ok func() bool) {
		t.Helper()
		for {
			e.mu.Lock()
			done := ok()
			e.mu.Unlock()
			if done {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("no %s: %v", what, e.why)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	await("sound", func() bool { return len(e.frames) > 10 })
	// The kernel takes a card away from whoever has it open where a device is
	// unbound, as when a plug is pulled.
	shell(t, "echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/unbind")
	await("failure", func() bool { return len(e.why) > 0 })
	e.mu.Lock()
	before := len(e.frames)
	if c := capture.CodeOf(e.why[0]); c != capture.CodeUnplugged {
		t.Errorf("%s: %v", c, e.why[0])
	}
	e.mu.Unlock()
	await("search", func() bool { return len(e.why) > 1 })
	e.mu.Lock()
	if c := capture.CodeOf(e.why[len(e.why)-1]); c != capture.CodeNotFound {
		t.Errorf("%s: %v", c, e.why[len(e.why)-1])
	}
	e.mu.Unlock()
	shell(t, "echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/bind")
	await("sound again", func() bool { return len(e.frames) > before+10 })
	cancel()
	running.Wait()
	if !e.frames[before].Lost {
		t.Error("the first frame after the gap does not say that there was one")
	}
	even(t, e.frames)
}

// A card that somebody else listens to is busy, and says so.
func TestGuestBusy(t *testing.T) {
	inGuest(t)
	node, err := kernel.find("hw:Loopback,1", "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPCM(node)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	_, _, err = openDevice("hw:Loopback,1", "")
	if codeOf(err) != capture.CodeBusy {
		t.Errorf("%s: %v", codeOf(err), err)
	}
	if _, _, err := openDevice(capture.MicrophoneAuto, "auto"); capture.CodeOf(err) != capture.CodeNotFound {
		t.Errorf("%v", err) // the loop is on no camera's USB device
	}
}

// Who does not read in time loses samples, is told so, and goes on.
func TestGuestOverrun(t *testing.T) {
	inGuest(t)
	d, _, err := openDevice("hw:Loopback,1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	p := d.(*pcm)
	buf := make([]byte, p.rate/50*p.frameBytes())
	deadline := time.Now().Add(patience)
	for { // until the kernel's buffer is full
		if err := p.ioctl(pcmDelay, unsafe.Pointer(&p.delay)); errors.Is(err, unix.EPIPE) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no overrun")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, _, err := p.read(buf); !errors.Is(err, unix.EPIPE) {
		t.Fatalf("%v", err)
	}
	if err := p.restart(); err != nil {
		t.Fatal(err)
	}
	for {
		n, _, err := p.read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no samples after the overrun")
		}
	}
}
