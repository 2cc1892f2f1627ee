package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"edged/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is what a sink remembers of a frame.
type seen struct {
	rtpTime uint32
	at      time.Duration // since the first
	key     bool
	first   byte // of the first payload
	bytes   int
}

// record is a sink that ends the play after some frames.
type record struct {
	t      *testing.T
	most   int
	end    context.CancelFunc
	start  time.Time
	tracks []capture.Track
	frames []seen
}

func (r *record) Describe(tracks []capture.Track) { r.tracks = append(r.tracks, tracks...) }

func (r *record) Frame(f *capture.Frame) {
	if len(r.tracks) == 0 {
		r.t.Error("a frame before any description")
	}
	if len(r.frames) == 0 {
		r.start = f.Captured
	}
	s := seen{rtpTime: f.RTPTime, at: f.Captured.Sub(r.start), key: f.Keyframe, first: f.Payloads[0][0]}
	for _, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			r.t.Errorf("payload of %d bytes", len(p))
		}
		s.bytes += len(p)
	}
	if r.frames = append(r.frames, s); len(r.frames) == r.most {
		r.end()
	}
}

// play runs a source until it has given some frames.
func play(t *testing.T, cfg capture.Config, frames int) (*record, error) {
	t.Helper()
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &record{t: t, most: frames, end: cancel}
	return r, s.Run(ctx, r)
}

// Every kind of file plays in real time, twice and a half, without a seam.
func TestPlay(t *testing.T) {
	for name, want := range map[string]capture.Track{
		"clip.h264":           {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"clip.mp4":            {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"faststart.mp4":       {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"fragmented.mp4":      {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"fragmented-base.mp4": {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"sound.mov":           {Codec: capture.H264, Fmtp: "profile-level-id=42c00c;packetization-mode=1"},
		"vp8.ivf":             {Codec: capture.VP8},
		"vp9.ivf":             {Codec: capture.VP9, Fmtp: "profile-id=0"},
		"av1.ivf":             {Codec: capture.AV1, Fmtp: "level-idx=0;profile=0;tier=0"},
		"av1.mp4":             {Codec: capture.AV1, Fmtp: "level-idx=0;profile=0;tier=0"},
		"vp9.mp4":             {Codec: capture.VP9, Fmtp: "profile-id=0"},
		"clip.h265":           {Codec: capture.H265, Fmtp: "level-id=30;profile-id=1;tier-flag=0;tx-mode=SRST"},
		"hvc1.mp4":            {Codec: capture.H265, Fmtp: "level-id=30;profile-id=1;tier-flag=0;tx-mode=SRST"},
		"hev1.mp4":            {Codec: capture.H265, Fmtp: "level-id=30;profile-id=1;tier-flag=0;tx-mode=SRST"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := play(t, capture.Config{Source: "file:testdata/" + name}, 25)
				if err != nil {
					t.Fatal(err)
				}
				want.Kind, want.ClockRate, want.Width, want.Height = capture.Video, 90000, 160, 90
				if len(r.tracks) != 1 || r.tracks[0] != want {
					t.Errorf("described as %+v, want %+v", r.tracks, want)
				}
				for i, f := range r.frames {
					if d := int(f.rtpTime) - i*9000; d < -20 || d > 20 {
						t.Errorf("frame %d has RTP time %d", i, f.rtpTime)
					}
					if d := f.at - time.Duration(i)*100*time.Millisecond; d < -time.Millisecond || d > time.Millisecond {
						t.Errorf("frame %d came after %s", i, f.at)
					}
					if i%5 == 0 && !f.key || i >= 20 && f.bytes != r.frames[i-20].bytes {
						t.Errorf("frame %d is %+v, 20 frames before %+v", i, f, r.frames[max(0, i-20)])
					}
				}
			})
		})
	}
}

// All ways to hold the same stream give the same pictures.
func TestContainersAgree(t *testing.T) {
	isPicture := func(c capture.Codec, part []byte) bool {
		switch c {
		case capture.H264:
			return capture.H264IsPicture(part)
		case capture.H265:
			return capture.H265IsPicture(part)
		}
		return true
	}
	pictures := func(name string) (all [][]byte) {
		r := load(t, name)
		for {
			s, err := r.next()
			if errors.Is(err, io.EOF) {
				return all
			}
			if err != nil {
				t.Fatal(name, err)
			}
			for _, n := range s.unit {
				if isPicture(r.codec(), n) {
					all = append(all, bytes.Clone(n))
				}
			}
		}
	}
	for _, group := range [][]string{
		{"clip.h264", "clip.mp4", "faststart.mp4", "fragmented.mp4", "fragmented-base.mp4", "sound.mov"},
		{"clip.h265", "hvc1.mp4", "hev1.mp4"},
		{"vp9.ivf", "vp9.mp4"},
	} {
		want := pictures(group[0])
		if len(want) < 10 {
			t.Fatalf("%d pictures", len(want))
		}
		for _, name := range group[1:] {
			if got := pictures(name); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s: %d pictures, not the %d of %s", name, len(got), len(want), group[0])
			}
		}
	}
}

func load(t testing.TB, name string) reader {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader(bytes.NewReader(b), int64(len(b)), 10)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFaults(t *testing.T) {
	clip := func(name string, change func([]byte) []byte) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return change(b)
	}
	patch := func(name, at string, skip int, with ...byte) []byte {
		return clip(name, func(b []byte) []byte {
			i := bytes.Index(b, []byte(at))
			if i < 0 {
				t.Fatalf("%s has no %q", name, at)
			}
			copy(b[i+skip:], with)
			return b
		})
	}
	for name, c := range map[string]struct {
		content []byte
		code    capture.Code
		mention string
	}{
		"empty":                {nil, capture.CodeMedia, "at byte 0: neither"},
		"text":                 {[]byte("hello, this is no film"), capture.CodeMedia, "at byte 0: neither"},
		"short":                {[]byte{0, 0}, capture.CodeMedia, "neither"},
		"only start codes":     {bytes.Repeat([]byte{0, 0, 1}, 100), capture.CodeMedia, "no keyframe"},
		"no parameter sets":    {[]byte{0, 0, 0, 1, 0x65, 0x88, 1, 2}, capture.CodeMedia, "no keyframe"},
		"bad SPS":              {[]byte{0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x88}, capture.CodeMedia, "SPS"},
		"endless access unit":  {append([]byte{0, 0, 0, 1, 0x65, 0x88}, bytes.Repeat([]byte{7}, 5<<20)...), capture.CodeMedia, "more than 4194304 bytes"},
		"MP4 cut short":        {clip("clip.mp4", func(b []byte) []byte { return b[:3000] }), capture.CodeMedia, `box "mdat": a size of`},
		"MP4 unfinished":       {[]byte("\x00\x00\x00\x10ftypisom\x00\x00\x00\x00"), capture.CodeMedia, "no moov"},
		"MP4 cut in a header":  {[]byte("\x00\x00\x00\x10ftypisom\x00\x00\x00\x00\x00\x00"), capture.CodeMedia, "at byte 16: a box cut off"},
		"MP4 samples outside":  {patch("clip.mp4", "stco", 12, 0x7f), capture.CodeMedia, "lies outside the file"},
		"MP4 sample too large": {patch("clip.mp4", "stsz", 16, 0x7f), capture.CodeMedia, "sample 0 has 2"},
		"MP4 too many samples": {patch("clip.mp4", "stsz", 12, 0x7f), capture.CodeMedia, `box "stsz"`},
		"MP4 times missing":    {patch("clip.mp4", "stts", 12, 0, 0, 0, 1), capture.CodeMedia, `box "stts": times for`},
		"MP4 time stands":      {patch("clip.mp4", "stts", 16, 0, 0, 0, 0), capture.CodeMedia, "sample 1 comes 0/90000 s"},
		"MP4 no time scale":    {patch("clip.mp4", "mdhd", 16, 0, 0, 0, 0), capture.CodeMedia, `box "mdhd"`},
		"MP4 no chunks":        {patch("clip.mp4", "stsc", 12, 0, 0, 0, 9), capture.CodeMedia, `box "stsc"`},
		"MP4 box too large":    {patch("clip.mp4", "stbl", -4, 0x7f), capture.CodeMedia, `box "stbl": a size of`},
		"MP4 box missing":      {patch("clip.mp4", "stsz", 0, 'f', 'r', 'e', 'e'), capture.CodeMedia, `no "stsz"`},
		"MP4 NAL unit too long": {patch("clip.mp4", "mdat", 4, 0x7f), capture.CodeMedia,
			"a NAL unit of"},
		"MP4 JPEG":           {patch("clip.mp4", "avc1\x00\x00\x00\x00", 0, 'm', 'j', 'p', 'a'), capture.CodeCodec, `the file holds ["mjpa"]`},
		"MP4 H.265 B-frames": {clip("hevc.mp4", func(b []byte) []byte { return b }), capture.CodeCodec, "B-frames"},
		"MP4 hvcC version":   {patch("hvc1.mp4", "hvcC", 4, 9), capture.CodeMedia, `box "hvcC": not version 1`},
		"MP4 hvcC cut off":   {patch("hvc1.mp4", "hvcC", 4+24, 0x7f), capture.CodeMedia, `box "hvcC": a parameter set is cut off`},
		"MP4 hvcC too short": {patch("hvc1.mp4", "hvcC", 4+22, 0x7f), capture.CodeMedia, `box "hvcC": `},
		"MP4 hvcC bad SPS":   {patch("hvc1.mp4", "\x42\x01\x01", 2, 0xff, 0xff), capture.CodeMedia, `box "hvcC": SPS`},
		"MP4 av1C version":   {patch("av1.mp4", "av1C", 4, 0x01), capture.CodeMedia, `box "av1C": not version 1`},
		"MP4 av1C bad OBU":   {patch("av1.mp4", "av1C", 9, 0x7f), capture.CodeMedia, `box "av1C": OBU`},
		"IVF AV1 bad OBU":    {clip("av1.ivf", func(b []byte) []byte { b[32+12+2+1] = 0x7e; return b }), capture.CodeMedia, "at byte 44: "},
		"IVF VP9 no header":  {clip("vp9.ivf", func(b []byte) []byte { b[32+12+1] = 0; return b }), capture.CodeMedia, "VP9: keyframe"},
		"H.265 no sets":      {[]byte{0, 0, 0, 1, 0x46, 1, 0x50, 0, 0, 1, 0x26, 1, 0xaf, 1, 2}, capture.CodeMedia, "no keyframe"},
		"H.265 bad SPS":      {[]byte{0, 0, 1, 0x42, 1, 1, 0, 0, 1, 0x26, 1, 0xaf, 1}, capture.CodeMedia, "SPS"},
		"MP4 B-frames":       {clip("bframes.mp4", func(b []byte) []byte { return b }), capture.CodeCodec, "B-frames"},
		"B-frames":           {clip("bframes.h264", func(b []byte) []byte { return b }), capture.CodeCodec, "B-frames"},
		"MP4 endless samples": {clip("clip.mp4", func(b []byte) []byte {
			i := bytes.Index(b, []byte("stsz"))
			copy(b[i+8:], []byte{0, 0, 0, 1, 0, 0x11, 0, 0}) // of one byte each, and a file that could hold them
			free := make([]byte, 2<<20)
			copy(free, "\x00\x20\x00\x00free")
			return append(b, free...)
		}), capture.CodeMedia, "1114112 samples, at most"},
		"IVF time leaps": {clip("vp8.ivf", func(b []byte) []byte {
			second := 32 + 12 + int(b[32]) + int(b[33])<<8
			b[second+6] = 1 // 65536 tenths of a second later
			return b
		}), capture.CodeMedia, "does not follow"},
		"fragment cut":      {patch("fragmented.mp4", "trun", 8, 0x7f), capture.CodeMedia, `box "trun"`},
		"fragment far away": {patch("fragmented.mp4", "trun", 12, 0x7f), capture.CodeMedia, "outside the file"},
		"IVF cut in header": {clip("vp8.ivf", func(b []byte) []byte { return b[:20] }), capture.CodeMedia, "12 bytes too early"},
		"IVF cut in frame":  {clip("vp8.ivf", func(b []byte) []byte { return b[:100] }), capture.CodeMedia, "too early"},
		"IVF cut in frame header": {clip("vp8.ivf", func(b []byte) []byte { return b[:40] }), capture.CodeMedia,
			"at byte 32: the file ends 4 bytes too early"},
		"IVF huge frame":   {clip("vp8.ivf", func(b []byte) []byte { b[35] = 0x7f; return b }), capture.CodeMedia, "at byte 32: frame of 2"},
		"IVF no time base": {clip("vp8.ivf", func(b []byte) []byte { clear(b[16:24]); return b }), capture.CodeMedia, "time base"},
		"IVF other codec":  {clip("vp8.ivf", func(b []byte) []byte { copy(b[8:], "THEO"); return b }), capture.CodeCodec, "THEO"},
		"IVF no frames":    {clip("vp8.ivf", func(b []byte) []byte { return b[:32] }), capture.CodeMedia, "no pictures"},
		"IVF time goes back": {clip("vp8.ivf", func(b []byte) []byte {
			return append(b, b[32:]...)
		}), capture.CodeMedia, "does not follow"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "film")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				_, err := play(t, capture.Config{Source: "file:" + path, Video: capture.VideoConfig{FPS: 10}}, 1000)
				expect(t, err, c.code, c.mention)
				expect(t, err, c.code, "file "+path+": ")
			})
		})
	}
}

func expect(t *testing.T, err error, code capture.Code, mention string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if capture.CodeOf(err) != code || !strings.Contains(err.Error(), mention) {
		t.Errorf("%s: %v; want %s: … %q …", capture.CodeOf(err), err, code, mention)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]capture.Code{
		filepath.Join(dir, "missing"):        capture.CodeNotFound,
		filepath.Join(plain, "below"):        capture.CodeNotFound,
		dir:                                  capture.CodeMedia,
		"/dev/null":                          capture.CodeMedia,
		"//" + filepath.Join(dir, "nowhere"): capture.CodeNotFound,
	} {
		_, err := play(t, capture.Config{Source: "file:" + path}, 1)
		expect(t, err, want, "")
	}
}

func TestDenied(t *testing.T) {
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.WriteFile(locked, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // root may read everything: be somebody else on this thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Setfsuid(0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	_, _, err := open(locked)
	expect(t, err, capture.CodeDenied, "permission denied")
}

func TestFrameRate(t *testing.T) {
	// Without timing in its SPS a byte stream plays as configured, or not at all.
	b, err := os.ReadFile("testdata/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	if r := load(t, "clip.h264").(*annexB); r.fps != 10 || r.params.FPS() != 10 {
		t.Errorf("%v, SPS says %v", r.fps, r.params.FPS())
	}
	// Take vui_parameters_present_flag out: the SPS of 160 × 90 ends before it.
	plain := withoutVUI(t, b)
	if _, err := newReader(bytes.NewReader(plain), int64(len(plain)), 0); capture.CodeOf(err) != capture.CodeMedia || !strings.Contains(err.Error(), "set the camera's fps") {
		t.Error(err)
	}
	r, err := newReader(bytes.NewReader(plain), int64(len(plain)), 50)
	if err != nil {
		t.Fatal(err)
	}
	var last sample
	for range 3 {
		if last, err = r.next(); err != nil {
			t.Fatal(err)
		}
	}
	if last.at != 2*90000/50 {
		t.Errorf("third frame at %d", last.at)
	}
}

func withoutVUI(t *testing.T, stream []byte) []byte {
	t.Helper()
	// Baseline, level 1, id 0, log2_max_frame_num 4, POC type 2, one reference,
	// 10 × 6 macroblocks, no VUI.
	sps := []byte{0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x36, 0x40}
	var out []byte
	for _, n := range capture.SplitAnnexB(nil, stream) {
		if n[0]&0x1f == 7 {
			n = sps
		}
		out = append(append(out, 0, 0, 0, 1), n...)
	}
	return out
}

func TestNewRefuses(t *testing.T) {
	for _, in := range []string{"file:", "rtsp://x", "file://elsewhere/clip.mp4", "file:a\x00b", "file://%zz"} {
		if _, err := New(capture.Config{Source: in}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
	for in, want := range map[string]string{
		"file:/a b%20c.mp4":             "/a b%20c.mp4",
		"file:clip.h264":                "clip.h264",
		"file:///srv/a%20b.mp4":         "/srv/a b.mp4",
		"file://localhost/srv/clip.mp4": "/srv/clip.mp4",
	} {
		s, err := New(capture.Config{Source: in}, slog.New(slog.DiscardHandler))
		if err != nil || s.path != want {
			t.Errorf("%q: %v, %v", in, s, err)
		}
	}
}

// slow is a disk that hangs once.
type slow struct {
	reader
	n int
}

func (s *slow) next() (sample, error) {
	if s.n++; s.n == 4 {
		time.Sleep(30 * time.Second)
	}
	return s.reader.next()
}

// After a long delay the pace goes on as before instead of rushing after the
// clock.
func TestPaceAfterDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &record{t: t, most: 10, end: cancel}
		p, err := newPlayer(&slow{reader: load(t, "clip.mp4")}, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for i, f := range r.frames {
			want := time.Duration(i) * 100 * time.Millisecond
			if i >= 3 {
				want = 30200*time.Millisecond + time.Duration(i-3)*100*time.Millisecond
			}
			if d := f.at - want; d < -time.Millisecond || d > time.Millisecond {
				t.Errorf("frame %d came after %s, want %s", i, f.at, want)
			}
		}
	})
}

// atom makes a box.
func atom(kind string, content ...[]byte) []byte {
	b := append([]byte{0, 0, 0, 0}, kind...)
	for _, c := range content {
		b = append(b, c...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func words(w ...uint32) (b []byte) {
	for _, v := range w {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// A fragment may say most things once for all samples, at any of three places.
func TestFragmentDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		moof []byte // its content
		want []place
	}{
		"of the track": {atom("traf", atom("tfhd", words(0, 7)), atom("trun", words(1, 2, 100))),
			[]place{{1100, 0, 50}, {1150, 900, 50}}},
		"of the fragment, far away": {atom("traf", atom("tfhd", words(1|2|8|0x10, 7, 0, 5000, 1, 20, 60)), atom("tfdt", words(0, 1000)), atom("trun", words(0, 2))),
			[]place{{5000, 90000, 60}, {5060, 91800, 60}}},
		"of each sample, with all else": {atom("traf", atom("tfhd", words(0, 7)), atom("tfdt", words(1<<24, 0, 500)),
			atom("trun", words(1|4|0x100|0x200|0x400|0x800, 2, 8, 0, 30, 11, 0, 0, 40, 12, 0, 0))),
			[]place{{1008, 45000, 11}, {1019, 47700, 12}}},
		"endless":          {atom("traf", atom("tfhd", words(0, 7)), atom("trun", words(0, 0xffffffff))), nil},
		"of another track": {atom("traf", atom("tfhd", words(0, 8)), atom("trun", words(1, 2, 100))), nil},
	} {
		r := &mp4{size: 1 << 20, id: 7, timescale: 1000, defaults: fragment{duration: 10, size: 50}}
		var clock int64
		err := r.moof(box{kind: "moof", at: 1008, body: c.moof}, &clock)
		if (err != nil) != (name == "endless") {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(r.index, c.want) {
			t.Errorf("%s: %v, want %v", name, r.index, c.want)
		}
	}
}

// Run ends at once when its owner leaves between two frames.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(capture.Config{Source: "file:testdata/clip.mp4"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1030*time.Millisecond)
		defer cancel()
		r := &record{t: t, most: -1}
		start := time.Now()
		if err := s.Run(ctx, r); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 1030*time.Millisecond || len(r.frames) != 11 {
			t.Errorf("ended after %s with %d frames", d, len(r.frames))
		}
	})
}
