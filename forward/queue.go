package forward

import (
	"context"
	"io"
	"sync"
)

// queueBytes is what may wait for a viewer that is not on plain UDP (ICE-TCP):
// about half a second of a camera. A full queue leaves the lane where it is.
const queueBytes = 256 << 10

// queue decouples the fan-out from a path whose writes wait. It takes whole
// frames, so that what was begun is finished.
type queue struct {
	ready   chan struct{} // something was put; capacity 1
	drained func()        // called when there is room again; may be nil

	mu      sync.Mutex
	packets [][]byte
	bytes   int
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// room tells whether another frame is taken.
func (q *queue) room() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes < queueBytes
}

// put copies a batch in. It takes every batch, even over the limit: room
// says when to stop.
func (q *queue) put(b *batch) {
	q.mu.Lock()
	from := 0
	for _, end := range b.ends {
		q.packets = append(q.packets, append([]byte(nil), b.buf[from:end]...))
		from = end
	}
	q.bytes += len(b.buf)
	q.mu.Unlock()
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
		for p := q.take(); p != nil && ctx.Err() == nil; p = q.take() {
			_, _ = w.Write(p)
		}
	}
}

func (q *queue) take() []byte {
	q.mu.Lock()
	if len(q.packets) == 0 {
		q.packets = nil
		q.mu.Unlock()
		return nil
	}
	p := q.packets[0]
	q.packets[0], q.packets = nil, q.packets[1:]
	full := q.bytes >= queueBytes
	q.bytes -= len(p)
	roomy := full && q.bytes < queueBytes
	q.mu.Unlock()
	if roomy && q.drained != nil {
		q.drained()
	}
	return p
}
