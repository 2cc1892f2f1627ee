package rpicam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/encode"
)

var quiet = slog.New(slog.DiscardHandler)

func TestNew(t *testing.T) {
	for _, source := range []string{"rpicam:", "rpicam:-1", "rpicam:16", "rpicam:0 --help", "rpicam:00", "rpicam:0;id", "rpicam:/dev/video0", "v4l2:auto", ""} {
		if _, err := New(capture.Config{Source: source}, quiet); err == nil {
			t.Errorf("%q is taken", source)
		}
	}
	s, err := New(capture.Config{Source: "rpicam:1"}, quiet)
	if err != nil || s.camera != 1 || s.video.Width != DefaultWidth || s.layers != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestArguments(t *testing.T) {
	video := encode.Config{Width: 1280, Height: 720, FPS: 25, Bitrate: 2_000_000}
	const common = "--camera 1 --timeout 0 --nopreview --flush --output - --width 1280 --height 720 --framerate 25"
	for _, tt := range []struct {
		raw  bool
		c    capture.RPiCamConfig
		want string
	}{
		{false, capture.RPiCamConfig{}, "--codec h264 --profile baseline --inline --bitrate 2000000 --intra 50 --save-pts /dev/fd/3"},
		{true, capture.RPiCamConfig{}, "--codec yuv420"},
		{true, capture.RPiCamConfig{Flip: "none", Exposure: "normal", AWB: "auto", Focus: "default"}, "--codec yuv420"},
		{true, capture.RPiCamConfig{Flip: "horizontal", Exposure: "sport", Shutter: 8000}, "--codec yuv420 --hflip --exposure sport --shutter 8000"},
		{true, capture.RPiCamConfig{Flip: "vertical", AWB: "daylight"}, "--codec yuv420 --vflip --awb daylight"},
		{true, capture.RPiCamConfig{Flip: "both", Focus: "continuous"}, "--codec yuv420 --rotation 180 --autofocus-mode continuous"},
		{true, capture.RPiCamConfig{Flip: "both; reboot", Exposure: "--post-process-file", AWB: "$(id)", Focus: "x", Shutter: -1}, "--codec yuv420"},
	} {
		if got := strings.Join(arguments(1, video, tt.raw, tt.c), " "); got != common+" "+tt.want {
			t.Errorf("%+v:\n%s\nwant\n%s", tt.c, got, common+" "+tt.want)
		}
	}
}

// sink keeps what comes and calls enough when there is so much.
type sink struct {
	mu     sync.Mutex
	tracks []capture.Track
	frames []capture.Frame
	pieces [][]byte // payloads together, by frame
	most   int
	enough func()
}

func (s *sink) Describe(tracks []capture.Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks = slices.Clone(tracks)
}

func (s *sink) Frame(f *capture.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces = append(s.pieces, slices.Concat(f.Payloads...))
	s.frames = append(s.frames, *f)
	if len(s.frames) == s.most {
		s.enough()
	}
}

func source(t *testing.T, how string, v capture.VideoConfig) *Source {
	t.Helper()
	s, err := New(capture.Config{Source: "rpicam:0", Video: v}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.programs = install(t, how)
	s.hasH264 = func() bool { return true }
	return s
}

const patience = 30 * time.Second

// The program's frames arrive whole, each as soon as it is written, with or
// without word of where they end.
func TestPass(t *testing.T) {
	for _, tt := range []struct {
		how  string
		most int
	}{{"well", 40}, {"no-times", 40}, {"one-frame", 1}} {
		s := source(t, tt.how, capture.VideoConfig{FPS: 100})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out := &sink{most: tt.most, enough: cancel}
		if err := s.Run(ctx, out); err != nil {
			t.Fatalf("%s: %v", tt.how, err)
		}
		cancel()
		if len(out.frames) < tt.most {
			t.Fatalf("%s: %d frames", tt.how, len(out.frames))
		}
		if len(out.tracks) != 1 || out.tracks[0].Width != 320 || out.tracks[0].Height != 180 || out.tracks[0].Codec != capture.H264 {
			t.Errorf("%s: tracks %+v", tt.how, out.tracks)
		}
		if got := s.Encoder(); got != "rpicam-vid, by the chip" {
			t.Errorf("%s: encoder %q", tt.how, got)
		}
		clip := packed(t)
		for i, got := range out.pieces[:tt.most] {
			want := clip[i%len(clip)]
			if !bytes.Equal(got, want.bytes) || out.frames[i].Keyframe != want.keyframe {
				t.Errorf("%s: frame %d is another", tt.how, i)
			}
			if i > 0 && int32(out.frames[i].RTPTime-out.frames[i-1].RTPTime) <= 0 {
				t.Errorf("%s: frame %d: time does not go on", tt.how, i)
			}
			if late := time.Since(out.frames[i].Captured); late < 0 || late > patience {
				t.Errorf("%s: frame %d: captured %v ago", tt.how, i, late)
			}
		}
	}
}

type shot struct {
	bytes    []byte
	keyframe bool
}

// packed is the clip as it is to arrive.
func packed(t *testing.T) (all []shot) {
	film, err := capture.NewBitstream(capture.H264)
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range capturetest.Units(capturetest.Clip()) {
		var f capture.Frame
		if err := errors.Join(film.Observe(unit), film.Pack(unit, &f)); err != nil {
			t.Fatal(err)
		}
		all = append(all, shot{slices.Concat(f.Payloads...), f.Keyframe})
	}
	return all
}

// Without an encoder in the chip, and for layers, the pictures are encoded here.
func TestRaw(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder, and says so")
	}
	s := source(t, "well", capture.VideoConfig{Width: 854, Height: 480, FPS: 50, Layers: 2, Encoder: capture.EncoderOpenH264})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &sink{most: 20, enough: cancel}
	if err := s.Run(ctx, out); err != nil {
		t.Fatal(err)
	}
	if len(out.tracks) != 2 || out.tracks[0].Width != 832 || out.tracks[0].Height != 480 || out.tracks[1].Width != 416 {
		t.Errorf("tracks %+v", out.tracks)
	}
	if !out.frames[0].Keyframe || !out.frames[1].Keyframe || out.frames[1].Track != 1 || out.frames[0].RTPTime != out.frames[1].RTPTime {
		t.Errorf("frames %+v, %+v", out.frames[0], out.frames[1])
	}
	if got := s.Encoder(); got != encode.Name {
		t.Errorf("encoder %q", got)
	}
}

// A viewer's wish for a keyframe reaches the encoder of raw pictures.
func TestRawKeyframe(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder, and says so")
	}
	s := source(t, "well", capture.VideoConfig{Width: 320, Height: 180, FPS: 50, Encoder: capture.EncoderOpenH264})
	s.hasH264 = func() bool { return false }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	keyframes := 0
	out := &sink{}
	out.most, out.enough = 10, func() {
		s.Keyframe(0)
		out.most, out.enough = 20, cancel
	}
	if err := s.Run(ctx, out); err != nil {
		t.Fatal(err)
	}
	for _, f := range out.frames {
		if f.Keyframe {
			keyframes++
		}
	}
	if keyframes != 2 {
		t.Errorf("%d keyframes of %d frames", keyframes, len(out.frames))
	}
}

// What the program says last is the camera's error.
func TestEnds(t *testing.T) {
	for how, want := range map[string]struct {
		code capture.Code
		say  string
	}{
		"no-camera": {capture.CodeNotFound, "rpicam: rpicam-vid: exit status 255: ERROR: *** no cameras available ***"},
		"busy":      {capture.CodeBusy, "failed to acquire camera"},
		"dies":      {capture.CodeUnplugged, "exit status 255: ERROR: *** Camera frontend has timed out! ***"},
		"silent":    {capture.CodeUnplugged, "exit status 3: [0:00:01.000] [1] INFO Camera"},
		"garbage":   {capture.CodeProtocol, "without an end of a picture"},
		"bad-sps":   {capture.CodeProtocol, "SPS"},
	} {
		s := source(t, how, capture.VideoConfig{FPS: 100})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := s.Run(ctx, &sink{})
		if err == nil || capture.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.say) {
			t.Errorf("%s: %s, %v", how, capture.CodeOf(err), err)
		}
		cancel()
	}
	s := source(t, "well", capture.VideoConfig{})
	s.programs = []string{"/not/there/rpicam-vid", "/not/there/libcamera-vid"}
	if err := s.Run(t.Context(), &sink{}); capture.CodeOf(err) != capture.CodeNotFound || !strings.Contains(err.Error(), "libcamera-vid is not installed") {
		t.Errorf("not installed: %v", err)
	}
}

// A program that hangs, deaf to signals and with a child, is gone when the
// camera stops.
func TestHangs(t *testing.T) {
	s := source(t, "hangs", capture.VideoConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tool, err := start(ctx, s.programs, arguments(0, s.video, false, s.settings), true)
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`child (\d+)`)
	for !number.MatchString(tool.said.String()) {
		if ctx.Err() != nil {
			t.Fatalf("it said %q", tool.said.String())
		}
		time.Sleep(time.Millisecond)
	}
	child, err := strconv.Atoi(number.FindStringSubmatch(tool.said.String())[1])
	if err != nil {
		t.Fatal(err)
	}
	tool.stop()
	if err := syscall.Kill(tool.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the program is there: %v", err)
	}
	for { // it has lost its parent: whoever is init reaps it when it likes
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the child is there: %s", b)
		}
		time.Sleep(time.Millisecond)
	}
}

// The camera's supervisor restarts a program that dies.
func TestRestart(t *testing.T) {
	s := source(t, "dies", capture.VideoConfig{FPS: 100})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &sink{most: 8, enough: cancel} // it writes 5
	c, err := capture.New(capture.Config{ID: "csi", Source: "rpicam:0"}, s, out, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
	st := c.State()
	if len(out.frames) < 8 || st.Restarts[capture.CodeUnplugged] != 1 || st.Encoder != "rpicam-vid, by the chip" {
		t.Errorf("%d frames, restarts %v, encoder %q", len(out.frames), st.Restarts, st.Encoder)
	}
}

func TestTail(t *testing.T) {
	var said tail
	if said.last() != "" {
		t.Error("something was said")
	}
	for range 100 {
		fmt.Fprintf(&said, "%s\n", strings.Repeat("x", 1000))
	}
	fmt.Fprintf(&said, "one\r\n\x1b[31mtwo\x07\x00 \xff%s\n \n", strings.Repeat("é", 300))
	if got := said.last(); !strings.HasPrefix(got, "[31mtwo éé") || len([]rune(got)) != maxLine+1 || len(said.b) > tailSize {
		t.Errorf("%q, %d bytes kept", got, len(said.b))
	}
}

// Pieces of any size give the same units.
func TestUnits(t *testing.T) {
	var want [][]byte
	for _, unit := range capturetest.Units(capturetest.Clip()) {
		want = append(want, join(unit))
	}
	for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
		var got [][]byte
		u := &units{emit: func(nalus [][]byte) error {
			got = append(got, join(nalus))
			return nil
		}}
		for piece := range slices.Chunk(capturetest.Clip(), size) {
			if err := u.feed(piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(u.flush(len(want)), u.flush(len(want))); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("pieces of %d: %d units, want %d", size, len(got), len(want))
		}
	}
}

// A line may be about parameter sets alone: they wait for their picture.
func TestUnitsFlushHeaders(t *testing.T) {
	first := capturetest.Units(capturetest.Clip())[0]
	n := 0
	u := &units{emit: func(nalus [][]byte) error {
		if !capture.H264IsKeyframe(nalus) {
			t.Errorf("a unit without its parameter sets: % x", nalus[0][:4])
		}
		n++
		return nil
	}}
	if err := errors.Join(u.feed(join(first[:2])), u.flush(1)); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	if err := errors.Join(u.feed(join(first[2:])), u.flush(2)); err != nil || n != 1 {
		t.Errorf("%d units, %v", n, err)
	}
}

func FuzzUnits(f *testing.F) {
	f.Add(capturetest.Clip()[:4000], 100)
	f.Add([]byte{0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x41, 0x9a, 0, 0, 0, 1, 0x41, 0x9a}, 1)
	f.Add([]byte("garbage"), 3)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		var got []byte
		units := &units{emit: func(nalus [][]byte) error {
			got = append(got, join(nalus)...)
			return nil
		}}
		for piece := range slices.Chunk(b, max(1, size)) {
			if err := units.feed(piece); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, join(capture.SplitAnnexB(nil, units.buf))...)
		if want := join(capture.SplitAnnexB(nil, b)); !bytes.Equal(got, want) {
			t.Errorf("% x, want % x", got, want)
		}
	})
}

func TestExchange(t *testing.T) {
	q := newExchange(2, 2)
	q.read(bytes.NewReader(bytes.Join([][]byte{bytes.Repeat([]byte{1}, 6), bytes.Repeat([]byte{2}, 6), bytes.Repeat([]byte{3}, 6), {4}}, nil)))
	p, err := q.take()
	if err != nil || p.img.Y[3] != 3 || p.img.Cb[0] != 3 || p.img.Cr[0] != 3 || len(p.img.Y)+len(p.img.Cb)+len(p.img.Cr) != 6 {
		t.Errorf("%+v, %v: the newest is wanted", p, err)
	}
	if _, err := q.take(); err == nil {
		t.Error("the end is not told")
	}
}
