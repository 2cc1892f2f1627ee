package forward

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// blockedWriter is a path whose writes wait until told.
type blockedWriter struct {
	go_ chan struct{}
	got chan []byte
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.go_
	w.got <- append([]byte(nil), p...)
	return len(p), nil
}

var _ io.Writer = (*blockedWriter)(nil)

// A viewer on a path that stops taking (ICE-TCP) delays nobody, costs a
// bounded queue, and goes on at a keyframe.
func TestSlowViewer(t *testing.T) {
	v, r := bareViewer(t)
	in := srtpContext(t)
	w := &blockedWriter{make(chan struct{}), make(chan []byte, 10000)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { v.queue.run(ctx, w); close(ended) }()

	big := make([]byte, 1100)
	var b batch
	now := testTime
	write := func(i int) {
		now = testTime.Add(time.Duration(i) * 33 * time.Millisecond)
		f := frameOf(i, i%30 == 0, big)
		r.write(&f, now)
		v.pump(&b, now) // returns although nothing is taken
	}
	for i := range 300 {
		write(i)
		v.queue.mu.Lock()
		if v.queue.bytes > queueBytes+64<<10 {
			t.Fatalf("%d bytes queued", v.queue.bytes)
		}
		v.queue.mu.Unlock()
	}
	if v.counts.Packets == 0 || v.counts.Packets > 300 {
		t.Fatalf("%d packets sent to a viewer that takes none", v.counts.Packets)
	}
	before := v.counts.Packets
	close(w.go_)
	for len(w.got) < int(before) {
		time.Sleep(time.Millisecond)
	}
	for i := 300; i < 400; i++ {
		write(i)
	}
	if v.counts.Skipped == 0 {
		t.Error("no frame was skipped")
	}
	var last *rtp.Packet
	for range v.counts.Packets {
		raw, err := in.DecryptRTP(nil, <-w.got, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := &rtp.Packet{}
		if err := p.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		if last != nil && p.SequenceNumber != last.SequenceNumber+1 {
			t.Fatalf("sequence number %d after %d", p.SequenceNumber, last.SequenceNumber)
		}
		if last != nil && p.Timestamp-last.Timestamp > 3000*2 && p.Payload[0] != 1 {
			t.Fatal("after the skip comes no keyframe")
		}
		last = p
	}
	cancel()
	<-ended
}

// A queue that was full wakes the stream once there is room, and only then.
func TestQueueTellsOfRoom(t *testing.T) {
	q := newQueue()
	told := 0
	q.drained = func() { told++ }
	for q.room() {
		q.put(packetsOf(make100(1200)...))
	}
	over := q.bytes - queueBytes
	for q.take() != nil {
		over -= 1200
		if want := over < 0; (told > 0) != want || told > 1 {
			t.Fatalf("%d bytes over the limit: told %d times", over, told)
		}
	}
	q.put(packetsOf(10))
	q.take()
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
