package bench

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// The rival's side of the bench is real: Janus forwards the clip, and its
// viewers get every frame.
func TestJanus(t *testing.T) {
	if _, err := exec.LookPath(JanusProgram); err != nil {
		t.Fatal("no janus: run scripts/setup")
	}
	p, endpoint, err := StartJanus(t.Context(), -1, t.TempDir(), "")
	if errors.Is(err, ErrOnlyLoopback) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	audience := NewAudience(2, 50, endpoint, "", 90000/ClipFPS)
	watch, leave := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return audience.Run(watch) })
	enough := func() bool {
		s := audience.Snapshot()
		return len(s.Joined) == 2 && s.Viewers[0].Frames > 30 && s.Viewers[1].Frames > 30
	}
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for waiting := !enough(); waiting; waiting = waiting && !enough() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Error("no picture within 30 s")
			waiting = false
		}
	}
	s := audience.Snapshot()
	leave()
	if err := group.Wait(); err != nil || len(s.Failures) > 0 {
		t.Error(err, s.Failures)
	}
	if total := s.Total(); total.Lost+total.Broken > 0 || s.Profiles["none"] > 0 {
		t.Errorf("%+v, %v", total, s.Profiles)
	}
	t.Log(s.Profiles, s.Joined)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
