// Package motion finds what moves in a scene: blocks of a grid that differ
// from what the scene looked like a moment ago, whatever the light does. It is
// pure: the same pictures give the same blocks.
package motion

import (
	"image"
	"math/bits"
)

// The grid over the scene.
const (
	Columns = 16
	Rows    = 9
)

const (
	cutShare   = 4  // of 5 blocks: another scene, or a light, at its first look
	blockShare = 8  // a block has changed where one of so many samples has
	adapt      = .5 // how much of the newest picture becomes the reference
	leastGain  = .4 // of a change of light, and its inverse
	leastLimit = 8  // steps of luma that noise may be from the line of the light
)

// Defaults of a [Detector].
const (
	DefaultThreshold = 12
	DefaultBlocks    = 2
)

// Grid says which blocks have changed: a row a number, the leftmost block in
// the highest of [Columns] bits.
type Grid [Rows]uint16

// Count is how many have.
func (g Grid) Count() (n int) {
	for _, r := range g {
		n += bits.OnesCount16(r)
	}
	return n
}

// Detector compares pictures of one scene, one after the other. It is not
// safe for concurrent use.
type Detector struct {
	threshold float32
	size      image.Point
	reference []float32
	cut       bool // the last picture looked like another scene
}

// New makes one that takes a difference of more than threshold (1..255, in
// steps of luma) for a change.
func New(threshold int) *Detector { return &Detector{threshold: float32(threshold)} }

// Look compares a picture with those before. The first, and one of another
// size, begins anew.
func (d *Detector) Look(luma *image.Gray) Grid {
	if size := luma.Rect.Size(); size != d.size || d.reference == nil {
		d.size, d.reference = size, make([]float32, size.X*size.Y)
		d.begin(luma)
		return Grid{}
	}
	gain, offset := d.light(luma)
	grid := d.compare(luma, gain, offset)
	if cut := grid.Count() > Columns*Rows*cutShare/5; cut && !d.cut {
		d.cut = true
		d.begin(luma)
		return Grid{}
	} else if !cut {
		d.cut = false
	}
	return grid
}

func (d *Detector) begin(luma *image.Gray) {
	for y := range d.size.Y {
		for x, v := range luma.Pix[y*luma.Stride:][:d.size.X] {
			d.reference[y*d.size.X+x] = float32(v)
		}
	}
}

// light is how the light has changed since the reference: the line through
// the pairs of samples with the least squares, found again without those that
// are far from it, which are what moves.
func (d *Detector) light(luma *image.Gray) (gain, offset float32) {
	gain, offset = 1, 0
	for _, limit := range [...]float32{256, 4 * d.threshold, 2 * d.threshold, d.threshold} {
		gain, offset = d.fit(luma, gain, offset, max(limit, leastLimit))
	}
	return gain, offset
}

// fit takes the pairs that are within limit of a line.
func (d *Detector) fit(luma *image.Gray, gain, offset, limit float32) (float32, float32) {
	var n, sx, sy, sxx, sxy float64
	for y := range d.size.Y {
		reference := d.reference[y*d.size.X:][:d.size.X]
		for i, v := range luma.Pix[y*luma.Stride:][:d.size.X] {
			if r := float32(v) - (gain*reference[i] + offset); r > limit || -r > limit {
				continue
			}
			x, y := float64(reference[i]), float64(v)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
		}
	}
	if n < float64(d.size.X*d.size.Y/4) {
		return gain, offset // too few to tell
	}
	slope := 1.0
	if spread := n*sxx - sx*sx; spread > n*n { // else a wall of one shade
		slope = max(leastGain, min(1/leastGain, (n*sxy-sx*sy)/spread))
	}
	return float32(slope), float32((sy - slope*sx) / n)
}

// compare marks the blocks, and brings the reference nearer to the picture.
func (d *Detector) compare(luma *image.Gray, gain, offset float32) (grid Grid) {
	var changed, samples [Rows][Columns]int
	for y := range d.size.Y {
		row := y * Rows / d.size.Y
		reference := d.reference[y*d.size.X:][:d.size.X]
		for x, v := range luma.Pix[y*luma.Stride:][:d.size.X] {
			expected := gain*reference[x] + offset
			r := float32(v) - expected
			reference[x] = expected + adapt*r
			column := x * Columns / d.size.X
			samples[row][column]++
			if r > d.threshold || -r > d.threshold {
				changed[row][column]++
			}
		}
	}
	for r := range grid {
		for c, n := range changed[r] {
			if n > 0 && n*blockShare >= samples[r][c] {
				grid[r] |= 1 << (Columns - 1 - c)
			}
		}
	}
	return grid
}
