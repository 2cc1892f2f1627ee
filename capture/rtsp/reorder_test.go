package rtsp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// wire is a packet whose payload is its sequence number in words.
func wire(seq uint16, ssrc uint32) []byte {
	b, err := (&rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: 96, Marker: true, SequenceNumber: seq, SSRC: ssrc, Timestamp: 9000},
		Payload: fmt.Appendf(nil, "%d", seq),
	}).Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// outcome is what comes out of a line: payloads, "-" for what stands in. Their
// numbers must follow one another.
type outcome struct {
	t    testing.TB
	said []string
	next uint16
}

func (o *outcome) add(b []byte) {
	o.t.Helper()
	var p rtp.Packet
	if err := p.Unmarshal(b); err != nil {
		o.t.Fatal(err)
	}
	if len(o.said) > 0 && p.SequenceNumber != o.next {
		o.t.Errorf("number %d after %d", p.SequenceNumber, o.next-1)
	}
	o.next = p.SequenceNumber + 1
	if standsIn(&p) {
		o.said = append(o.said, "-")
		return
	}
	o.said = append(o.said, string(p.Payload))
}

// feed pushes a packet and takes what comes out.
func (o *outcome) feed(l *line, b []byte) {
	o.t.Helper()
	if l.push(b) {
		o.add(b)
	}
	o.drain(l)
}

func (o *outcome) drain(l *line) {
	o.t.Helper()
	buf := make([]byte, 1500)
	for n := l.pop(buf); n > 0; n = l.pop(buf) {
		o.add(buf[:n])
	}
}

func TestLine(t *testing.T) {
	const giveUp = -1
	for name, c := range map[string]struct {
		seqs []int // over 100000: by another sender, from 0 on
		want string
	}{
		"in order":           {[]int{7, 8, 9}, "7 8 9"},
		"swapped":            {[]int{7, 9, 8, 10}, "7 8 9 10"},
		"far apart":          {[]int{7, 12, 11, 10, 9, 8, 13}, "7 8 9 10 11 12 13"},
		"twice":              {[]int{7, 7, 9, 9, 8, 8}, "7 8 9"},
		"waits":              {[]int{7, 9, 10}, "7"},
		"lost":               {[]int{7, 9, 10, giveUp, 11}, "7 - 9 10 11"},
		"lost, too late":     {[]int{7, 9, giveUp, 8, 10}, "7 - 9 10"},
		"two holes":          {[]int{7, 9, 12, giveUp, 13}, "7 - 9 - - 12 13"},
		"one hole filled":    {[]int{7, 9, 12, 8, giveUp}, "7 8 9 - - 12"},
		"nothing to give up": {[]int{7, giveUp, 8}, "7 8"},
		"wraps":              {[]int{65534, 65535, 1, 0, 2}, "65534 65535 0 1 2"},
		"lost at the wrap":   {[]int{65535, 1, giveUp, 2}, "65535 - 1 2"},
		"jumps ahead":        {[]int{7, 9, 300, 301}, "7 - 9 - 300 301"},
		"jumps back":         {[]int{1000, 1001, 3, 4}, "1000 1001 - 3 4"},
		"another sender":     {[]int{1000, 1002, 101000, 101001}, "1000 - 1002 - 1000 1001"},
		"the same number":    {[]int{1000, 101000, 101001}, "1000 - 1000 1001"},
	} {
		t.Run(name, func(t *testing.T) {
			var l line
			o := &outcome{t: t}
			for _, seq := range c.seqs {
				switch {
				case seq == giveUp:
					l.giveUp()
					o.drain(&l)
				case seq > 100_000:
					o.feed(&l, wire(uint16(seq-100_000), 2))
				default:
					o.feed(&l, wire(uint16(seq), 1))
				}
			}
			if got := strings.Join(o.said, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// In order, a packet costs no memory.
func TestLineAllocatesNothing(t *testing.T) {
	var l line
	b, seq := wire(0, 1), uint16(0)
	if n := testing.AllocsPerRun(1000, func() {
		binary.BigEndian.PutUint16(b[2:], seq)
		seq++
		if !l.push(b) {
			t.Fatal("held back")
		}
	}); n > 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte{1, 0, 3, 2, 255, 64, 1})
	f.Add([]byte{0, 200, 100, 255, 0, 1, 2})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var l line
		o := &outcome{t: t}
		seq := uint16(65500)
		for _, s := range steps {
			switch {
			case s == 255:
				l.giveUp()
				o.drain(&l)
			case s > 250:
				seq += uint16(s) << 7
				o.feed(&l, wire(seq, uint32(s)))
			default:
				o.feed(&l, wire(seq+uint16(s)-100, 1))
				seq += uint16(s & 1)
			}
			if l.held > reorderMost {
				t.Fatalf("%d packets held", l.held)
			}
		}
		l.giveUp()
		o.drain(&l)
		if l.held != 0 {
			t.Fatalf("%d packets never come out", l.held)
		}
		if last := slices.Index(o.said, ""); last >= 0 {
			t.Fatal("an empty packet")
		}
	})
}

// The socket hands out what waits behind a lost packet though nothing more
// comes, passes on what is none of its business, and lets its owner leave.
func TestOrderly(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := &orderly{UDPConn: c}
	camera, other := dialUDP(t, c), dialUDP(t, c)
	read := func() ([]byte, *net.UDPAddr) {
		t.Helper()
		b := make([]byte, 1500)
		n, addr, err := o.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return b[:n], addr.(*net.UDPAddr)
	}
	out := &outcome{t: t}
	send := func(from *net.UDPConn, b []byte) {
		t.Helper()
		if _, err := from.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send(camera, wire(7, 1))
	send(camera, wire(10, 1))
	for range 4 { // 8 and 9 never come, and nothing after 10
		b, from := read()
		if from.Port != camera.LocalAddr().(*net.UDPAddr).Port {
			t.Errorf("from %v", from)
		}
		out.add(b)
	}
	if got := strings.Join(out.said, " "); got != "7 - - 10" {
		t.Errorf("%q", got)
	}
	send(other, wire(500, 1))
	if b, from := read(); string(b) != string(wire(500, 1)) || from.Port != other.LocalAddr().(*net.UDPAddr).Port {
		t.Errorf("%x from %v", b, from)
	}
	report := []byte{0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	send(camera, report)
	if b, _ := read(); string(b) != string(report) {
		t.Errorf("%x", b)
	}
	send(camera, wire(11, 1))
	b, _ := read()
	out.add(b)

	send(camera, wire(13, 1)) // waits when the owner leaves
	if err := o.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.ReadFrom(make([]byte, 1500)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func dialUDP(t *testing.T, to *net.UDPConn) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
