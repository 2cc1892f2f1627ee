package jpeg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".jpg"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newDecoder(t testing.TB, w, h int) *Decoder {
	t.Helper()
	d, err := New(w, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// reference is the mean of what the standard library's decoder has where a
// sample of 4:2:0 lies.
func reference(img image.Image, x, y int) (cb, cr int) {
	ycc, ok := img.(*image.YCbCr)
	if !ok {
		return 128, 128
	}
	n := 0
	for _, p := range []image.Point{{2 * x, 2 * y}, {2*x + 1, 2 * y}, {2 * x, 2*y + 1}, {2*x + 1, 2*y + 1}} {
		if p.In(img.Bounds()) {
			c := ycc.YCbCrAt(p.X, p.Y)
			cb, cr, n = cb+int(c.Cb), cr+int(c.Cr), n+1
		}
	}
	return (cb + n/2) / n, (cr + n/2) / n
}

func luma(img image.Image, x, y int) int {
	switch img := img.(type) {
	case *image.Gray:
		return int(img.GrayAt(x, y).Y)
	case *image.YCbCr:
		return int(img.YCbCrAt(x, y).Y)
	}
	return -1
}

func near(a, b int) bool { return max(a-b, b-a) <= 4 } // another inverse transform

// Each arrangement of colours, of even and odd size, by the standard library.
func TestDecode(t *testing.T) {
	for _, size := range []image.Point{{64, 48}, {63, 47}} {
		for _, kind := range []string{"444", "422", "420", "440", "411", "grey"} {
			name := fmt.Sprintf("%s-%dx%d", kind, size.X, size.Y)
			b := read(t, name)
			want, err := jpeg.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			d := newDecoder(t, size.X, size.Y)
			for range 2 { // the memory is used again
				got, err := d.Decode(b)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				compare(t, name, got, want)
			}
		}
	}
}

func compare(t *testing.T, name string, got *image.YCbCr, want image.Image) {
	t.Helper()
	size := want.Bounds().Size()
	if got.Rect != image.Rect(0, 0, size.X&^1, size.Y&^1) || got.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		t.Fatalf("%s: %v, %v", name, got.Rect, got.SubsampleRatio)
	}
	for y := range got.Rect.Dy() {
		for x := range got.Rect.Dx() {
			if a, b := int(got.Y[got.YOffset(x, y)]), luma(want, x, y); !near(a, b) {
				t.Fatalf("%s: luma of (%d, %d) is %d, want %d", name, x, y, a, b)
			}
			cb, cr := reference(want, x/2, y/2)
			if o := got.COffset(x, y); !near(int(got.Cb[o]), cb) || !near(int(got.Cr[o]), cr) {
				t.Fatalf("%s: colours of (%d, %d) are %d, %d, want %d, %d", name, x, y, got.Cb[o], got.Cr[o], cb, cr)
			}
		}
	}
}

// without leaves out the segments of a marker, and puts others in front.
func without(t testing.TB, b []byte, marker byte, front []byte) []byte {
	t.Helper()
	out := append([]byte{0xff, 0xd8}, front...)
	for b = b[2:]; ; {
		n := 2 + int(binary.BigEndian.Uint16(b[2:]))
		if b[0] != 0xff {
			t.Fatal("not a segment")
		}
		if b[1] == 0xda {
			return append(out, b...)
		}
		if b[1] != marker {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
}

// A UVC camera's picture: no Huffman tables, the mark of an AVI.
func bare(t testing.TB, name string) []byte {
	avi := append([]byte{0xff, 0xe0, 0, 16}, "AVI1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	return without(t, read(t, name), 0xc4, avi)
}

func TestDecodeWithoutTables(t *testing.T) {
	b := bare(t, "422-64x48")
	if bytes.Contains(b, []byte{0xff, 0xc4}) {
		t.Fatal("there are tables")
	}
	got, err := newDecoder(t, 64, 48).Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want, err := jpeg.Decode(bytes.NewReader(read(t, "422-64x48")))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "bare", got, want)
}

// Some cameras fill up a picture's buffer, or leave bytes in front of the end.
func TestDecodeToleratesBytesTooMany(t *testing.T) {
	b := read(t, "422-64x48")
	d := newDecoder(t, 64, 48)
	for name, b := range map[string][]byte{
		"behind":           append(slices.Clone(b), make([]byte, 1000)...),
		"in front of EOI":  slices.Concat(b[:len(b)-2], []byte{0, 0, 0}, b[len(b)-2:]),
		"another picture":  slices.Concat(b, b),
		"fill before tags": slices.Concat(b[:2], []byte{0xff, 0xff}, b[2:]),
	} {
		if _, err := d.Decode(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is cut off, torn or something else is refused, and the next picture is
// decoded.
func TestDecodeRefuses(t *testing.T) {
	b := read(t, "422-64x48")
	d := newDecoder(t, 64, 48)
	huge := slices.Clone(b)
	at := bytes.Index(huge, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(huge[at+5:], 65535)
	binary.BigEndian.PutUint16(huge[at+7:], 65535)
	zeros := slices.Clone(b)
	clear(zeros[len(zeros)/2:])
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("GIF89a"), "a start": b[:2], "headers": b[:at+4],
		"half": b[:len(b)/2], "most": b[:len(b)*9/10], "huge": huge, "half of zeros": zeros,
		"another size": read(t, "422-63x47"),
	} {
		if _, err := d.Decode(b); err == nil || !strings.HasPrefix(err.Error(), "jpeg: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Decode(b); err != nil {
		t.Errorf("a good one afterwards: %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, size := range []image.Point{{}, {1, 1}, {-5, 10}, {1 << 20, 2}} {
		if _, err := New(size.X, size.Y); err == nil {
			t.Errorf("%v", size)
		}
	}
	d, err := New(64, 48)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	d.Close()
	if _, err := d.Decode(read(t, "422-64x48")); err == nil {
		t.Error("a closed decoder decodes")
	}
}

// scene is a picture of 1280 × 720 with the detail of a camera's.
func scene(t testing.TB) []byte {
	img := image.NewYCbCr(image.Rect(0, 0, 1280, 720), image.YCbCrSubsampleRatio420)
	for y := range 720 {
		for x := range 1280 {
			img.Y[y*img.YStride+x] = byte(60 + (x*x/900+y*y/700)%120 + (x*7^y*13)%23)
		}
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = byte(96+i/7%64), byte(96+i/900%64)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 85}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeAllocates(t *testing.T) {
	if Name == "image/jpeg" {
		t.Skip("image/jpeg makes each picture anew")
	}
	for _, kind := range []string{"422", "420", "grey"} {
		b, d := bare(t, kind+"-64x48"), newDecoder(t, 64, 48)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a picture", kind, n)
		}
	}
}

func BenchmarkDecode720p(b *testing.B) {
	picture, d := scene(b), newDecoder(b, 1280, 720)
	b.Logf("%s, %d bytes", Name, len(picture))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(picture); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStandardLibrary720p is what the same takes without libjpeg-turbo.
func BenchmarkStandardLibrary720p(b *testing.B) {
	picture := scene(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(picture)); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, kind := range []string{"444", "422", "420", "440", "411", "grey"} {
		f.Add(read(f, kind+"-64x48"))
		f.Add(read(f, kind+"-63x47"))
	}
	f.Add(bare(f, "422-64x48"))
	even, odd := newDecoder(f, 64, 48), newDecoder(f, 63, 47)
	good := read(f, "422-64x48")
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []*Decoder{even, odd} {
			img, err := d.Decode(b)
			if err == nil && (img.Rect.Dx() != d.width&^1 || img.Rect.Dy() != d.height&^1) {
				t.Errorf("a picture of %v", img.Rect)
			}
		}
		if _, err := even.Decode(good); err != nil {
			t.Errorf("a good picture afterwards: %v", err)
		}
	})
}
