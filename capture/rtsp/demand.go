package rtsp

import (
	"context"
	"sync"
	"time"
)

// demand is whether somebody wants a layer; the zero value says yes. Any
// goroutine may set it.
type demand struct {
	mu       sync.Mutex // guards what follows
	unwanted bool
	changed  chan struct{} // closed by the next change; nil: nobody waits
}

func (d *demand) set(wanted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unwanted == !wanted {
		return
	}
	d.unwanted = !wanted
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

func (d *demand) get() (wanted bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return !d.unwanted, d.changed
}

// await blocks until the layer is wanted, or ctx is done.
func (d *demand) await(ctx context.Context) {
	for ctx.Err() == nil {
		wanted, changed := d.get()
		if wanted {
			return
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// awaitEnd blocks until the layer has not been wanted for as long as linger,
// or ctx is done.
func (d *demand) awaitEnd(ctx context.Context, linger time.Duration) {
	for ctx.Err() == nil {
		wanted, changed := d.get()
		var over <-chan time.Time
		if !wanted {
			over = time.After(linger)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-over:
			return
		}
	}
}
