package v4l2

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"edged/capture"
)

// The driver is taken away and comes back: the camera says so, and goes on by
// itself, as one stream.
func TestGuestUnplug(t *testing.T) {
	inGuest(t, "vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x0")
	needEncoder(t)
	path := videos(t, "vivid")[0]
	cfg := capture.Config{ID: "dock", Source: "v4l2:auto", Video: small}
	s, err := New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	out := &counted{}
	c, err := capture.New(cfg, s, out, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	const driver = "/sys/bus/platform/drivers/vivid/"
	for range 2 {
		until(t, c, "live", func(st capture.State) bool { return st.Phase == capture.Live })
		write(t, driver+"unbind", "vivid.0")
		if _, err := os.Stat(path); err == nil {
			t.Error("unplugged, the device is still there")
		}
		until(t, c, "unplugged", func(st capture.State) bool {
			return st.Code == capture.CodeUnplugged || st.Code == capture.CodeNotFound
		})
		until(t, c, "absent", func(st capture.State) bool { return st.Restarts[capture.CodeNotFound] >= 3 })
		at := time.Now()
		write(t, driver+"bind", "vivid.0")
		until(t, c, "live again", func(st capture.State) bool { return st.Phase == capture.Live })
		t.Logf("live %v after it was plugged in", time.Since(at).Round(time.Millisecond))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if out.gaps < 2 || out.backwards > 0 {
		t.Errorf("%d gaps, %d frames out of order", out.gaps, out.backwards)
	}
}

// counted is a sink that only counts.
type counted struct {
	gaps, backwards, frames int
	last                    uint32
}

func (c *counted) Describe([]capture.Track) {}
func (c *counted) Frame(f *capture.Frame) {
	if f.Lost {
		c.gaps++
	}
	if c.frames > 0 && int32(f.RTPTime-c.last) <= 0 {
		c.backwards++
	}
	c.frames, c.last = c.frames+1, f.RTPTime
}

func until(t *testing.T, c *capture.Camera, what string, is func(capture.State) bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !is(c.State()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not %s: %+v", what, c.State())
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o200); err != nil {
		t.Fatal(err)
	}
}
