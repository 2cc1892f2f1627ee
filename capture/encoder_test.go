package capture_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"edged/capture"
)

// named is a source that tells what encodes.
type named struct {
	script
	encoder atomic.Value
}

func (n *named) Encoder() string { return n.encoder.Load().(string) }

// Another encoder of the same tracks is news for those who watch the camera's
// state, and nothing to its viewers.
func TestCameraEncoderChanges(t *testing.T) {
	step := make(chan string)
	src := &named{}
	src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
		for {
			sink.Describe([]capture.Track{video})
			send(sink, 0, 0)
			select {
			case name := <-step:
				src.encoder.Store(name)
			case <-ctx.Done():
				return nil
			}
		}
	}
	src.encoder.Store("chip")
	synctest.Test(t, func(t *testing.T) {
		step = make(chan string)
		s := &sink{}
		c, err := capture.New(capture.Config{ID: "dock", Source: "test:"}, src, s, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var changes atomic.Int32
		c.OnChange = func() { changes.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		before := changes.Load()
		for i, name := range []string{"chip", "software", "software"} {
			step <- name
			synctest.Wait()
			want := before + int32(min(i, 1))
			if st := c.State(); st.Encoder != name || changes.Load() != want || len(s.described) != 1 {
				t.Errorf("%s: state says %q, told %d times, want %d; described %d times", name, st.Encoder, changes.Load(), want, len(s.described))
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
