package box

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/encode"
	"edged/forward"
	"edged/internal/probe"
)

// leaver plays two seconds, is gone until back is closed, then plays on.
type leaver struct {
	*capturetest.Source
	left bool
	back <-chan struct{}
}

func (l *leaver) Run(ctx context.Context, sink capture.Sink) error {
	if l.left {
		select {
		case <-l.back:
		default:
			return capture.Errorf(capture.CodeUnreachable, "gone")
		}
	}
	playing, stop := context.WithTimeout(ctx, time.Hour)
	if !l.left {
		stop()
		playing, stop = context.WithTimeout(ctx, 2*time.Second)
	}
	defer stop()
	l.left = true
	if err := l.Source.Run(playing, sink); err != nil || ctx.Err() != nil {
		return err
	}
	return capture.Errorf(capture.CodeUnplugged, "gone")
}

// The whole way to real viewers: one sees the camera go, the placeholder and
// the camera again without a hole in its packets; another joins meanwhile.
func TestPlaceholderReachesViewers(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	b, sfu := start(t)
	back := make(chan struct{})
	b.new = func(capture.Config, *slog.Logger) (capture.Source, error) {
		s, err := capturetest.New(capturetest.Options{})
		return &leaver{Source: s, back: back}, err
	}
	cfg := capture.Config{ID: "a", Source: "test:", Placeholder: capture.PlaceholderConfig{After: 200 * time.Millisecond}}
	if _, err := b.Apply([]capture.Config{cfg}); err != nil {
		t.Fatal(err)
	}
	stream := live(t, b, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	join := func(ctx context.Context, offer string) (string, error) {
		_, answer, err := sfu.Join(ctx, stream, forward.ViewerOptions{Offer: offer})
		return answer, err
	}
	type outcome struct {
		probe.Result
		err error
	}
	stays := make(chan outcome, 1)
	go func() {
		r, err := probe.Run(ctx, 120, join)
		stays <- outcome{r, err}
	}()
	for st, _, _ := b.Camera("a"); !st.Placeholder; st, _, _ = b.Camera("a") {
		select {
		case <-ctx.Done():
			t.Fatalf("no placeholder: %+v", st)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if r, err := probe.Run(ctx, 2, join); err != nil || r.Lost != 0 {
		t.Errorf("joined while the camera was away: %+v, %v", r, err)
	}
	close(back)
	if o := <-stays; o.err != nil || o.Lost != 0 {
		t.Errorf("saw the camera go and come back: %+v, %v", o.Result, o.err)
	}
	if st, _, _ := b.Camera("a"); st.Placeholder {
		t.Error("the placeholder stays")
	}
}
