package encode

import (
	"image"
	"sync"
	"testing"
	"time"

	"edged/capture"
)

var small = Config{Width: 320, Height: 180, FPS: 30, Bitrate: 500_000}

// scene is a picture that moves with i.
func scene(img *image.YCbCr, i int) {
	for y := range img.Rect.Dy() {
		row := img.Y[y*img.YStride:][:img.Rect.Dx()]
		for x := range row {
			row[x] = 16 + byte((x*x/7+y*3+i*5)%220)
		}
	}
	for n := range img.Cb {
		img.Cb[n], img.Cr[n] = byte(96+(n+i)%64), byte(160-(n+i)%64)
	}
}

func newPicture(c Config) *image.YCbCr {
	return image.NewYCbCr(image.Rect(0, 0, c.Width, c.Height), image.YCbCrSubsampleRatio420)
}

func newTestEncoder(t testing.TB, c Config) Encoder {
	t.Helper()
	e, err := New(c)
	if Name == "" {
		if capture.CodeOf(err) != capture.CodeEncoder {
			t.Fatalf("a build without encoder says %v", err)
		}
		t.Skip("this build has no encoder, and says so")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{}, {Width: 321, Height: 180, FPS: 30, Bitrate: 1e6}, {Width: 320, Height: 180, Bitrate: 1e6},
		{Width: 320, Height: 180, FPS: 30}, {Width: 8192, Height: 4320, FPS: 30, Bitrate: 1e6},
	} {
		if _, err := New(c); capture.CodeOf(err) != capture.CodeEncoder {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestKeyframes(t *testing.T) {
	e := newTestEncoder(t, small)
	img := newPicture(small)
	var params capture.H264Params
	for i := range 2*30*10 + 1 {
		if i == 45 || i == 46 {
			e.ForceKeyframe()
		}
		scene(img, i)
		at := time.Unix(1, int64(i))
		u, err := e.Encode(img, at)
		if err != nil {
			t.Fatal(err)
		}
		if !u.Captured.Equal(at) {
			t.Fatal("the unit lost its picture's time")
		}
		nalus := capture.SplitAnnexB(nil, u.Data)
		if len(nalus) == 0 {
			t.Fatalf("frame %d was left out", i)
		}
		// 346: an interval after the last keyframe.
		want := i == 0 || i == 45 || i == 46 || i == 346
		if got := capture.H264IsKeyframe(nalus); got != want {
			t.Errorf("frame %d: keyframe %v", i, got)
		}
		if _, err := params.Observe(nalus); err != nil {
			t.Fatal(err)
		}
	}
	tr, ok := params.Track()
	if !ok || tr.Width != 320 || tr.Height != 180 || tr.Fmtp[:len("profile-level-id=42c0")] != "profile-level-id=42c0" {
		t.Errorf("track %+v, want constrained baseline", tr)
	}
}

func TestBitrate(t *testing.T) {
	e := newTestEncoder(t, small)
	img := newPicture(small)
	second := func(from int) (bits int) {
		for i := range 60 {
			scene(img, from+i)
			u, err := e.Encode(img, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if i >= 30 {
				bits += 8 * len(u.Data)
				if capture.H264IsKeyframe(capture.SplitAnnexB(nil, u.Data)) {
					t.Error("a keyframe nobody asked for")
				}
			}
		}
		return bits
	}
	high := second(0)
	e.SetBitrate(150_000)
	low := second(60)
	if high > 2*small.Bitrate || low >= high*3/4 {
		t.Errorf("%d bit/s at 500k, %d at 150k", high, low)
	}
}

func TestRefusesPictures(t *testing.T) {
	e := newTestEncoder(t, small)
	for name, img := range map[string]*image.YCbCr{
		"size":     newPicture(Config{Width: 640, Height: 360}),
		"format":   image.NewYCbCr(image.Rect(0, 0, 320, 180), image.YCbCrSubsampleRatio422),
		"no bytes": {Rect: image.Rect(0, 0, 320, 180), YStride: 320, CStride: 160, SubsampleRatio: image.YCbCrSubsampleRatio420},
	} {
		if _, err := e.Encode(img, time.Time{}); capture.CodeOf(err) != capture.CodeEncoder {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Setters from other goroutines while pictures are encoded: for the race
// detector, and for the order of Close.
func TestConcurrent(t *testing.T) {
	e := newTestEncoder(t, small)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				e.ForceKeyframe()
				e.SetBitrate(200_000 + i%5*10_000)
			}
		}
	})
	img := newPicture(small)
	for i := range 20 {
		scene(img, i)
		if _, err := e.Encode(img, time.Time{}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(img, time.Time{}); err == nil {
		t.Error("a closed encoder encoded")
	}
	e.ForceKeyframe()
	e.SetBitrate(1)
}

type record struct {
	tracks [][]capture.Track
	times  []uint32
	keys   []bool
}

func (r *record) Describe(tr []capture.Track) {
	r.tracks = append(r.tracks, append([]capture.Track(nil), tr...))
}
func (r *record) Frame(f *capture.Frame) {
	r.times, r.keys = append(r.times, f.RTPTime), append(r.keys, f.Keyframe)
}

func TestStream(t *testing.T) {
	newTestEncoder(t, small) // or skip
	var control Control
	var r record
	s, err := NewStream(small, 1, &r, &control)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img := newPicture(small)
	begin := time.Now()
	for i := range 10 {
		if i == 5 {
			control.Keyframe(0)
		}
		scene(img, i)
		if err := s.Deliver(img, begin.Add(time.Duration(i)*100*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.tracks) != 1 || r.tracks[0][0].Width != 320 {
		t.Errorf("described %+v", r.tracks)
	}
	for i := range r.times {
		if r.times[i] != uint32(i*9000) || r.keys[i] != (i == 0 || i == 5) {
			t.Errorf("frame %d: time %d, keyframe %v", i, r.times[i], r.keys[i])
		}
	}
	if len(r.times) != 10 {
		t.Errorf("%d frames", len(r.times))
	}
}

func BenchmarkEncode720p(b *testing.B) {
	c := Config{Width: 1280, Height: 720, FPS: 30, Bitrate: 2_500_000}
	e := newTestEncoder(b, c)
	img := newPicture(c)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%8 == 0 {
			scene(img, i)
		}
		if _, err := e.Encode(img, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
