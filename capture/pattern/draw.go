package pattern

import "image"

// font is 5 × 7 pixels a character, a row a byte, the leftmost pixel in bit 4.
var font = map[byte][7]byte{
	'0': {0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e},
	'1': {0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e},
	'2': {0x0e, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1f},
	'3': {0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e},
	'4': {0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02},
	'5': {0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e},
	'6': {0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e},
	'7': {0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08},
	'8': {0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e},
	'9': {0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c},
	':': {0x00, 0x04, 0x04, 0x00, 0x04, 0x04, 0x00},
	'.': {0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c},
}

const (
	glyphWidth, glyphHeight = 5, 7
	advance                 = glyphWidth + 1
	textFirst, textRows     = 5, 7 // rows of cells that the texts are in
	bandFirst               = 12   // row of cells where the moving band begins
	period                  = 256  // pixels after which the band repeats
	speed                   = 4    // pixels a frame; even, for the chroma
	windy                   = 6    // the last 1/windy of the band is in the wind
	windRows                = 4    // rows that move together there
	grey                    = 128  // chroma without colour
	boxTravel               = 8    // pixels a frame of the bouncing box
	flashColumns            = 2    // cells on each side of the code that flash
)

// picture is one 4:2:0 picture, of which a frame redraws only what moves.
type picture struct {
	img     *image.YCbCr
	band    image.Rectangle
	y       []byte // the band, period pixels wider than the picture
	cb, cr  []byte // of one row: colours run across
	text    []byte // scratch
	scale   int    // pixels of a font pixel
	boxSize int
}

func newPicture(width, height int) *picture {
	p := &picture{img: image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)}
	fillBytes(p.img.Y, black)
	fillBytes(p.img.Cb, grey)
	fillBytes(p.img.Cr, grey)
	top := cell(p.img.Rect, 0, bandFirst).Min.Y &^ 1
	p.band = image.Rect(0, top, width, height)
	p.scale = max(1, min(height*textRows/gridRows/(2*glyphHeight+5), width/(advance*13)))
	p.boxSize = max(4, p.band.Dy()/4) &^ 1
	p.y = make([]byte, (width+period)*p.band.Dy())
	for y := range p.band.Dy() {
		row := p.y[y*(width+period):][:width+period]
		for x := range row {
			row[x] = texture(x, y)
		}
	}
	p.cb, p.cr = make([]byte, (width+period)/2), make([]byte, (width+period)/2)
	for x := range p.cb {
		p.cb[x] = byte(64 + wave(2*x))
		p.cr[x] = byte(64 + wave(2*x+period/3))
	}
	return p
}

// wave runs from 0 to 127 and back over a period.
func wave(x int) int {
	x %= period
	return min(x, period-1-x)
}

// texture is a slanted weave: edges in every direction for the encoder to
// carry along, and the same after each period.
func texture(x, y int) byte {
	return byte(48 + wave(x+y) + (x^y)&0x18)
}

// draw draws a frame.
func (p *picture) draw(c Code) *image.YCbCr {
	Draw(p.img, c)
	p.drawTexts(c)
	p.drawBand(int(c.Frame % (1 << 20)))
	return p.img
}

// flash makes the cells beside the code white, or black again.
func (p *picture) flash(on bool) {
	luma := byte(black)
	if on {
		luma = white
	}
	for _, first := range []int{0, firstColumn + codeColumns + 1} {
		r := cell(p.img.Rect, first, 0).Union(cell(p.img.Rect, first+flashColumns-1, codeRows-1))
		for y := r.Min.Y; y < r.Max.Y; y++ {
			fillBytes(p.img.Y[p.img.YOffset(r.Min.X, y):][:r.Dx()], luma)
		}
	}
}

func (p *picture) drawTexts(c Code) {
	area := cell(p.img.Rect, 0, textFirst)
	gap := p.scale * 2
	y := area.Min.Y + gap
	p.text = appendDecimal(p.text[:0], c.Frame, 8)
	p.drawText(y)
	p.text = c.Time.AppendFormat(p.text[:0], "15:04:05.000")
	p.drawText(y + glyphHeight*p.scale + gap)
}

func appendDecimal(b []byte, v uint32, digits int) []byte {
	var d [10]byte
	at := len(d)
	for v > 0 || len(d)-at < digits {
		at--
		d[at] = '0' + byte(v%10)
		v /= 10
	}
	return append(b, d[at:]...)
}

// drawText draws p.text in white on black, centred, its top at y.
func (p *picture) drawText(y int) {
	width := len(p.text) * advance * p.scale
	left := (p.img.Rect.Dx() - width) / 2
	for row := range glyphHeight {
		line := p.img.Y[(y+row*p.scale)*p.img.YStride+left:][:width]
		fillBytes(line, black)
		for i, ch := range p.text {
			bits := font[ch][row]
			for x := range glyphWidth {
				if bits>>(glyphWidth-1-x)&1 != 0 {
					fillBytes(line[(i*advance+x)*p.scale:][:p.scale], white)
				}
			}
		}
		for n := 1; n < p.scale; n++ {
			copy(p.img.Y[(y+row*p.scale+n)*p.img.YStride+left:], line)
		}
	}
}

// drawBand moves the weave to the left and a box to and fro over it. In the
// lower part neighbouring rows run at different speeds, which no motion vector
// follows: it costs the bits that leaves in the wind cost.
func (p *picture) drawBand(frame int) {
	w, h := p.band.Dx(), p.band.Dy()
	at := frame * speed % period
	for y := range h {
		from := at
		if y >= h-h/windy {
			from = frame * (1 + y/windRows%speed) % period
		}
		copy(p.img.Y[(p.band.Min.Y+y)*p.img.YStride:][:w], p.y[y*(w+period)+from:])
	}
	for y := range h / 2 {
		o := (p.band.Min.Y/2 + y) * p.img.CStride
		copy(p.img.Cb[o:][:w/2], p.cb[at/2:])
		copy(p.img.Cr[o:][:w/2], p.cr[at/2:])
	}
	x := bounce(frame*boxTravel, w-p.boxSize)
	y := p.band.Min.Y + bounce(frame*boxTravel/4, h-p.boxSize)
	for row := range p.boxSize {
		fillBytes(p.img.Y[(y+row)*p.img.YStride+x:][:p.boxSize], white)
	}
}

// bounce goes from 0 to most and back again.
func bounce(n, most int) int {
	if most <= 0 {
		return 0
	}
	n %= 2 * most
	return min(n, 2*most-n)
}
