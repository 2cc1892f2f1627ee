package m2m

import (
	"bytes"
	"errors"
	"image"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

var hd = Config{Width: 1280, Height: 720, FPS: 30, Bitrate: 2_500_000, KeyframeInterval: 300}

// The sizes that the C headers give (amd64 and arm64; arm with 32-bit time).
func TestSizes(t *testing.T) {
	type sizes struct{ format, buffer, plane uintptr }
	want := sizes{208, 88, 64}
	if unsafe.Sizeof(uintptr(0)) == 4 {
		want = sizes{204, 68, 60}
	}
	if got := (sizes{unsafe.Sizeof(format{}), unsafe.Sizeof(buffer{}), unsafe.Sizeof(plane{})}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, got := range map[string][2]uintptr{
		"v4l2_capability":     {unsafe.Sizeof(capability{}), 104},
		"v4l2_fmtdesc":        {unsafe.Sizeof(formatDescription{}), 64},
		"v4l2_requestbuffers": {unsafe.Sizeof(requestBuffers{}), 20},
		"v4l2_control":        {unsafe.Sizeof(control{}), 8},
		"v4l2_queryctrl":      {unsafe.Sizeof(queryControl{}), 68},
		"v4l2_streamparm":     {unsafe.Sizeof(streamParameters{}), 204},
		"v4l2_selection":      {unsafe.Sizeof(selection{}), 64},
		"v4l2_encoder_cmd":    {unsafe.Sizeof(command{}), 40},
		"planes":              {unsafe.Offsetof(multi{}.plane), 20},
		"num_planes":          {unsafe.Offsetof(multi{}.planes), 180},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", name, got[0], got[1])
		}
	}
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		if setFormat != 0xc0d05605 || qbuf != 0xc058560f || dqbuf != 0xc0585611 || querybuf != 0xc0585609 {
			t.Errorf("S_FMT 0x%x, QBUF 0x%x, DQBUF 0x%x, QUERYBUF 0x%x", setFormat, qbuf, dqbuf, querybuf)
		}
	}
	if querycap != 0x80685600 || enumFormat != 0xc0405602 || reqbufs != 0xc0145608 || streamOn != 0x40045612 || streamOff != 0x40045613 ||
		setParm != 0xc0cc5616 || setControl != 0xc008561c || queryCtrl != 0xc0445624 || encoderCmd != 0xc028564d || setSelect != 0xc040565f {
		t.Error("a number of an ioctl is wrong")
	}
}

func openCodec(t *testing.T, c *codec, cfg Config) *Encoder {
	t.Helper()
	e, err := first([]string{"/dev/video11"}, func(string) (node, error) { return c, nil }, cfg, formatH264)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.Close() // some tests break it
		if c.mapped != 0 || !c.closed {
			t.Errorf("%d buffers stay mapped, closed %v", c.mapped, c.closed)
		}
	})
	return e
}

func picture(cfg Config, shade byte) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, cfg.Width, cfg.Height), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = shade
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = shade+1, shade+2
	}
	return img
}

// What a Pi's encoder is asked, in which order: controls before formats, as
// the Pi's own programs have it.
func TestCallsOfThePi(t *testing.T) {
	c := newCodec()
	e := openCodec(t, c, hd)
	if e.Name() != "bcm2835-codec-encode" {
		t.Errorf("named %q", e.Name())
	}
	if _, err := e.Encode(picture(hd, 1), time.Now()); err != nil {
		t.Fatal(err)
	}
	e.SetBitrate(1_000_000)
	e.ForceKeyframe()
	e.SetFrameRate(15)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(`
QUERYCAP
S_CTRL 0x9909cf = 2500000
S_CTRL 0x990a6b = 1
S_CTRL 0x990a67 = 9
S_CTRL 0x9909e2 = 1
S_CTRL 0x990a66 = 300
S_FMT capture H264 1280 × 720
S_FMT output YU12 1280 × 720
S_SELECTION crop 1280 × 720
S_PARM 1/30
REQBUFS output 1
QUERYBUF output 0
REQBUFS capture 4
QUERYBUF capture 0
QUERYBUF capture 1
QUERYBUF capture 2
QUERYBUF capture 3
STREAMON output
STREAMON capture
S_CTRL 0x9909cf = 1000000
S_CTRL 0x9909e5 = 1
S_PARM 1/15
ENCODER_CMD 1
STREAMOFF capture
STREAMOFF output`)
	if got := strings.Join(c.calls, "\n"); got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
}

// Pictures reach the encoder where it looks for them; units come with their
// keyframes when asked; times go along.
func TestEncode(t *testing.T) {
	for _, planar := range []bool{true, false} {
		c := newCodec()
		c.extra = 8 // as for whole blocks
		if !planar {
			c.caps = capM2M // and NV12
		}
		cfg := Config{Width: 100, Height: 52, FPS: 10, Bitrate: 100_000, KeyframeInterval: 100}
		e := openCodec(t, c, cfg)
		begin := time.Now()
		for i := range 12 {
			if i == 5 {
				e.ForceKeyframe()
			}
			at := begin.Add(time.Duration(i) * 100 * time.Millisecond)
			if i == 8 {
				at = begin // a clock that was set back
			}
			before := c.time
			data, err := e.Encode(picture(cfg, byte(10*i)), at)
			if err != nil {
				t.Fatal(err)
			}
			nalus := capture.SplitAnnexB(nil, data)
			if got, want := capture.H264IsKeyframe(nalus), i == 0 || i == 5; got != want {
				t.Errorf("picture %d: keyframe %v", i, got)
			}
			if last := nalus[len(nalus)-1]; last[len(last)-1] != byte(i+1) {
				t.Errorf("picture %d: the unit of another, % x", i, last)
			}
			if c.time.Nano() <= before.Nano() || i < 8 && c.time.Nano() != int64(firstMoment)+int64(i)*1e8 {
				t.Errorf("picture %d: time %v after %v", i, c.time, before)
			}
			checkMemory(t, c, cfg, byte(10*i))
		}
	}
}

// checkMemory looks for the picture of a shade in the codec's buffer: lines of
// 128 bytes, 60 of luma.
func checkMemory(t *testing.T, c *codec, cfg Config, shade byte) {
	t.Helper()
	const stride, lines = 128, 60
	m := c.memory[0]
	for y := range cfg.Height {
		if row := m[y*stride:][:cfg.Width]; !bytes.Equal(row, bytes.Repeat([]byte{shade}, cfg.Width)) {
			t.Fatalf("row %d is % x", y, row)
		}
	}
	chroma := m[stride*lines:]
	for y := range cfg.Height / 2 {
		if c.planar() {
			cb, cr := chroma[y*stride/2:][:cfg.Width/2], chroma[stride/2*lines/2+y*stride/2:][:cfg.Width/2]
			if !bytes.Equal(cb, bytes.Repeat([]byte{shade + 1}, cfg.Width/2)) || !bytes.Equal(cr, bytes.Repeat([]byte{shade + 2}, cfg.Width/2)) {
				t.Fatalf("chroma row %d", y)
			}
		} else if !bytes.Equal(chroma[y*stride:][:cfg.Width], bytes.Repeat([]byte{shade + 1, shade + 2}, cfg.Width/2)) {
			t.Fatalf("chroma row %d", y)
		}
	}
}

// A unit that is not of the picture just queued is an old one.
func TestStaleUnit(t *testing.T) {
	c := newCodec()
	e := openCodec(t, c, hd)
	stale := coding{buffer{index: c.free[3], timestamp: unix.Timeval{Sec: 0, Usec: 5}}, plane{used: 3}}
	c.free, c.done = c.free[:3], []coding{stale}
	data, err := e.Encode(picture(hd, 1), time.Now())
	if err != nil || !capture.H264IsKeyframe(capture.SplitAnnexB(nil, data)) {
		t.Errorf("% x, %v", data, err)
	}
	if len(c.free) != 4 {
		t.Errorf("%d buffers are back", len(c.free))
	}
}

func TestOpenFails(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*codec)
		code   capture.Code
		say    string
	}{
		"a camera":            {func(c *codec) { c.caps = 1 | 0x4000000 }, capture.CodeNotFound, "no hardware encoder"},
		"a decoder":           {func(c *codec) { c.formats[typeCapturePlanar] = []uint32{formatI420} }, capture.CodeNotFound, "no hardware encoder"},
		"odd pictures":        {func(c *codec) { c.formats[typeOutputPlanar] = []uint32{0x20203852} }, capture.CodeNotFound, "no hardware encoder"},
		"no keyframes":        {func(c *codec) { delete(c.controls, forceKeyframe) }, capture.CodeEncoder, "no control 0x9909e5"},
		"no capabilities":     {func(c *codec) { c.fail["QUERYCAP"] = unix.ENOTTY }, capture.CodeNotFound, "no hardware encoder"},
		"profile":             {func(c *codec) { c.fail["S_CTRL 0x990a6b"] = unix.EINVAL }, capture.CodeEncoder, "baseline"},
		"coded format":        {func(c *codec) { c.fail["S_FMT capture"] = unix.EBUSY }, capture.CodeBusy, "coded format"},
		"size":                {func(c *codec) { c.fail["S_FMT output"] = unix.EINVAL }, capture.CodeEncoder, "format"},
		"larger pictures":     {func(c *codec) { c.extra = 4; c.fail["S_SELECTION"] = unix.ENOTTY }, capture.CodeEncoder, "1280 × 724"},
		"out of memory":       {func(c *codec) { c.fail["REQBUFS output"] = unix.ENOMEM }, capture.CodeBusy, "(/dev/video11): buffers"},
		"no coded buffers":    {func(c *codec) { c.fail["REQBUFS capture"] = unix.ENOMEM }, capture.CodeBusy, "buffers"},
		"a buffer":            {func(c *codec) { c.fail["QUERYBUF capture 2"] = unix.EINVAL }, capture.CodeEncoder, "buffer"},
		"queue":               {func(c *codec) { c.fail["QBUF capture"] = unix.EIO }, capture.CodeEncoder, "queue"},
		"busy when it starts": {func(c *codec) { c.fail["STREAMON capture"] = unix.EBUSY }, capture.CodeBusy, "start"},
		"gone":                {func(c *codec) { c.fail["STREAMON output"] = unix.ENODEV }, capture.CodeEncoder, "start"},
	} {
		c := newCodec()
		tt.change(c)
		_, err := first([]string{"/dev/video11"}, func(string) (node, error) { return c, nil }, hd, formatH264)
		if err == nil || capture.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: %s, %v", name, capture.CodeOf(err), err)
		}
		if c.mapped != 0 || !c.closed {
			t.Errorf("%s: %d buffers stay mapped, closed %v", name, c.mapped, c.closed)
		}
	}
}

// The encoder is found among other devices, by what it can.
func TestFirst(t *testing.T) {
	camera, busy, right := newCodec(), newCodec(), newCodec()
	camera.caps = 1
	busy.fail["STREAMON"] = unix.EBUSY
	there := map[string]node{"/dev/video0": camera, "/dev/video11": busy, "/dev/video31": right}
	open := func(path string) (node, error) {
		if n, ok := there[path]; ok {
			return n, nil
		}
		return nil, unix.EACCES
	}
	e, err := first([]string{"/dev/video0", "/dev/video1", "/dev/video11", "/dev/video31"}, open, hd, formatH264)
	if err != nil || e.node != node(right) || !camera.closed || !busy.closed {
		t.Errorf("%v, %v", e, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	_, err = first([]string{"/dev/video0", "/dev/video1"}, open, hd, formatH264)
	if capture.CodeOf(err) != capture.CodeDenied || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("one that may not be opened: %v", err)
	}
	_, err = first([]string{"/dev/video0", "/dev/video1", "/dev/video11"}, open, hd, formatH264)
	if capture.CodeOf(err) != capture.CodeBusy {
		t.Errorf("one that is busy: %v", err)
	}
}

func TestEncodeFails(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*codec)
		say    string
	}{
		"hangs":          {func(c *codec) { c.hang = true }, "not encoded"},
		"gone":           {func(c *codec) { c.fail["DQBUF capture"] = unix.ENODEV }, "no such device"},
		"not queued":     {func(c *codec) { c.fail["QBUF output"] = unix.EINVAL }, "queue a picture"},
		"damaged":        {func(c *codec) { c.broken = func(b *buffer, _ *plane) { b.flags |= flagError } }, "could not be encoded"},
		"wrong buffer":   {func(c *codec) { c.broken = func(b *buffer, _ *plane) { b.index = 77 } }, "buffer 77"},
		"too many":       {func(c *codec) { c.broken = func(_ *buffer, p *plane) { p.used = 1 << 31 } }, "2147483648 bytes"},
		"wrong start":    {func(c *codec) { c.broken = func(_ *buffer, p *plane) { p.data = p.used + 1 } }, "bytes in buffer"},
		"cut off":        {func(c *codec) { c.broken = func(_ *buffer, p *plane) { p.used = c.codedSize } }, "more than"},
		"ends by itself": {func(c *codec) { c.broken = func(b *buffer, _ *plane) { b.flags |= flagLast } }, "broken pipe"},
	} {
		c := newCodec()
		e := openCodec(t, c, hd)
		tt.change(c)
		_, err := e.Encode(picture(hd, 1), time.Now())
		if err == nil || !strings.Contains(err.Error(), tt.say) || !strings.HasPrefix(err.Error(), "bcm2835-codec-encode: ") {
			t.Errorf("%s: %v", name, err)
		}
		if err := e.Close(); err != nil || slices.Contains(c.calls, "ENCODER_CMD 1") {
			t.Errorf("%s: close: %v, asked %q", name, err, c.calls)
		}
	}
}

func TestClosed(t *testing.T) {
	c := newCodec()
	e := openCodec(t, c, hd)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	asked := len(c.calls)
	e.ForceKeyframe()
	e.SetBitrate(1)
	e.SetFrameRate(1)
	if err := e.Close(); err != nil || len(c.calls) != asked {
		t.Errorf("a closed encoder: %v, asked %q", err, c.calls[asked:])
	}
	if _, err := e.Encode(picture(hd, 1), time.Now()); capture.CodeOf(err) != capture.CodeEncoder {
		t.Errorf("a closed encoder encodes: %v", err)
	}
}

// An encoder that does not end its stream is closed all the same.
func TestCloseOfAHung(t *testing.T) {
	c := newCodec()
	e := openCodec(t, c, hd)
	c.fail["ENCODER_CMD"] = unix.ENOTTY
	if err := e.Close(); err != nil {
		t.Errorf("one without the command: %v", err)
	}
	c = newCodec()
	e = openCodec(t, c, hd)
	c.broken = func(b *buffer, _ *plane) { b.flags = 0 }
	if err := e.Close(); !errors.Is(err, os.ErrDeadlineExceeded) || !c.closed {
		t.Errorf("one that hangs: %v, closed %v", err, c.closed)
	}
}

// What an encoder may lack.
func TestPoorEncoder(t *testing.T) {
	c := newCodec()
	c.controls = map[uint32]int32{forceKeyframe: 0, bitrateTarget: 0, h264Profile: 0, gopSize: 12}
	c.fail["S_SELECTION"], c.fail["S_PARM"] = unix.ENOTTY, unix.ENOTTY
	openCodec(t, c, hd)
	if !slices.Contains(c.calls, "S_CTRL 0x9909cb = 300") {
		t.Errorf("asked %q", c.calls)
	}
}

func TestLevel(t *testing.T) {
	for _, tt := range []struct{ w, h, fps, want int }{
		{640, 480, 30, 9}, {1280, 720, 30, 9}, {1280, 720, 60, 10}, {1920, 1080, 30, 11}, {1920, 1080, 60, 13}, {2560, 1440, 30, 14}, {3840, 2160, 30, 15},
	} {
		if got := level(Config{Width: tt.w, Height: tt.h, FPS: tt.fps}); got != tt.want {
			t.Errorf("%d × %d at %d: entry %d, want %d", tt.w, tt.h, tt.fps, got, tt.want)
		}
	}
}

// A frame costs no allocation.
func TestEncodeAllocates(t *testing.T) {
	c := newCodec()
	e := openCodec(t, c, hd)
	img, at := picture(hd, 1), time.Now()
	one := func() {
		at = at.Add(33 * time.Millisecond)
		if _, err := e.Encode(img, at); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		one()
	}
	if n := testing.AllocsPerRun(100, one); n != 0 {
		t.Errorf("%v allocations a picture", n)
	}
}
