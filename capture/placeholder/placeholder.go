// Package placeholder draws and encodes what viewers see in the place of a
// camera that has no picture: which one, since when, and why.
package placeholder

import (
	"image"
	"strings"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"edged/capture"
	"edged/capture/encode"
)

const (
	longSide  = 640 // pixels: text needs no more
	shortSide = 160 // at least
	bitrate   = 200_000
	ground    = 40  // luma
	ink       = 210 // luma
	grey      = 128 // chroma without colour
	mostScale = 4   // screen pixels of a pixel of the font
	dated     = 20 * time.Hour
)

// Placeholder is a still picture, encoded as often as it is asked for.
type Placeholder struct {
	enc   encode.Encoder
	pack  *capture.Packetizer
	img   *image.YCbCr
	drawn string
	nalus [][]byte
	frame capture.Frame
}

var _ capture.Placeholder = (*Placeholder)(nil)

// New makes one with the proportions of a camera's picture; 16:9 where its
// size is 0. In a build without an encoder the error has
// [capture.CodeEncoder].
func New(width, height int) (capture.Placeholder, error) {
	pack, err := capture.NewPacketizer(capture.H264)
	if err != nil {
		return nil, err
	}
	w, h := size(width, height)
	enc, err := encode.New(encode.Config{Width: w, Height: h, FPS: 1, Bitrate: bitrate})
	if err != nil {
		return nil, err
	}
	return &Placeholder{enc: enc, pack: pack, img: image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)}, nil
}

// size fits the proportions into what is worth encoding.
func size(width, height int) (w, h int) {
	if width <= 0 || height <= 0 {
		width, height = 16, 9
	}
	w, h = longSide, longSide*height/width
	if height > width {
		w, h = longSide*width/height, longSide
	}
	return max(shortSide, w&^1), max(shortSide, h&^1)
}

// Picture implements [capture.Placeholder].
func (p *Placeholder) Picture(n capture.Notice, keyframe bool) (*capture.Frame, error) {
	now := time.Now()
	if text := words(n, now); text != p.drawn {
		draw(p.img, strings.Split(text, "\n"))
		p.drawn = text
	}
	if keyframe {
		p.enc.ForceKeyframe()
	}
	unit, err := p.enc.Encode(p.img, now)
	if err != nil {
		return nil, err
	}
	p.frame.Payloads = p.frame.Payloads[:0]
	if p.nalus = capture.SplitAnnexB(p.nalus[:0], unit.Data); len(p.nalus) > 0 {
		p.pack.H264(p.nalus, &p.frame)
	}
	return &p.frame, nil
}

// words is the text of a notice, a line a line. The time is the box's; after
// most of a day it has its date.
func words(n capture.Notice, now time.Time) string {
	layout := "15:04"
	if now.Sub(n.Since) > dated {
		layout = "2006-01-02 15:04"
	}
	lines := []string{n.Camera, "camera offline since " + n.Since.Format(layout)}
	if n.Code != "" {
		lines = append(lines, strings.ReplaceAll(string(n.Code), "_", " "))
	}
	return strings.Join(lines, "\n")
}

// draw writes the lines in the middle of the picture, as large as they fit.
func draw(img *image.YCbCr, lines []string) {
	fill(img.Y, ground)
	fill(img.Cb, grey)
	fill(img.Cr, grey)
	face := basicfont.Face7x13
	longest := 0
	for _, l := range lines {
		longest = max(longest, len(l))
	}
	text := image.NewAlpha(image.Rect(0, 0, longest*face.Advance, len(lines)*face.Height))
	for i, l := range lines {
		left := (longest - len(l)) * face.Advance / 2
		d := font.Drawer{Dst: text, Src: image.Opaque, Face: face, Dot: fixed.P(left, i*face.Height+face.Ascent)}
		d.DrawString(l)
	}
	enlarge(img, text)
}

// enlarge puts the text on the picture, its pixels as squares. What does not
// fit is left out.
func enlarge(img *image.YCbCr, text *image.Alpha) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	scale := max(1, min(mostScale, w*9/10/text.Rect.Dx(), h*9/10/text.Rect.Dy()))
	at := image.Pt((w-text.Rect.Dx()*scale)/2, (h-text.Rect.Dy()*scale)/2)
	for y := range text.Rect.Dy() * scale {
		for x := range text.Rect.Dx() * scale {
			to := at.Add(image.Pt(x, y))
			if text.AlphaAt(x/scale, y/scale).A > 0 && to.In(img.Rect) {
				img.Y[img.YOffset(to.X, to.Y)] = ink
			}
		}
	}
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// Close implements [capture.Placeholder].
func (p *Placeholder) Close() error { return p.enc.Close() }
