package pattern

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
	"edged/capture/encode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var code = Code{Frame: 0xDEADBEEF, Time: time.UnixMilli(1_789_012_345_678)}

func TestCRC(t *testing.T) {
	// The check value that catalogues give for CRC-16/CCITT-FALSE.
	if got := crc16([]byte("123456789")); got != 0x29b1 {
		t.Errorf("0x%04x", got)
	}
}

func TestCodeBytes(t *testing.T) {
	c := Code{Frame: 0x01020304, Time: time.UnixMilli(0x060708090a0b)}
	want := []byte{0xa7, 1, 2, 3, 4, 6, 7, 8, 9, 0xa, 0xb}
	if got := c.bytes(); !bytes.Equal(got[:11], want) {
		t.Errorf("% x", got)
	}
}

func TestReadWhatIsDrawn(t *testing.T) {
	for _, size := range []image.Point{{1280, 720}, {1920, 1080}, {640, 480}, {160, 90}, {320, 180}, {854, 480}, {1366, 768}} {
		img := newPicture(size.X, size.Y).draw(code)
		got, err := Read(img, img.Bounds())
		if err != nil || got.Frame != code.Frame || !got.Time.Equal(code.Time) {
			t.Errorf("%v: %+v, %v", size, got, err)
		}
	}
}

// A screenshot: another scale, part of a larger picture, lossy.
func TestReadScreenshot(t *testing.T) {
	img := newPicture(1280, 720).draw(code)
	for _, width := range []int{160, 213, 400, 960, 1700} {
		shot := image.NewRGBA(image.Rect(0, 0, width+50, width))
		place := image.Rect(23, 17, 23+width, 17+width*9/16)
		for y := place.Min.Y; y < place.Max.Y; y++ {
			for x := place.Min.X; x < place.Max.X; x++ {
				at := image.Pt((x-place.Min.X)*1280/width, (y-place.Min.Y)*720/place.Dy())
				shot.Set(x, y, color.Gray{Y: stretched(img.Y[img.YOffset(at.X, at.Y)])})
			}
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, shot, &jpeg.Options{Quality: 50}); err != nil {
			t.Fatal(err)
		}
		seen, err := jpeg.Decode(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(seen, place); err != nil || got.Frame != code.Frame {
			t.Errorf("%d pixels: %+v, %v", width, got, err)
		}
		// Half a cell aside is another picture.
		if got, err := Read(seen, place.Sub(image.Pt(0, place.Dy()/gridRows/2+1))); err == nil && got.Frame == code.Frame && width > 200 {
			t.Errorf("%d pixels: read from the wrong place", width)
		}
	}
}

// stretched is a luma of limited range as a screen shows it.
func stretched(y byte) byte { return byte(max(0, min(255, (int(y)-16)*255/219))) }

func TestReadRefuses(t *testing.T) {
	img := newPicture(1280, 720).draw(code)
	if _, err := Read(img, image.Rect(0, 0, 100, 60)); err == nil {
		t.Error("a code in too few pixels")
	}
	if _, err := Read(img, image.Rect(1000, 0, 2280, 720)); err == nil {
		t.Error("a code outside the picture")
	}
	r := cell(img.Rect, firstColumn+20, 2) // one bit of the time
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			img.Y[img.YOffset(x, y)] ^= 0xff
		}
	}
	if _, err := Read(img, img.Rect); err == nil {
		t.Error("a flipped bit went unnoticed")
	}
	fillBytes(img.Y, 0)
	if _, err := Read(img, img.Rect); err == nil {
		t.Error("a code in the dark")
	}
}

func FuzzRead(f *testing.F) {
	img := newPicture(160, 90).draw(code)
	f.Add(img.Y, 0, 0, 160, 90)
	f.Add([]byte{1, 2, 3}, -1, -1, 300, 300)
	f.Fuzz(func(t *testing.T, luma []byte, x0, y0, x1, y1 int) {
		p := image.NewGray(image.Rect(0, 0, 160, 90))
		copy(p.Pix, luma)
		c, err := Read(p, image.Rect(x0, y0, x1, y1))
		if err == nil && c.Time.IsZero() {
			t.Error("a code without time")
		}
	})
}

func TestDrawMoves(t *testing.T) {
	p := newPicture(640, 360)
	first := bytes.Clone(p.draw(Code{Frame: 0, Time: code.Time}).Y)
	second := bytes.Clone(p.draw(Code{Frame: 1, Time: code.Time.Add(33 * time.Millisecond)}).Y)
	moved := 0
	for i := range first {
		if first[i] != second[i] {
			moved++
		}
	}
	if moved < len(first)/10 {
		t.Errorf("%d of %d pixels changed", moved, len(first))
	}
	// Nothing remains of a frame once the next is drawn.
	if again := newPicture(640, 360).draw(Code{Frame: 1, Time: code.Time.Add(33 * time.Millisecond)}); !bytes.Equal(again.Y, second) {
		t.Error("the second frame depends on the first")
	}
	if n := testing.AllocsPerRun(10, func() { p.draw(code) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// The text is what font says: the counter's digits, found where they belong.
func TestText(t *testing.T) {
	p := newPicture(1280, 720)
	p.draw(Code{Frame: 1234567, Time: code.Time})
	left := (1280 - 8*advance*p.scale) / 2
	top := cell(p.img.Rect, 0, textFirst).Min.Y + 2*p.scale
	for i, ch := range []byte("01234567") {
		for row := range glyphHeight {
			for x := range glyphWidth {
				want := byte(black)
				if font[ch][row]>>(glyphWidth-1-x)&1 != 0 {
					want = white
				}
				at := image.Pt(left+(i*advance+x)*p.scale+p.scale/2, top+row*p.scale+p.scale/2)
				if got := p.img.Y[p.img.YOffset(at.X, at.Y)]; got != want {
					t.Fatalf("digit %c, pixel %d,%d: %d", ch, x, row, got)
				}
			}
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []capture.Config{
		{Source: "pattern:stripes"},
		{Source: "pattern:", Video: capture.VideoConfig{Width: 64, Height: 64}},
	} {
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// recorder keeps the byte stream of one track and cancels after so many
// frames.
type recorder struct {
	t      *testing.T
	track  int
	stop   func()
	ask    func()
	frames int
	tracks []capture.Track
	keys   []bool
	times  []uint32
	stream []byte
}

func (r *recorder) Describe(tr []capture.Track) { r.tracks = append([]capture.Track(nil), tr...) }

func (r *recorder) Frame(f *capture.Frame) {
	if f.Track != r.track {
		return
	}
	if age := time.Since(f.Captured); age < 0 || f.Captured.IsZero() {
		r.t.Errorf("captured %v ago", age)
	}
	r.keys, r.times = append(r.keys, f.Keyframe), append(r.times, f.RTPTime)
	for _, p := range f.Payloads {
		r.unpack(p)
	}
	r.frames++
	switch r.frames {
	case 5:
		r.ask()
	case 12:
		r.stop()
	}
}

// unpack undoes RFC 6184.
func (r *recorder) unpack(p []byte) {
	start := []byte{0, 0, 0, 1}
	switch p[0] & 0x1f {
	case 24:
		for p = p[1:]; len(p) > 2; {
			n := int(p[0])<<8 | int(p[1])
			r.stream = append(append(r.stream, start...), p[2:2+n]...)
			p = p[2+n:]
		}
	case 28:
		if p[1]&0x80 != 0 {
			r.stream = append(append(r.stream, start...), p[0]&0xe0|p[1]&0x1f)
		}
		r.stream = append(r.stream, p[2:]...)
	default:
		r.stream = append(append(r.stream, start...), p...)
	}
}

// run records one layer, of which it asks for a keyframe after 5 frames.
func run(t *testing.T, video capture.VideoConfig, layer int) *recorder {
	t.Helper()
	s, err := New(capture.Config{ID: "p", Source: "pattern:", Video: video}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{t: t, stop: cancel, track: layer, ask: func() { s.Keyframe(layer) }}
	err = s.Run(ctx, r)
	if encode.Name == "" {
		if capture.CodeOf(err) != capture.CodeEncoder {
			t.Fatalf("a build without encoder says %v", err)
		}
		t.Skip("this build has no encoder, and says so")
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	r := run(t, capture.VideoConfig{Width: 640, Height: 360, FPS: 60}, 0)
	if len(r.tracks) != 1 || r.tracks[0].Width != 640 || r.tracks[0].Height != 360 || r.tracks[0].Codec != capture.H264 {
		t.Errorf("tracks %+v", r.tracks)
	}
	for i, k := range r.keys {
		if want := i == 0 || i == 5; k != want {
			t.Errorf("frame %d: keyframe %v", i, k)
		}
		if i > 0 && int32(r.times[i]-r.times[i-1]) <= 0 {
			t.Errorf("frame %d: RTP time did not advance", i)
		}
	}
}

// tally counts frames, and takes its time for one of them.
type tally struct {
	frames int
	slow   int
}

func (*tally) Describe([]capture.Track) {}
func (y *tally) Frame(*capture.Frame) {
	if y.frames++; y.frames == y.slow {
		time.Sleep(time.Second)
	}
}

// The rate holds without drift; what a slow moment missed is left out, never
// made up for; the counter goes on when the source runs again.
func TestRunPaces(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(capture.Config{Source: "pattern:", Video: capture.VideoConfig{Width: 160, Height: 90, FPS: 25}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		counter := uint32(0)
		for _, tt := range []struct{ slow, frames int }{{0, 251}, {100, 227}} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
			y := tally{slow: tt.slow}
			if err := s.Run(ctx, &y); err != nil {
				t.Fatal(err)
			}
			cancel()
			if y.frames != tt.frames {
				t.Errorf("%d frames in ten seconds, want %d", y.frames, tt.frames)
			}
			if counter += uint32(y.frames); s.next != counter {
				t.Errorf("counter at %d after %d frames", s.next, counter)
			}
		}
	})
}

func TestNewLayers(t *testing.T) {
	for _, tt := range []struct {
		video capture.VideoConfig
		ok    bool
	}{
		{capture.VideoConfig{Layers: 3}, true},
		{capture.VideoConfig{Layers: 4}, false},
		{capture.VideoConfig{Layers: 2, Width: 160, Height: 90}, true},
		{capture.VideoConfig{Layers: 3, Width: 160, Height: 90}, false}, // 40 × 22
	} {
		if _, err := New(capture.Config{Source: "pattern:", Video: tt.video}, slog.New(slog.DiscardHandler)); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.video, err)
		}
	}
}

// The whole way through a decoder that nobody here wrote: the clock can be
// read in every layer.
func TestCodeSurvivesEncoding(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skip("ffmpeg is not installed")
	}
	for layer := range capture.MaxLayers {
		t.Run(fmt.Sprint("layer ", layer), func(t *testing.T) {
			before := time.Now().Add(-time.Millisecond)
			r := run(t, capture.VideoConfig{Layers: layer + 1}, layer)
			for i, img := range decode(t, ffmpeg, r.stream, r.frames) {
				if size := img.Bounds().Size(); size.X != DefaultWidth>>layer || size.Y != DefaultHeight>>layer {
					t.Fatalf("a picture of %v", size)
				}
				c, err := Read(img, img.Bounds())
				if err != nil || int(c.Frame) != i || c.Time.Before(before) || c.Time.After(time.Now()) {
					t.Errorf("frame %d: %+v, %v", i, c, err)
				}
			}
		})
	}
}

// decode turns a byte stream into its pictures, of which there must be n.
func decode(t *testing.T, ffmpeg string, stream []byte, n int) []image.Image {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.h264"), filepath.Join(dir, "out-%02d.png")
	if err := os.WriteFile(in, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-i", in, "-vsync", "passthrough", out).CombinedOutput(); err != nil || len(msg) > 0 {
		t.Fatalf("ffmpeg: %v: %s", err, msg)
	}
	shots, _ := filepath.Glob(filepath.Join(dir, "*.png"))
	if len(shots) != n {
		t.Fatalf("%d frames decoded of %d", len(shots), n)
	}
	var all []image.Image
	for _, name := range shots {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, img)
	}
	return all
}

func BenchmarkDraw(b *testing.B) {
	p := newPicture(DefaultWidth, DefaultHeight)
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		p.draw(Code{Frame: i, Time: code.Time.Add(time.Duration(i) * 33 * time.Millisecond)})
	}
}

// discard takes frames and counts their bytes.
type discard struct{ bytes int }

func (*discard) Describe([]capture.Track) {}
func (d *discard) Frame(f *capture.Frame) {
	for _, p := range f.Payloads {
		d.bytes += len(p)
	}
}

// BenchmarkPattern is what a camera costs by its layers: the time a picture
// takes, and the CPU of all cores for 30 of them a second.
func BenchmarkPattern(b *testing.B) {
	for layers := 1; layers <= capture.MaxLayers; layers++ {
		b.Run(fmt.Sprint("layers=", layers), func(b *testing.B) { benchmarkPattern(b, layers) })
	}
}

func benchmarkPattern(b *testing.B, layers int) {
	var d discard
	s, err := New(capture.Config{Source: "pattern:", Video: capture.VideoConfig{Layers: layers}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	stream, err := encode.NewStream(s.cfg, s.layers, &d, &s.Control)
	if err != nil {
		b.Skip(err)
	}
	defer stream.Close()
	p := newPicture(DefaultWidth, DefaultHeight)
	b.ReportAllocs()
	begin := processTime(b)
	n := uint32(0)
	for ; b.Loop(); n++ {
		at := code.Time.Add(time.Duration(n) * time.Second / DefaultFPS)
		if err := stream.Deliver(p.draw(Code{Frame: n, Time: at}), at); err != nil {
			b.Fatal(err)
		}
	}
	picture := (processTime(b) - begin).Seconds() / float64(n)
	b.ReportMetric(math.Round(float64(d.bytes*8*DefaultFPS)/float64(n)/1000), "kbit/s")
	b.ReportMetric(100*picture*DefaultFPS, "%core")
}

// processTime is the CPU time of this process, user and system.
func processTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
