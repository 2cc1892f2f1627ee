package motion

import (
	"image"
	"math/rand/v2"
	"testing"
)

// scene is a picture of a room: edges, shades and, at x, somebody.
func scene(x int, gain, offset float64, noise *rand.Rand) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, 160, 90))
	for y := range 90 {
		for c := range 160 {
			v := float64(60 + c/2 + (y/15%2)*30 + (c/20%2)*20)
			if x >= 0 && c >= x && c < x+20 && y >= 30 && y < 80 {
				v = 220
			}
			v = v*gain + offset
			if noise != nil {
				v += noise.NormFloat64() * 2
			}
			img.Pix[y*img.Stride+c] = byte(max(0, min(255, v)))
		}
	}
	return img
}

// nobody has entered.
const nobody = -1

func TestLook(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name        string
		looks       []*image.Gray
		least, most int // blocks of the last look
	}{
		{"the first", []*image.Gray{scene(40, 1, 0, nil)}, 0, 0},
		{"nothing", []*image.Gray{scene(nobody, 1, 0, nil), scene(nobody, 1, 0, nil)}, 0, 0},
		{"noise", []*image.Gray{scene(nobody, 1, 0, noise), scene(nobody, 1, 0, noise), scene(nobody, 1, 0, noise)}, 0, 0},
		{"somebody comes", []*image.Gray{scene(nobody, 1, 0, noise), scene(60, 1, 0, noise)}, 8, 18},
		{"somebody walks", []*image.Gray{scene(20, 1, 0, noise), scene(50, 1, 0, noise)}, 16, 36},
		{"a lamp is dimmed", []*image.Gray{scene(nobody, 1, 0, noise), scene(nobody, .6, 5, noise)}, 0, 0},
		{"the sun comes out", []*image.Gray{scene(nobody, .5, 0, noise), scene(nobody, 1, 10, noise)}, 0, 0},
		{"somebody walks as a lamp is dimmed", []*image.Gray{scene(20, 1, 0, noise), scene(50, .7, 0, noise)}, 14, 40},
		{"it is dark", []*image.Gray{scene(nobody, 0, 16, noise), scene(nobody, 0, 16, noise)}, 0, 0},
		{"a lamp in the dark", []*image.Gray{scene(nobody, 0, 16, nil), scene(nobody, 1, 0, nil)}, 0, 0},
		{"lamp, then somebody", []*image.Gray{scene(nobody, 0, 16, noise), scene(nobody, 1, 0, noise), scene(60, 1, 0, noise)}, 8, 18},
		{"another size", []*image.Gray{scene(nobody, 1, 0, nil), image.NewGray(image.Rect(0, 0, 80, 45))}, 0, 0},
	} {
		d := New(DefaultThreshold)
		var grid Grid
		for _, look := range tt.looks {
			grid = d.Look(look)
		}
		if n := grid.Count(); n < tt.least || n > tt.most {
			t.Errorf("%s: %d blocks, want %d to %d: %016b", tt.name, n, tt.least, tt.most, grid)
		}
	}
}

// The blocks are where the change is, and what stays becomes the scene.
func TestPlace(t *testing.T) {
	d := New(DefaultThreshold)
	d.Look(scene(nobody, 1, 0, nil))
	grid := d.Look(scene(40, 1, 0, nil)) // columns 4 and 5, rows 3 to 7
	for r, row := range grid {
		want := uint16(0)
		if r >= 3 && r <= 7 {
			want = 0b11 << (Columns - 1 - 5)
		}
		if row != want {
			t.Errorf("row %d: %016b, want %016b", r, row, want)
		}
	}
	looks := 0
	for d.Look(scene(40, 1, 0, nil)).Count() > 0 {
		if looks++; looks > 12 {
			t.Fatal("somebody who stands still moves for ever")
		}
	}
}

func TestThreshold(t *testing.T) {
	for _, tt := range []struct {
		threshold int
		moves     bool
	}{{4, true}, {60, true}, {200, false}} {
		d := New(tt.threshold)
		d.Look(scene(nobody, 1, 0, nil))
		if got := d.Look(scene(60, 1, 0, nil)).Count() > 0; got != tt.moves {
			t.Errorf("threshold %d: %v", tt.threshold, got)
		}
	}
}

// A picture that changes all over is a cut once; if it goes on, it moves.
func TestCut(t *testing.T) {
	random := func(seed uint64) *image.Gray {
		img, r := image.NewGray(image.Rect(0, 0, 160, 90)), rand.New(rand.NewPCG(seed, 0))
		for i := range img.Pix {
			img.Pix[i] = byte(r.Uint32())
		}
		return img
	}
	d := New(DefaultThreshold)
	d.Look(random(1))
	if n := d.Look(random(2)).Count(); n != 0 {
		t.Errorf("a cut: %d blocks", n)
	}
	if n := d.Look(random(3)).Count(); n != Columns*Rows {
		t.Errorf("what goes on: %d blocks", n)
	}
}

func FuzzLook(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 2, 12)
	f.Fuzz(func(t *testing.T, b []byte, width, threshold int) {
		if width < 1 || width > 200 || len(b) < 2*width {
			return
		}
		d := New(threshold)
		rows := len(b) / width / 2
		for i := range 2 {
			d.Look(&image.Gray{Pix: b[i*rows*width:][:rows*width], Stride: width, Rect: image.Rect(0, 0, width, rows)})
		}
	})
}

func BenchmarkLook(b *testing.B) {
	noise := rand.New(rand.NewPCG(1, 2))
	looks := []*image.Gray{scene(20, 1, 0, noise), scene(50, 1, 0, noise)}
	d := New(DefaultThreshold)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.Look(looks[i%2])
	}
}
