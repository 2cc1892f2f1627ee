package encode

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"strings"
	"testing"
	"time"

	"edged/capture"
)

func TestLayers(t *testing.T) {
	for _, tt := range []struct {
		width, height, bitrate, n int
		want                      string
	}{
		{1280, 720, 2_500_000, 1, "1280×720@2500000"},
		{1280, 720, 2_500_000, 3, "1280×720@2500000 640×360@500000 320×180@100000"},
		{1280, 720, 2_500_000, 9, "1280×720@2500000 640×360@500000 320×180@100000"},
		{1366, 768, 1_000_000, 3, "1366×768@1000000 682×384@200000 340×192@40000"}, // never odd
		{640, 360, 50_000, 3, "640×360@50000 320×180@30000 160×90@30000"},
		{640, 360, 20_000, 2, "640×360@20000 320×180@20000"}, // never above the one above
		{256, 144, 200_000, 3, "256×144@200000 128×72@40000 64×36@30000"},
		{254, 144, 200_000, 3, "254×144@200000 126×72@40000"}, // 62 wide
		{640, 64, 200_000, 3, "640×64@200000 320×32@40000"},   // 16 high
		{96, 64, 200_000, 2, "96×64@200000"},
	} {
		var got []string
		for _, c := range Layers(Config{Width: tt.width, Height: tt.height, FPS: 30, Bitrate: tt.bitrate}, tt.n) {
			got = append(got, fmt.Sprintf("%d×%d@%d", c.Width, c.Height, c.Bitrate))
			if c.FPS != 30 {
				t.Errorf("%d frames a second", c.FPS)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%d layers of %d × %d: %s", tt.n, tt.width, tt.height, got)
		}
	}
}

// shot is one frame as delivered.
type shot struct {
	track    int
	rtpTime  uint32
	captured time.Time
	keyframe bool
	bytes    int
}

// studio is a stream of several layers and what came out of it.
type studio struct {
	t         testing.TB
	control   Control
	stream    *Stream
	img       *image.YCbCr
	pictures  int
	described [][]capture.Track
	shots     []shot // of the last picture
	faults    map[int]error
}

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newStudio(t testing.TB, cfg Config, layers int) *studio {
	newTestEncoder(t, cfg) // or skip
	s := &studio{t: t, img: newPicture(cfg), faults: map[int]error{}}
	var err error
	if s.stream, err = NewStream(cfg, layers, s, &s.control); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stream.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *studio) Describe(tracks []capture.Track) {
	s.described = append(s.described, slices.Clone(tracks))
}

func (s *studio) Frame(f *capture.Frame) {
	n := 0
	for _, p := range f.Payloads {
		n += len(p)
	}
	s.shots = append(s.shots, shot{f.Track, f.RTPTime, f.Captured, f.Keyframe, n})
}

func (s *studio) LayerFailed(layer int, err error) { s.faults[layer] = err }

// next delivers one picture and says which layers came, with a * after
// keyframes.
func (s *studio) next() string {
	s.t.Helper()
	s.shots = s.shots[:0]
	captured := began.Add(time.Duration(s.pictures) * time.Second / 30)
	scene(s.img, s.pictures)
	s.pictures++
	if err := s.stream.Deliver(s.img, captured); err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	for _, sh := range s.shots {
		fmt.Fprint(&b, sh.track)
		if sh.keyframe {
			b.WriteByte('*')
		}
		if sh.rtpTime != s.shots[0].rtpTime || !sh.captured.Equal(captured) || sh.rtpTime != uint32(captured.Sub(began).Microseconds()*9/100) {
			s.t.Errorf("picture %d: layer %d at %d, %v; layer %d at %d", s.pictures-1, sh.track, sh.rtpTime, sh.captured, s.shots[0].track, s.shots[0].rtpTime)
		}
	}
	return b.String()
}

func (s *studio) expect(pictures ...string) {
	s.t.Helper()
	for _, want := range pictures {
		if got := s.next(); got != want {
			s.t.Errorf("picture %d: layers %s, want %s", s.pictures-1, got, want)
		}
	}
}

func TestStreamOfThreeLayers(t *testing.T) {
	s := newStudio(t, Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000}, 3)
	s.expect("0*1*2*", "012", "012")
	s.control.Keyframe(1)
	s.expect("01*2", "012") // nobody else is disturbed
	s.control.Keyframe(2)
	s.control.Keyframe(0)
	s.expect("0*12*", "012")
	for _, none := range []int{-1, 3, 1 << 30} {
		s.control.Keyframe(none)
		s.control.Demand(none, false)
	}
	s.expect("012")
	if len(s.described) != 1 {
		t.Fatalf("described %d times", len(s.described))
	}
	for i, want := range [][2]int{{640, 360}, {320, 180}, {160, 90}} {
		tr := s.described[0][i]
		if tr.Layer != i || tr.Width != want[0] || tr.Height != want[1] || tr.Codec != capture.H264 || tr.Kind != capture.Video {
			t.Errorf("track %d: %+v", i, tr) // sizes as the parameter sets say
		}
	}
	if len(s.faults) > 0 {
		t.Error(s.faults)
	}
}

func TestStreamSparesLayers(t *testing.T) {
	s := newStudio(t, Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000}, 3)
	s.control.Demand(1, false)
	s.expect("0*1*2*", "02", "02") // the first describes all
	s.control.Demand(2, false)
	s.control.Demand(0, false)
	s.expect("2", "2") // of none the smallest, by way of the one between
	s.control.Demand(1, true)
	s.expect("1*", "1")
	s.control.Keyframe(2) // of a layer that is away: it begins with one anyway
	s.expect("1")
	s.control.Demand(2, true)
	s.expect("12*", "12")
	s.control.Demand(0, true)
	s.expect("0*12", "012")
	s.control.Demand(1, false)
	s.control.Demand(1, true) // between two pictures: nothing was missed
	s.expect("012")
	if len(s.described) != 1 {
		t.Errorf("described %d times", len(s.described))
	}
}

func TestStreamTooSmallForItsLayers(t *testing.T) {
	s := newStudio(t, Config{Width: 160, Height: 90, FPS: 30, Bitrate: 100_000}, 3)
	s.expect("0*1*", "01")
	if err := s.faults[2]; len(s.faults) != 1 || capture.CodeOf(err) != capture.CodeEncoder || !strings.Contains(err.Error(), "64 × 32") {
		t.Errorf("%v", s.faults)
	}
}

// The layers' bitrates: each is held on its own.
func TestStreamBitrates(t *testing.T) {
	s := newStudio(t, Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000}, 2)
	var bits [2]int
	for range 90 {
		s.next()
		for _, sh := range s.shots {
			if !sh.keyframe {
				bits[sh.track] += 8 * sh.bytes
			}
		}
	}
	// The scene is noise that moves: the encoder needs all it may have.
	if top, low := bits[0]/3, bits[1]/3; top > 1_500_000 || low > 300_000 || low*2 > top {
		t.Errorf("%d and %d bit/s", top, low)
	}
}

// broken fails after some pictures.
type broken struct {
	Encoder
	left int
}

func (b *broken) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	if b.left--; b.left < 0 {
		return Unit{}, errors.New("no more")
	}
	return b.Encoder.Encode(img, captured)
}

func TestStreamEncoderFails(t *testing.T) {
	for failing := range 2 {
		for after := range 2 {
			s := newStudio(t, small, 2)
			l := s.stream.layers[failing]
			l.enc = &broken{Encoder: l.enc, left: after}
			for range after {
				s.next()
			}
			want := fmt.Sprintf("layer %d: no more", failing)
			if err := s.stream.Deliver(s.img, began); err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

// An encoder that leaves out the first picture delays the description, and
// the first frames of all layers are keyframes all the same.
type late struct {
	Encoder
	pictures int
}

func (l *late) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	u, err := l.Encoder.Encode(img, captured)
	if l.pictures++; l.pictures == 1 {
		u.Data = nil
	}
	return u, err
}

func TestStreamFirstPictureLeftOut(t *testing.T) {
	for i := range 2 {
		s := newStudio(t, small, 2)
		s.stream.layers[i].enc = &late{Encoder: s.stream.layers[i].enc}
		s.expect("", "0*1*", "01")
		if len(s.described) != 1 || len(s.described[0]) != 2 {
			t.Errorf("described %v", s.described)
		}
	}
}

// A bitrate that viewers ask for holds from the next picture on, in its layer
// only, up to what is configured; and for the streams of later runs.
func TestStreamFollowsItsViewers(t *testing.T) {
	s := newStudio(t, Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000}, 2)
	second := func() (bits [2]int) {
		for i := range 60 {
			s.next()
			for _, sh := range s.shots {
				if i >= 30 {
					bits[sh.track] += 8 * sh.bytes
				}
			}
		}
		return bits
	}
	if s.next(); s.described[0][0].Bitrate != 1_000_000 || s.described[0][1].Bitrate != 200_000 {
		t.Errorf("described %+v", s.described[0])
	}
	high := second()
	s.control.Bitrate(0, 250_000)
	s.control.Bitrate(-1, 1)
	s.control.Bitrate(9, 1)
	s.control.Bitrate(1, 0)
	low := second()
	if low[0] > high[0]*2/3 || low[1] < high[1]*3/4 {
		t.Errorf("%d and %d bit/s at first, then %d and %d", high[0], high[1], low[0], low[1])
	}
	s.control.Bitrate(0, 50_000_000)
	s.next()
	if got := s.stream.layers[0].target; got != 1_000_000 {
		t.Errorf("the encoder is set to %d bit/s", got)
	}
	s.control.Bitrate(0, 300_000)
	again, err := NewStream(Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000}, 1, s, &s.control)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // of a test
	if err := again.Deliver(s.img, began); err != nil || again.layers[0].target != 300_000 {
		t.Errorf("another run is set to %d bit/s (%v)", again.layers[0].target, err)
	}
}
