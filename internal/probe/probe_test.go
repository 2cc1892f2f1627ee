package probe

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"edged/capture/capturetest"
	"edged/forward"
	"edged/storage"

	"go.uber.org/goleak"
)

func TestProbe(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	identity, err := storage.OpenIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sfu, err := forward.New(forward.Config{UDP: "127.0.0.1:0", MaxViewers: 1}, identity.Certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	source, err := capturetest.New(capturetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stream := sfu.AddStream("dock", source.Keyframe)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- sfu.Run(ctx) }()
	go func() { ended <- source.Run(ctx, stream) }()
	<-sfu.Ready()
	join := func(ctx context.Context, offer string) (string, error) {
		for {
			_, answer, err := sfu.Join(ctx, stream, forward.ViewerOptions{Offer: offer})
			if !errors.Is(err, forward.ErrOffline) {
				return answer, err
			}
		}
	}
	limit, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	r, err := Run(limit, 60, join)
	if err != nil || r.Frames != 60 || r.Records == 0 || r.Lost != 0 || r.Packets < 20 || r.FirstPacket <= 0 || !strings.HasPrefix(r.Path, "udp 127.0.0.1:") {
		t.Errorf("%+v %v", r, err)
	}

	refused := errors.New("no")
	if _, err := Run(limit, 1, func(context.Context, string) (string, error) { return "", refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	if _, err := Run(limit, 1, func(context.Context, string) (string, error) { return "garbage", nil }); err == nil || !strings.Contains(err.Error(), "answer") {
		t.Errorf("garbage: %v", err)
	}
	soon, stop2 := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop2()
	if _, err := Run(soon, 1e6, func(ctx context.Context, offer string) (string, error) {
		for { // the viewer before is about to be gone
			if answer, err := join(ctx, offer); !errors.Is(err, forward.ErrFull) {
				return answer, err
			}
		}
	}); err == nil || !strings.Contains(err.Error(), "of 1000000 frames") {
		t.Errorf("too long: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	goleak.VerifyNone(t, ignore)
}
