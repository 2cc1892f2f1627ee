package signaling

import (
	"context"
	"log/slog"

	"edged/forward"
)

// Announce tells the `events` data channels of each camera's viewers of every
// change of its state, in the words of the notification `camera.changed`. It
// blocks until ctx is done.
func Announce(ctx context.Context, cameras Cameras, log *slog.Logger) error {
	wake := make(chan struct{}, 1)
	defer cameras.Subscribe(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	told := map[string]announced{}
	for {
		told = announceChanges(cameras, told, log)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
	}
}

// announced is what the viewers of a stream were told last.
type announced struct {
	stream *forward.Stream
	camera Camera
}

// announceChanges announces what differs from told, and gives what is told now.
func announceChanges(cameras Cameras, told map[string]announced, log *slog.Logger) map[string]announced {
	now := map[string]announced{}
	for _, id := range cameras.IDs() {
		state, stream, ok := cameras.Camera(id)
		if !ok || stream == nil {
			continue
		}
		c := Describe(state, stream)
		before := told[id]
		now[id] = before
		if before.stream == stream && sameState(before.camera, c) {
			continue
		}
		now[id] = announced{stream, c}
		if err := stream.Announce(notification("camera.changed", map[string]any{"camera": c})); err != nil {
			log.Warn("announce", "camera", id, "err", err)
		}
	}
	return now
}
