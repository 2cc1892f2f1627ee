// Package box runs the cameras of one box: each camera's supervisor feeds its
// stream, for as long as the camera's entry stands in the configuration.
package box

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"edged/capture"
	"edged/capture/placeholder"
	"edged/forward"
	"edged/forward/ingest"
	"edged/internal/snapshot"
)

// Box is the running cameras. Its methods may be called from any goroutine.
type Box struct {
	sfu *forward.SFU
	log *slog.Logger
	new func(capture.Config, *slog.Logger) (capture.Source, error)

	apply sync.Mutex // one Apply at a time

	mu       sync.Mutex // guards what follows; held for no call out
	ctx      context.Context
	order    []string
	cameras  map[string]*camera
	watchers map[int]func()
	watcher  int

	group sync.WaitGroup // of the cameras
}

// camera is one entry of the configuration at work.
type camera struct {
	*capture.Camera
	source capture.Source
	stream *forward.Stream
	shots  *snapshot.Cache
	motion *watch // nil: not enabled
	cancel context.CancelFunc
	done   chan struct{}
}

// New makes a box without cameras.
func New(sfu *forward.SFU, log *slog.Logger) *Box {
	return &Box{sfu: sfu, log: log, new: NewSource, cameras: map[string]*camera{}, watchers: map[int]func(){}}
}

// Run runs the cameras that Apply gives it, until ctx is done and all have
// ended.
func (b *Box) Run(ctx context.Context) error {
	b.mu.Lock()
	b.ctx = ctx
	for _, c := range b.cameras {
		b.startLocked(c)
	}
	b.mu.Unlock()
	<-ctx.Done()
	b.group.Wait()
	return nil
}

// Applied says what Apply changed, by camera id.
type Applied struct {
	Added, Removed, Changed []string
}

// Apply makes the running cameras those of the configuration. It prepares all
// before it touches any: on an error nothing has changed. A camera whose
// entry is equal is not touched, nor are its viewers. Viewers of a removed or
// changed camera are told, and ended. It blocks until ended cameras have
// stopped, at most some seconds.
func (b *Box) Apply(configs []capture.Config) (Applied, error) {
	b.apply.Lock()
	defer b.apply.Unlock()
	var done Applied
	made := map[string]*camera{}
	order := make([]string, 0, len(configs))
	for i, cfg := range configs {
		order = append(order, cfg.ID)
		old := b.find(cfg.ID)
		if old != nil && old.Config() == cfg {
			continue
		}
		c, err := b.prepare(cfg)
		if err != nil {
			return Applied{}, fmt.Errorf("cameras[%d] %q: %w", i, cfg.ID, err)
		}
		made[cfg.ID] = c
		if old == nil {
			done.Added = append(done.Added, cfg.ID)
		} else {
			done.Changed = append(done.Changed, cfg.ID)
		}
	}
	for _, id := range b.IDs() {
		if !slices.Contains(order, id) {
			done.Removed = append(done.Removed, id)
		}
	}
	for _, id := range done.Removed {
		b.end(id, "the camera was removed")
	}
	for _, id := range done.Changed {
		b.end(id, "the camera's configuration changed")
	}
	b.mu.Lock()
	for id, c := range made {
		c.stream = b.sfu.AddStream(id, c.Keyframe)
		c.stream.OnDemand(c.Demand)
		c.stream.OnBitrate(c.Bitrate)
		b.cameras[id] = c
		if b.ctx != nil {
			b.startLocked(c)
		}
	}
	b.order = order
	b.mu.Unlock()
	b.changed()
	return done, nil
}

// prepare makes a camera that is not yet attached to a stream.
func (b *Box) prepare(cfg capture.Config) (*camera, error) {
	source, err := b.new(cfg, b.log)
	if err != nil {
		return nil, err
	}
	microphone, err := newMicrophone(cfg, b.log)
	if err != nil {
		return nil, err
	}
	c := &camera{source: source, done: make(chan struct{})}
	if c.Camera, err = capture.New(cfg, source, c, b.log); err != nil {
		return nil, err
	}
	c.Microphone = microphone
	c.OnChange = b.changed
	c.shots = snapshot.New(c.Still)
	b.watchMotion(c, cfg)
	if !cfg.Placeholder.Disabled {
		c.NewPlaceholder = placeholder.New
	}
	return c, nil
}

// Describe implements capture.Sink.
func (c *camera) Describe(tracks []capture.Track) { c.stream.Describe(tracks) }

// Frame implements capture.Sink.
func (c *camera) Frame(f *capture.Frame) { c.stream.Frame(f) }

func (b *Box) startLocked(c *camera) {
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(b.ctx)
	b.group.Go(func() {
		defer close(c.done)
		_ = c.Run(ctx) // nil once ctx is done
	})
}

// end stops a camera, its stream and its viewers.
func (b *Box) end(id, reason string) {
	b.mu.Lock()
	c := b.cameras[id]
	delete(b.cameras, id)
	b.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
		<-c.done
	}
	b.sfu.RemoveStream(id, reason)
}

func (b *Box) find(id string) *camera {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cameras[id]
}

// IDs lists the cameras in the order of the configuration.
func (b *Box) IDs() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.order)
}

// Camera gives a camera's state and stream; ok is false where there is none.
func (b *Box) Camera(id string) (capture.State, *forward.Stream, bool) {
	c := b.find(id)
	if c == nil {
		return capture.State{}, nil, false
	}
	return c.State(), c.stream, true
}

// Publish takes a publisher for a camera whose source waits for one: see
// [forward.SFU.Publish]; Camera, Source and Sound are filled in here. The error
// may be forward.ErrNoIngest, too.
func (b *Box) Publish(ctx context.Context, id string, o forward.PublisherOptions) (*forward.Publisher, string, error) {
	c := b.find(id)
	if c == nil {
		return nil, "", forward.ErrNoIngest
	}
	source, ok := c.source.(*ingest.Source)
	if !ok {
		return nil, "", forward.ErrNoIngest
	}
	o.Camera, o.Source, o.Sound = id, source, c.Config().Audio.Enabled
	return b.sfu.Publish(ctx, o)
}

// States lists the cameras' states in the order of the configuration.
func (b *Box) States() []capture.State {
	var out []capture.State
	for _, id := range b.IDs() {
		if st, _, ok := b.Camera(id); ok {
			out = append(out, st)
		}
	}
	return out
}

// Subscribe has changed called, from any goroutine, after each change of any
// camera's state or of the list. changed must return at once. cancel ends it;
// a call may still be under way when cancel returns.
func (b *Box) Subscribe(changed func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watcher++
	n := b.watcher
	b.watchers[n] = changed
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, n)
	}
}

func (b *Box) changed() {
	b.mu.Lock()
	watchers := make([]func(), 0, len(b.watchers))
	for _, f := range b.watchers {
		watchers = append(watchers, f)
	}
	b.mu.Unlock()
	for _, f := range watchers {
		f()
	}
}
