package forward

import (
	"context"
	"io"
	"sync/atomic"
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
	if p[1] < 192 || p[1] > 223 { // media, no RTCP
		w.got <- append([]byte(nil), p...)
	}
	return len(p), nil
}

var _ io.Writer = (*blockedWriter)(nil)

// A viewer on a path that stops taking (ICE-TCP) delays nobody, costs a
// bounded queue, and goes on at a keyframe.
func TestSlowViewer(t *testing.T) {
	v, r := bareViewer(t)
	in := srtpContext(t)
	w := &blockedWriter{make(chan struct{}), make(chan []byte, 10000)}
	var clock atomic.Int64 // since testTime
	v.queue.now = func() time.Time { return testTime.Add(time.Duration(clock.Load())) }
	v.queue.skip = v.skip
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { v.queue.run(ctx, w); close(ended) }()
	await := func(left int) {
		t.Helper()
		idle := func() bool {
			v.queue.mu.Lock()
			defer v.queue.mu.Unlock()
			return len(v.queue.frames) <= left && !v.queue.broken
		}
		for limit := time.Now().Add(10 * time.Second); !idle(); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("the queue is not written")
			}
		}
	}

	big := make([]byte, 1100)
	var b batch
	write := func(i int) {
		clock.Store(int64(i) * int64(33*time.Millisecond))
		f := frameOf(i, i%30 == 0, big)
		r.write(&f, v.queue.now())
		v.pump(&b, v.queue.now()) // returns although nothing is taken
	}
	write(0)
	await(1) // the path has the first frame, and no end of it; its report waits
	for i := 1; i < 310; i++ {
		write(i)
		if wait := v.queue.wait(v.queue.now()); i == 10 && wait != 10*33*time.Millisecond {
			t.Errorf("the oldest has waited %v", wait)
		}
	}
	if n := v.counts.Packets; n > 6*(2+uint64(queueTime/(33*time.Millisecond))) {
		t.Fatalf("%d packets for a viewer that takes none", n)
	}
	close(w.go_)
	await(0)
	for i := 310; i < 400; i++ {
		write(i)
		await(0)
	}
	if v.counts.Skipped < 290 {
		t.Errorf("%d frames skipped", v.counts.Skipped)
	}
	cancel()
	<-ended
	var got []*rtp.Packet
	for len(w.got) > 0 {
		raw, err := in.DecryptRTP(nil, <-w.got, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := &rtp.Packet{}
		if err := p.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	// the frame that was begun, then the newest keyframe and all after it
	if len(got) != 6*(1+100) || got[6].Payload[0] != 1 {
		t.Fatalf("%d packets, the seventh of a keyframe: %v", len(got), got[6].Payload[0] == 1)
	}
	for i, p := range got[7:] {
		if p.SequenceNumber != got[6+i].SequenceNumber+1 {
			t.Fatalf("sequence number %d after %d", p.SequenceNumber, got[6+i].SequenceNumber)
		}
	}
	if v.lanes[0].resend(got[6].SequenceNumber-1, &b) {
		t.Error("what was left out is sent again")
	}
}

// What has waited too long is left out, up to a keyframe that has not.
func TestQueueSkipsToAKeyframe(t *testing.T) {
	const ms = time.Millisecond
	type frame struct {
		at  time.Duration
		key bool
	}
	for _, tt := range []struct {
		name    string
		frames  []frame
		now     time.Duration
		first   int // index of the frame that is taken; -1: none
		skipped int
		broken  bool
	}{
		{"nothing", nil, 0, -1, 0, false},
		{"in time", []frame{{0, true}, {33 * ms, false}}, 500 * ms, 0, 0, false},
		{"all too old", []frame{{0, true}, {33 * ms, false}}, 600 * ms, -1, 2, true},
		{"the first is too old, and the rest misses it", []frame{{0, false}, {400 * ms, false}}, 501 * ms, -1, 2, true},
		{"a keyframe waits", []frame{{0, false}, {300 * ms, false}, {400 * ms, true}, {433 * ms, false}}, 501 * ms, 2, 2, false},
		{"a keyframe as old", []frame{{0, true}, {33 * ms, true}, {700 * ms, true}}, 900 * ms, 2, 2, false},
	} {
		q := newQueue()
		skipped, broken, room := 0, false, true
		q.skip = func(n int, b bool) { skipped, broken, room = n, b, q.room(testTime.Add(tt.now)) }
		for i, f := range tt.frames {
			b := packetsOf(100 + i)
			b.key = f.key
			q.put(b, testTime.Add(f.at))
		}
		f, ok := q.take(testTime.Add(tt.now))
		if ok != (tt.first >= 0) || ok && len(f.buf) != 100+tt.first || skipped != tt.skipped || broken != tt.broken {
			t.Errorf("%s: %v %d, %d skipped, broken %v", tt.name, ok, len(f.buf)-100, skipped, broken)
		}
		if broken && room {
			t.Errorf("%s: it takes frames that miss others", tt.name)
		}
		if !q.room(testTime.Add(tt.now)) || q.bytes < 0 || len(q.frames) == 0 && q.bytes != 0 {
			t.Errorf("%s: no room after it, %d bytes", tt.name, q.bytes)
		}
	}
}

// A queue that was full wakes the stream once there is room, and only then.
func TestQueueTellsOfRoom(t *testing.T) {
	q := newQueue()
	told := 0
	q.drained = func() { told++ }
	for q.room(testTime) {
		q.put(packetsOf(1200, 1200), testTime)
	}
	over := q.bytes - queueBytes
	for f, ok := q.take(testTime); ok; f, ok = q.take(testTime) {
		over -= len(f.buf)
		if want := over < 0; (told > 0) != want || told > 1 {
			t.Fatalf("%d bytes over the limit: told %d times", over, told)
		}
	}
	q.put(packetsOf(10), testTime)
	q.take(testTime)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
