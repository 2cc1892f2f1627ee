package data

import (
	"testing"
	"time"
)

// BenchmarkFrame is what the fan-out pays for a viewer that opened meta.
func BenchmarkFrame(b *testing.B) {
	c := New(Options{Camera: "dock", Counters: &Counters{}})
	c.meta = &channel{} // nobody sends
	c.open.Store(true)
	c.layer = 0
	f := frameOf(1)
	b.ReportAllocs()
	for b.Loop() {
		c.Frame(f)
	}
}

// BenchmarkRecord is a record's whole way through both ends' SCTP, without
// DTLS and without a network.
func BenchmarkRecord(b *testing.B) {
	r := newRig(b)
	r.wire.send = r.c.conn.in.Write // not by Receive, which bounds the rate
	r.connect()
	d := r.dial(1, Meta)
	got := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, MaxMessage)
		for {
			if _, _, err := d.ReadDataChannel(buf); err != nil {
				return
			}
			got <- struct{}{}
		}
	}()
	for !r.c.open.Load() {
		time.Sleep(time.Millisecond)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.c.Frame(frameOf(i))
		i++
		<-got
	}
	if err := r.end(); err != nil {
		b.Error(err)
	}
}
