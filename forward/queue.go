package forward

import (
	"context"
	"io"
	"sync"
	"time"
)

// What may wait for a viewer that is not on plain UDP (ICE-TCP). A full queue
// leaves the lane where it is.
const (
	queueBytes = 256 << 10
	queueTime  = 500 * time.Millisecond // what has waited longer is not worth its time on the path
)

// queue decouples the fan-out from a path whose writes wait. It takes whole
// frames, so that what was begun is finished. Where frames have waited for
// longer than queueTime it goes on at the next keyframe.
type queue struct {
	ready   chan struct{}    // something was put; capacity 1
	drained func()           // called when there is room again; may be nil
	now     func() time.Time // when it is

	// Called when so many frames were left out; broken: and no keyframe waits,
	// so that what is put next must begin with one. May be nil.
	skip func(frames int, broken bool)

	mu     sync.Mutex
	frames []queued
	bytes  int
	broken bool // frames were left out, and skip has not returned
}

// queued is a batch that waits.
type queued struct {
	buf  []byte
	ends []int
	key  bool      // a viewer can start from it
	at   time.Time // put
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1), now: time.Now} }

// room tells whether another frame is taken.
func (q *queue) room(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.roomLocked(now)
}

func (q *queue) roomLocked(now time.Time) bool {
	return !q.broken && q.bytes < queueBytes && q.waitLocked(now) <= queueTime
}

// wait is how long the oldest frame has waited.
func (q *queue) wait(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waitLocked(now)
}

func (q *queue) waitLocked(now time.Time) time.Duration {
	if len(q.frames) == 0 {
		return 0
	}
	return max(0, now.Sub(q.frames[0].at))
}

// put takes what was built in a batch, even over the limit: room says when to
// stop.
func (q *queue) put(b *batch, now time.Time) {
	buf, ends := b.parcel()
	f := queued{buf: append([]byte(nil), buf...), ends: append([]int(nil), ends...), key: b.key, at: now}
	q.mu.Lock()
	q.frames = append(q.frames, f)
	q.bytes += len(f.buf)
	q.mu.Unlock()
	b.begin()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// run writes what is put until ctx is done. Write errors are left to ICE,
// which knows when the path is dead.
func (q *queue) run(ctx context.Context, w io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.ready:
		}
		for f, ok := q.take(q.now()); ok && ctx.Err() == nil; f, ok = q.take(q.now()) {
			f.each(func(packet []byte) { _, _ = w.Write(packet) })
		}
	}
}

// each calls do for each packet.
func (f queued) each(do func(packet []byte)) {
	from := 0
	for _, end := range f.ends {
		do(f.buf[from:end])
		from = end
	}
}

// take gives the oldest frame that is worth its time; false: there is none.
func (q *queue) take(now time.Time) (f queued, ok bool) {
	q.mu.Lock()
	roomy := q.roomLocked(now)
	skipped := q.skipLocked(now)
	if len(q.frames) > 0 {
		f, ok = q.popLocked(), true
	} else {
		q.frames = nil
	}
	q.broken = skipped > 0 && !f.key
	broken := q.broken
	q.mu.Unlock()
	if skipped > 0 && q.skip != nil {
		q.skip(skipped, broken)
	}
	if broken {
		q.mend()
	}
	if !roomy && q.drained != nil && q.room(now) {
		q.drained()
	}
	return f, ok
}

func (q *queue) mend() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.broken = false
}

// skipLocked leaves out what has waited for too long and, as that is missing
// then, all up to a keyframe. It returns how many frames those were.
func (q *queue) skipLocked(now time.Time) (n int) {
	if q.waitLocked(now) <= queueTime {
		return 0
	}
	for len(q.frames) > 0 && (!q.frames[0].key || q.waitLocked(now) > queueTime) {
		q.popLocked()
		n++
	}
	return n
}

func (q *queue) popLocked() queued {
	f := q.frames[0]
	q.frames[0], q.frames = queued{}, q.frames[1:]
	q.bytes -= len(f.buf)
	return f
}
