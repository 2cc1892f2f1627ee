package encode

import (
	"errors"
	"image"
	"strings"
	"testing"
	"time"

	"edged/capture"
)

// chip is a hardware encoder that is broken by the test; until then a real
// encoder does its work.
type chip struct {
	Encoder
	broken  error
	garbage bool
	closed  bool
	fps     int
}

func (c *chip) Name() string         { return "chip" }
func (c *chip) SetFrameRate(fps int) { c.fps = fps }
func (c *chip) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	if c.broken != nil {
		return Unit{}, c.broken
	}
	u, err := c.Encoder.Encode(img, captured)
	if c.garbage {
		u.Data = []byte{0, 0, 0, 1, 0x41, 0x9a}
	}
	return u, err
}
func (c *chip) Close() error { c.closed = true; return c.Encoder.Close() }

func newChip(t *testing.T, cfg Config) *chip {
	return &chip{Encoder: newTestEncoder(t, cfg)}
}

func none(Config) (Encoder, error) {
	return nil, capture.Errorf(capture.CodeEncoder, "no software")
}

func TestAutomaticAtStart(t *testing.T) {
	newTestEncoder(t, small) // or skip
	for name, tt := range map[string]struct {
		hardware error
		software func(Config) (Encoder, error)
		want     string
		code     capture.Code
	}{
		"no hardware":      {capture.Errorf(capture.CodeNotFound, "no hardware encoder"), newSoftware, Name + " (no hardware encoder)", ""},
		"busy hardware":    {capture.Errorf(capture.CodeBusy, "chip: start: busy"), newSoftware, Name + " (chip: start: busy)", ""},
		"nothing":          {capture.Errorf(capture.CodeNotFound, "no hardware encoder"), none, "no hardware encoder; no software", capture.CodeEncoder},
		"all others' work": {capture.Errorf(capture.CodeBusy, "chip: start: busy"), none, "chip: start: busy; no software", capture.CodeBusy},
	} {
		e, err := newAutomatic(small, func(Config) (Encoder, error) { return nil, tt.hardware }, tt.software)
		switch {
		case tt.code != "":
			if capture.CodeOf(err) != tt.code || err.Error() != tt.want || e != nil {
				t.Errorf("%s: %s, %v", name, capture.CodeOf(err), err)
			}
		case err != nil || e.Name() != tt.want:
			t.Errorf("%s: %v", name, err)
		default:
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAutomaticFallsBack(t *testing.T) {
	for name, tt := range map[string]struct {
		at   int // picture with which it goes wrong
		hurt func(*chip)
		say  string
	}{
		"at once":     {0, func(c *chip) { c.broken = errors.New("chip: gone") }, "(chip: gone)"},
		"garbage":     {0, func(c *chip) { c.garbage = true }, "no keyframe"},
		"in between":  {7, func(c *chip) { c.broken = errors.New("chip: hangs") }, "(chip: hangs)"},
		"not at all":  {99, nil, "chip"},
		"after a few": {1, func(c *chip) { c.broken = errors.New("chip: no more") }, "no more"},
	} {
		c := newChip(t, small)
		var made Config
		e, err := newAutomatic(small, func(Config) (Encoder, error) { return c, nil }, func(cfg Config) (Encoder, error) {
			made = cfg
			return newSoftware(cfg)
		})
		if err != nil {
			t.Fatal(err)
		}
		e.SetBitrate(300_000)
		e.SetFrameRate(12)
		img := newPicture(small)
		for i := range 12 {
			if i == tt.at {
				tt.hurt(c)
			}
			scene(img, i)
			at := time.Unix(1, int64(i))
			u, err := e.Encode(img, at)
			if err != nil || !u.Captured.Equal(at) {
				t.Fatalf("%s: picture %d: %v", name, i, err)
			}
			key := capture.H264IsKeyframe(capture.SplitAnnexB(nil, u.Data))
			if want := i == 0 || i == tt.at || i == 10; key != want {
				t.Errorf("%s: picture %d: keyframe %v", name, i, key)
			}
			if i == 9 {
				e.ForceKeyframe()
			}
		}
		fell := tt.hurt != nil
		if c.closed != fell || c.fps != 12 || fell && (made.Bitrate != 300_000 || made.FPS != 12) {
			t.Errorf("%s: closed %v, %d frames a second; then made with %+v", name, c.closed, c.fps, made)
		}
		if got := e.Name(); !strings.Contains(got, tt.say) || strings.HasPrefix(got, Name) != fell {
			t.Errorf("%s: %q", name, got)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A picture that no encoder could read is not the hardware's fault.
func TestAutomaticRefusesPictures(t *testing.T) {
	c := newChip(t, small)
	e, err := newAutomatic(small, func(Config) (Encoder, error) { return c, nil }, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(newPicture(Config{Width: 64, Height: 64}), time.Time{}); capture.CodeOf(err) != capture.CodeEncoder || c.closed {
		t.Errorf("%v, closed %v", err, c.closed)
	}
	c.broken = capture.Errorf(capture.CodeEncoder, "chip: gone")
	if _, err := e.Encode(newPicture(small), time.Time{}); err == nil || err.Error() != "chip: gone; no software" {
		t.Errorf("%v", err)
	}
}

// The state has what encodes, from the first picture on, and the change.
func TestStreamTellsItsEncoder(t *testing.T) {
	newTestEncoder(t, small) // or skip
	s := newStudio(t, Config{Width: 320, Height: 180, FPS: 30, Bitrate: 500_000, Use: capture.EncoderOpenH264}, 2)
	if s.control.Encoder() != "" {
		t.Error("told before the first picture")
	}
	s.next()
	if got := s.control.Encoder(); got != Name || len(s.described) != 1 {
		t.Errorf("%q, described %d times", got, len(s.described))
	}
	c := newChip(t, s.stream.layers[1].cfg)
	lower := s.stream.layers[1]
	auto, err := newAutomatic(lower.cfg, func(Config) (Encoder, error) { return c, nil }, newSoftware)
	if err != nil {
		t.Fatal(err)
	}
	if err := lower.enc.Close(); err != nil {
		t.Fatal(err)
	}
	lower.enc = auto
	s.next()
	if got := s.control.Encoder(); got != Name+"; layer 1: chip" || len(s.described) != 2 {
		t.Errorf("%q, described %d times", got, len(s.described))
	}
	c.broken = errors.New("chip: gone")
	s.next()
	if got := s.control.Encoder(); got != Name+"; layer 1: "+Name+" (chip: gone)" || len(s.described) != 3 {
		t.Errorf("%q, described %d times", got, len(s.described))
	}
	s.next()
	if len(s.described) != 3 {
		t.Errorf("described %d times", len(s.described))
	}
}

func TestUse(t *testing.T) {
	if Name != "" {
		e, err := New(Config{Width: 64, Height: 64, FPS: 1, Bitrate: 100_000, Use: capture.EncoderOpenH264})
		if err != nil || e.Name() != Name {
			t.Errorf("%v", err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(Config{Width: 64, Height: 64, FPS: 1, Bitrate: 100_000, Use: "x264"}); capture.CodeOf(err) != capture.CodeEncoder {
		t.Errorf("an encoder that there is not: %v", err)
	}
}

func TestPace(t *testing.T) {
	p := pace{fps: 30}
	at := time.Unix(1000, 0)
	run := func(fps, pictures int) (told []int) {
		for range pictures {
			if n := p.next(at); n > 0 {
				told = append(told, n)
			}
			at = at.Add(time.Second / time.Duration(fps))
		}
		return told
	}
	for i, step := range []struct {
		fps, pictures int
		want          []int
	}{
		{30, 300, nil}, {27, 300, nil}, {15, 300, []int{15}}, {15, 300, nil}, {30, 300, []int{30}}, {1, 20, []int{1}},
	} {
		got := run(step.fps, step.pictures)
		// The window in which the rate changed has some of both.
		if len(got) > 0 {
			got = got[len(got)-1:]
		}
		if len(got) != len(step.want) || len(got) > 0 && got[0] != step.want[0] {
			t.Errorf("step %d: told %v, want %v", i, got, step.want)
		}
	}
	at = at.Add(time.Hour)
	if got := run(30, 2); got != nil {
		t.Errorf("after a pause: %v", got)
	}
	at = at.Add(-2 * time.Hour)
	if got := run(1, 2); got != nil {
		t.Errorf("after a clock that was set back: %v", got)
	}
}
