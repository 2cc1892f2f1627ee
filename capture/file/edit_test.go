package file

import (
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// Sound that an edit list has begin later begins so much after the picture, in
// each turn, and ends with it.
func TestLateSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := listen(t, "late-sound.mp4", 2510*time.Millisecond)
		if len(b.tracks) != 2 || b.why != nil {
			t.Fatalf("tracks %+v, %v", b.tracks, b.why)
		}
		start := b.frames[0][0]
		turns, last := 0, time.Duration(0)
		for i, f := range b.frames[1] {
			since := f.Captured.Sub(start.Captured)
			if ticks := time.Duration(f.RTPTime) * time.Second / 48000; (ticks - since).Abs() > time.Millisecond {
				t.Errorf("packet %d: RTP time %v, captured after %v", i, ticks, since)
			}
			if i == 0 || since-last > 100*time.Millisecond {
				late := since - time.Duration(turns)*time.Second
				if late < 390*time.Millisecond || late > 400*time.Millisecond {
					t.Errorf("turn %d: the sound begins %v late", turns, late)
				}
				turns++
			}
			last = since
		}
		if turns != 3 {
			t.Errorf("%d turns", turns)
		}
	})
}

// Sound from before the picture is left out; what is left is in step.
func TestLatePicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole, late := listen(t, "opus.mp4", 990*time.Millisecond), listen(t, "late-picture.mp4", 590*time.Millisecond)
		if late.why != nil || len(late.frames[1]) < 28 || len(late.frames[1]) > 31 {
			t.Fatalf("%d packets in 0.6 s, %v", len(late.frames[1]), late.why)
		}
		since := late.frames[1][5].Captured.Sub(late.frames[0][0].Captured)
		n := len(whole.sizes) - len(late.sizes) // where it is the same packet
		was := whole.frames[1][n+5].Captured.Sub(whole.frames[0][0].Captured)
		if d := was - since; d < 390*time.Millisecond || d > 410*time.Millisecond {
			t.Errorf("packet %d is %v early", n+5, d)
		}
		for i, size := range late.sizes[:20] {
			if size != whole.sizes[n+i] {
				t.Fatalf("packet %d has %d bytes, not %d", i, size, whole.sizes[n+i])
			}
		}
	})
}

func TestEditList(t *testing.T) {
	const empty = 0xffffffff
	for name, c := range map[string]struct {
		list  []uint32
		begin int64
		bad   bool
	}{
		"none":         {list: []uint32{0, 0}},
		"all":          {list: []uint32{0, 1, 5000, 0, 1 << 16}},
		"priming":      {list: []uint32{0, 1, 5000, 480, 1 << 16}, begin: -900},
		"delay":        {list: []uint32{0, 2, 400, empty, 1 << 16, 5000, 0, 1 << 16}, begin: 36000},
		"two delays":   {list: []uint32{0, 3, 400, empty, 1 << 16, 100, empty, 1 << 16, 5000, 480, 1 << 16}, begin: 45000 - 900},
		"wide":         {list: []uint32{1 << 24, 2, 0, 400, empty, empty, 1 << 16, 0, 5000, 0, 480, 1 << 16}, begin: 36000 - 900},
		"a cut after":  {list: []uint32{0, 2, 100, 0, 1 << 16, 100, 9600, 1 << 16}},
		"cut off":      {list: []uint32{0, 2, 400, empty, 1 << 16, 5000, 0}, bad: true},
		"gigantic":     {list: []uint32{0, 0xffffffff, 400, empty, 1 << 16}, bad: true},
		"no count":     {list: []uint32{0}, bad: true},
		"beyond times": {list: []uint32{1 << 24, 1, 0x7fffffff, 0, empty, empty, 1 << 16}, bad: true},
		"beyond media": {list: []uint32{1 << 24, 1, 0, 0, 0x7fffffff, 0, 1 << 16}, bad: true},
	} {
		r := &mp4{timescale: 48000}
		err := r.elst(box{kind: "elst", body: words(c.list...)}, 1000)
		if (err != nil) != c.bad || err == nil && r.begin != c.begin {
			t.Errorf("%s: begins at %d, %v", name, r.begin, err)
		}
		if err != nil && capture.CodeOf(err) != capture.CodeMedia {
			t.Errorf("%s: %s", name, capture.CodeOf(err))
		}
	}
}
