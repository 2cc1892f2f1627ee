package bwe

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func checkBounds(t testing.TB, e *Estimator) {
	t.Helper()
	if r := e.Estimate(); !(r >= e.config.Min && r <= e.config.Max) {
		t.Fatalf("estimate %v outside %v…%v", r, e.config.Min, e.config.Max)
	}
	if l := e.Loss(); !(l >= 0 && l <= 1) {
		t.Fatalf("loss %v", l)
	}
	if e.Queue() < 0 {
		t.Fatalf("queue %v", e.Queue())
	}
	if len(e.history.records) > historyMost || e.history.next-e.history.oldest > int64(len(e.history.records)) {
		t.Fatalf("%d packets in a history of %d", e.history.next-e.history.oldest, len(e.history.records))
	}
	for name, v := range map[string]float64{
		"rate": e.rate, "peak": e.peak, "proven": e.proven, "queue": e.queue, "ceiling": e.ceiling, "missed": e.missed, "inherent": e.loss.inherent,
	} {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			t.Fatalf("%s is %v", name, v)
		}
	}
}

// FuzzFeedback: any bytes as feedback to an estimator that sends.
func FuzzFeedback(f *testing.F) {
	f.Add(closed(append(head(0, 3, 0), 0x20, 3, 0, 4, 4)))
	f.Add(closed(append(head(0, 4, 1<<23), 0xc0|1<<4|2, 1<<6, 4, 0x80, 0, 4)))
	f.Add(closed(append(head(90, 20, 1<<24-1), 0x40, 20)))
	f.Add(closed(append(head(0, 65535, 5), 0x1f, 0xff, 0x3f, 0xff)))
	b, err := rtcp.TransportLayerCC{
		Header:            rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 6},
		PacketStatusCount: 3, ReferenceTime: 9,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: 2, RunLength: 3}},
		RecvDeltas:   []*rtcp.RecvDelta{{Type: 2, Delta: -8192000}, {Type: 2, Delta: 8191750}, {Type: 2, Delta: 0}},
	}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e := estimator(t)
		e.Want(5e6)
		for i := range 100 {
			now := start.Add(time.Duration(i) * 5 * time.Millisecond)
			e.Sent(now, 1200, Media)
			if n, _, ok := e.Probe(now); ok {
				e.Sent(now, n, Padding)
			}
			if i%10 == 9 {
				_ = e.FeedbackBytes(now, b) // the same lie with time going on
				checkBounds(t, e)
			}
		}
	})
}

// FuzzCalls: any calls in any order, with clocks that jump and numbers that are none.
func FuzzCalls(f *testing.F) {
	f.Add([]byte{0, 10, 0, 10, 1, 0, 2, 3, 3, 200, 4, 9, 5, 1, 6, 7, 7, 0, 8, 255})
	f.Add([]byte{0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 255, 9, 255, 0, 1, 1, 1, 10, 3, 0, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		e := estimator(t)
		now := start
		weird := []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 0.5, 2e6}
		for len(ops) > 1 {
			op, arg := ops[0], ops[1]
			ops = ops[2:]
			w := weird[int(arg)%len(weird)]
			switch op % 11 {
			case 0:
				for range arg {
					e.Sent(now, int(arg)*300-9000, Kind(arg&1))
				}
			case 1:
				b := head(uint16(e.history.next)-uint16(arg), uint16(arg), uint32(now.UnixMilli()/64))
				b = append(b, 0x20, arg)
				for range arg {
					b = append(b, arg)
				}
				if err := e.FeedbackBytes(now, closed(b)); err != nil {
					t.Fatal(err)
				}
			case 2:
				e.Reception(now, w, time.Duration(arg)*time.Millisecond)
			case 3:
				e.Reception(now, float64(arg)/255, time.Duration(w))
			case 4:
				e.REMB(now, w)
			case 5:
				e.Want(w)
			case 6:
				if n, _, ok := e.Probe(now); ok != (n > 0) {
					t.Fatalf("%d bytes, %v", n, ok)
				} else if ok {
					e.Sent(now, min(n, 1200), Padding)
				}
			case 7:
				now = now.Add(time.Duration(arg) * time.Millisecond)
			case 8:
				now = now.Add(time.Duration(arg) * time.Minute)
			case 9:
				now = now.Add(-time.Duration(arg) * time.Second)
			case 10:
				b := head(uint16(arg)<<8, 0, uint32(arg)<<16)
				if len(ops) > 40 {
					b = append(b, ops[:40]...)
					binary.BigEndian.PutUint16(b[14:], uint16(arg))
				}
				_ = e.FeedbackBytes(now, closed(b))
			}
			checkBounds(t, e)
		}
	})
}
