package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"edged/internal/lab/bench"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

// The baseline must be a fair rival: every viewer gets every frame, over the
// profile that plain pion settles on with a browser.
func TestBaselineServes(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, args := range [][]string{nil, {"-interceptors"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, w := io.Pipe()
			var group errgroup.Group
			group.Go(func() error {
				defer w.Close()
				return run(ctx, args, w)
			})
			line, err := bufio.NewReader(r).ReadString('\n')
			if err != nil {
				t.Fatal(err, group.Wait())
			}
			audience := bench.NewAudience(3, 50, strings.TrimSpace(line), "", 3000)
			watch, leave := context.WithCancel(ctx)
			group.Go(func() error { return audience.Run(watch) })
			waitFor(t, "three viewers with a keyframe and 20 frames", func() bool {
				s := audience.Snapshot()
				for _, v := range s.Viewers {
					if v.Frames < 20 {
						return false
					}
				}
				return len(s.Joined) == 3
			})
			s := audience.Snapshot()
			leave()
			cancel()
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			if total := s.Total(); total.Lost+total.Broken+total.Skipped != 0 || len(s.Failures) > 0 || len(s.Joined) != 3 {
				t.Errorf("not every frame came to everybody: %+v", s)
			}
			if s.Profiles["AES128_CM_HMAC_SHA1_80"] != 3 {
				t.Errorf("SRTP profiles %v, want what a browser and plain pion settle on", s.Profiles)
			}
		})
	}
}

// A camera is asked for keyframes by PLI, but no more often than twice a
// second however many viewers do.
func TestBaselineAsksForKeyframes(t *testing.T) {
	asked := 0
	s := &server{ask: func(int) { asked++ }}
	for range 10 {
		s.keyframe()
	}
	s.asked = s.asked.Add(-time.Second)
	s.keyframe()
	if asked != 2 {
		t.Errorf("asked %d times, want twice", asked)
	}
}

func TestBaselineRefuses(t *testing.T) {
	for _, args := range [][]string{{"-clip", "missing.h264"}, {"-no-such-flag"}, {"-fps", "-1"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s within 30 s", what)
		}
	}
}
