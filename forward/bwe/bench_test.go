package bwe

import (
	"encoding/binary"
	"testing"
	"time"
)

// frames sends 28 packets in 100 ms as bursts of a 30 Hz camera, and gives the
// feedback of them.
type frames struct {
	now time.Time
	buf []byte
}

const perFeedback = 28

func (f *frames) send(e *Estimator) {
	for i := range perFeedback {
		if i%9 == 0 {
			f.now = f.now.Add(25 * time.Millisecond)
		}
		e.Sent(f.now, 1150, Media)
	}
}

func (f *frames) feedback(e *Estimator) []byte {
	base := uint16(e.history.next - perFeedback)
	ms := f.now.UnixMilli() - 100
	if f.buf == nil {
		f.buf = head(0, perFeedback, 0)
	}
	f.buf = f.buf[:feedbackHead]
	binary.BigEndian.PutUint16(f.buf[12:], base)
	f.buf[16], f.buf[17], f.buf[18] = byte(ms/64>>16), byte(ms/64>>8), byte(ms/64)
	f.buf = append(f.buf, 0x20, perFeedback, byte(ms%64*4))
	for i := 1; i < perFeedback; i++ {
		d := byte(1)
		if i%9 == 0 {
			d = 92
		}
		f.buf = append(f.buf, d)
	}
	for len(f.buf)%4 != 0 {
		f.buf = append(f.buf, 0)
	}
	binary.BigEndian.PutUint16(f.buf[2:], uint16(len(f.buf)/4-1))
	return f.buf
}

func BenchmarkSent(b *testing.B) {
	e := estimator(b)
	f := &frames{now: start}
	for range 100 { // until the history has its size
		f.send(e)
		if err := e.FeedbackBytes(f.now, f.feedback(e)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%9 == 0 {
			f.now = f.now.Add(33 * time.Millisecond)
		}
		e.Sent(f.now, 1150, Media)
	}
}

// BenchmarkPacket is all that a packet costs: Sent and its share of a feedback.
func BenchmarkPacket(b *testing.B) {
	e := estimator(b)
	f := &frames{now: start}
	round := func() {
		f.send(e)
		if err := e.FeedbackBytes(f.now, f.feedback(e)); err != nil {
			b.Fatal(err)
		}
		if _, _, ok := e.Probe(f.now); ok {
			b.Fatal("nobody wants a probe")
		}
	}
	for range 100 {
		round()
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		round()
		n += perFeedback
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/packet")
}

// TestNoGarbage: sending and feedback allocate nothing in steady state.
func TestNoGarbage(t *testing.T) {
	e := estimator(t)
	e.Want(20e6)
	f := &frames{now: start}
	round := func() {
		f.send(e)
		if n, _, ok := e.Probe(f.now); ok {
			e.Sent(f.now, n, Padding)
		}
		if err := e.FeedbackBytes(f.now, f.feedback(e)); err != nil {
			t.Error(err)
		}
		e.Reception(f.now, 0.1, 20*time.Millisecond)
		e.REMB(f.now, 10e6)
	}
	for range 200 {
		round()
	}
	if n := testing.AllocsPerRun(500, round); n > 0 {
		t.Errorf("%v allocations a round", n)
	}
}
