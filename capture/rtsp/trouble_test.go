package rtsp

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"edged/capture"
)

// troubled is a camera whose packets something happens to on their way out.
type troubled struct {
	p      *peer
	number int                   // of packets so far
	change func(n int, b []byte) // to packet n
	order  func(n int) []int     // after how many packets packet n is sent, each time
	held   map[int][][]byte      // by the number of the packet that they follow
}

// packet sends a packet of a picture.
func (c *troubled) packet(marker bool, rtpTime uint32, payload []byte) error {
	b := []byte{0x80, 96, byte(c.number >> 8), byte(c.number), 0, 0, 0, 0, 1, 2, 3, 4}
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint32(b[4:], rtpTime)
	b = append(b, payload...)
	n := c.number
	c.number++
	if c.change != nil {
		c.change(n, b)
	}
	delays := []int{0}
	if c.order != nil {
		delays = c.order(n)
	}
	for _, d := range delays {
		c.held[n+d] = append(c.held[n+d], b)
	}
	for _, b := range c.held[n] {
		if _, err := c.p.Write(append([]byte{'$', 0, byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
			return err
		}
	}
	delete(c.held, n)
	return nil
}

const (
	troubledPictures = 200
	troubledGroup    = 10 // pictures from one that stands alone to the next
)

// play sends pictures that name themselves in their last two bytes.
func (c *troubled) play() error {
	for i := range troubledPictures {
		name := []byte{0x80 | byte(i>>7), 0x80 | byte(i&0x7f)}
		units := [][]byte{{0x41, 0x9a, 0xff}, append([]byte{0x41, 0x10, 0xff}, name...)}
		if i%troubledGroup == 0 {
			units = [][]byte{testSPS, testPPS, append([]byte{0x65, 0x88, 0xff}, name...)}
		}
		for j, u := range units {
			if err := c.packet(j == len(units)-1, uint32(i)*3000, u); err != nil {
				return err
			}
		}
	}
	return nil
}

func late(is bool, by int) int {
	if is {
		return by
	}
	return 0
}

// Whatever a camera does to its packets' headers, order and number, what comes
// of it are whole pictures, in order, each at most once, and they go on.
func TestTroubledCamera(t *testing.T) {
	const packetsEach = 2*troubledGroup + 1
	at := func(n int) bool { return n%packetsEach == 40%packetsEach } // once a group
	seq := func(by int) func(int, []byte) {
		return func(n int, b []byte) {
			if n >= 150 {
				binary.BigEndian.PutUint16(b[2:], uint16(n+by))
			}
		}
	}
	later := func(change func(b []byte)) func(int, []byte) {
		return func(n int, b []byte) {
			if n >= 150 {
				change(b)
			}
		}
	}
	once := func(change func(b []byte)) func(int, []byte) {
		return func(n int, b []byte) {
			if at(n) {
				change(b)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(int, []byte)
		order  func(int) []int
		least  int // pictures that come through
	}{
		"none":                           {nil, nil, troubledPictures},
		"every packet twice":             {nil, func(int) []int { return []int{0, 0} }, troubledPictures},
		"every packet twice, once late":  {nil, func(int) []int { return []int{0, 40} }, troubledPictures},
		"one a group three packets late": {nil, func(n int) []int { return []int{late(at(n), 3)} }, troubledPictures * 7 / 10},
		"one a group twice":              {nil, func(n int) []int { return []int{0, late(at(n), 3)} }, troubledPictures},
		"sequence wraps":                 {func(n int, b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(n+65000)) }, nil, troubledPictures},
		"wraps amid a picture":           {func(n int, b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(n-1)) }, nil, troubledPictures},
		"sequence jumps ahead":           {seq(20000), nil, troubledPictures - 2},
		"sequence jumps far ahead":       {seq(40000), nil, troubledPictures - troubledGroup},
		"sequence jumps back":            {seq(-100), nil, troubledPictures - 6*troubledGroup},
		"another SSRC":                   {later(func(b []byte) { b[8] = 9 }), nil, troubledPictures - troubledGroup},
		"another SSRC, number and time":  {later(func(b []byte) { b[8], b[2], b[4] = 9, b[2]^0x55, b[4]^0x55 }), nil, troubledPictures - 2*troubledGroup},
		"SSRC of each packet another":    {func(n int, b []byte) { b[11] = byte(n) }, nil, troubledPictures},
		"time wraps":                     {func(n int, b []byte) { binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])-150000) }, nil, troubledPictures},
		"time jumps back":                {later(func(b []byte) { binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])-90000) }), nil, troubledPictures - 1},
		"more padding than packet":       {once(func(b []byte) { b[0] |= 0x20; b[len(b)-1] = 0xff }), nil, troubledPictures * 7 / 10},
		"more sources than packet":       {once(func(b []byte) { b[0] |= 15 }), nil, troubledPictures * 7 / 10},
		"an extension beyond the end":    {once(func(b []byte) { b[0] |= 0x10 }), nil, troubledPictures * 7 / 10},
		"another version":                {once(func(b []byte) { b[0] = 0x40 }), nil, troubledPictures * 7 / 10},
		"no payload":                     {once(func(b []byte) { b[0] |= 0x20; clear(b[12:]); b[len(b)-1] = byte(len(b) - 12) }), nil, troubledPictures * 7 / 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := newRecord()
			ended := make(chan error, 1)
			at := serve(t, well(func(p *peer) {
				camera := &troubled{p: p, change: c.change, order: c.order, held: map[int][][]byte{}}
				ended <- camera.play()
			}))
			err := run(t, source(t, "rtsp://"+at+"/#transport=tcp"), got)
			if code := capture.CodeOf(err); code != capture.CodeUnplugged || !strings.Contains(err.Error(), "closed the connection") {
				t.Fatalf("%s: %v", code, err)
			}
			if err := <-ended; err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			last, last10 := -1, 0
			for _, f := range got.frames {
				p := f.Payloads[len(f.Payloads)-1]
				name := p[len(p)-2:]
				i := int(name[0]&0x7f)<<7 | int(name[1]&0x7f)
				if i <= last || i >= troubledPictures {
					t.Fatalf("picture %d after %d", i, last)
				}
				if i != last+1 && !f.Lost {
					t.Errorf("picture %d after %d hides a loss", i, last)
				}
				if f.Keyframe != (i%troubledGroup == 0) {
					t.Errorf("picture %d: keyframe %v", i, f.Keyframe)
				}
				if i >= troubledPictures-troubledGroup {
					last10++
				}
				last = i
			}
			if len(got.frames) < c.least || last10 < troubledGroup*7/10 {
				t.Errorf("%d of %d pictures, want %d; %d of the last %d", len(got.frames), troubledPictures, c.least, last10, troubledGroup)
			}
		})
	}
}
