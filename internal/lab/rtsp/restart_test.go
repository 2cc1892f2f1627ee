package rtsp_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"edged/internal/lab/bench"
	rtsplab "edged/internal/lab/rtsp"
)

const (
	viewers = 3
	target  = 3 * time.Second // from the server's return to the viewers' next frame
)

// TestRestarts: a camera's server is killed and comes back, again and again.
// The viewers of a real box stay where they are and see it again within three
// seconds of its return; nothing is left behind. EDGED_TEST_RESTARTS says how
// often: 5 times unless set.
func TestRestarts(t *testing.T) {
	times := 5
	if s := os.Getenv("EDGED_TEST_RESTARTS"); s != "" {
		var err error
		if times, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "edged")
	if out, err := exec.Command("go", "build", "-o", program, "edged/cmd/edged").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, start := range map[string]func(testing.TB) *rtsplab.Server{
		"GStreamer": func(t testing.TB) *rtsplab.Server { return rtsplab.Start(t, rtsplab.Options{}) },
		"VLC":       rtsplab.StartVLC,
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			box, endpoint, err := bench.StartBox(t.Context(), -1, program, t.TempDir(), server.URL("test"), viewers)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := box.Stop(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					t.Log(box.Log())
				}
			}()
			all := bench.NewAudience(viewers, viewers, endpoint, "", 0)
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- all.Run(ctx) }()
			r := restarts{t: t, server: server, box: box, endpoint: endpoint, all: all}
			r.run(times)
			leave()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// restarts is one such experiment.
type restarts struct {
	t        *testing.T
	server   *rtsplab.Server
	box      *bench.Process
	endpoint string
	all      *bench.Audience
}

func (r restarts) run(times int) {
	r.t.Helper()
	r.frames("a picture", 25)
	first := r.inUse()
	var took []time.Duration
	for range times {
		r.server.Kill()
		r.offline()
		r.server.Restart()
		back := time.Now()
		r.frames("the picture again", 1)
		took = append(took, time.Since(back))
		r.frames("a picture that goes on", 25)
	}
	slices.Sort(took)
	r.t.Logf("%d restarts: all %d viewers have a frame again after p50 %v, at most %v (target %v): %v",
		times, viewers, took[times/2], took[times-1], target, took)
	if took[times/2] > target {
		r.t.Errorf("half of the time it takes longer than %v", target)
	}
	r.settled(first)
}

// frames waits until every viewer has so many more.
func (r restarts) frames(what string, n uint64) {
	r.t.Helper()
	before := r.all.Snapshot()
	r.until(what, func() (bool, string) {
		now := r.all.Snapshot()
		if len(now.Failures) > 0 {
			r.t.Fatalf("a viewer had to leave: %s", now.Failures[0])
		}
		ok := len(now.Viewers) == viewers
		text := ""
		for i, v := range now.Viewers {
			had := bench.Counts{}
			if i < len(before.Viewers) {
				had = before.Viewers[i]
			}
			ok = ok && v.Frames >= had.Frames+n
			text += fmt.Sprintf(" %d", v.Frames-had.Frames)
		}
		return ok, text
	})
}

// offline waits until the box has noticed.
func (r restarts) offline() {
	r.t.Helper()
	r.until("offline", func() (bool, string) {
		m, err := bench.Scrape(r.t.Context(), r.endpoint)
		if err != nil {
			r.t.Fatal(err)
		}
		return m[`edged_camera_up{camera="clip"}`] == 0, "up"
	})
}

type inUse struct{ goroutines, descriptors int }

// inUse is what the box holds.
func (r restarts) inUse() inUse {
	r.t.Helper()
	m, err := bench.Scrape(r.t.Context(), r.endpoint)
	if err != nil {
		r.t.Fatal(err)
	}
	return inUse{int(m["go_goroutines"]), int(m["process_open_fds"])}
}

// settled waits until the box holds no more than at first.
func (r restarts) settled(first inUse) {
	r.t.Helper()
	r.until("as small as at first", func() (bool, string) {
		now := r.inUse()
		return now.goroutines <= first.goroutines+2 && now.descriptors <= first.descriptors, fmt.Sprintf("%+v, at first %+v", now, first)
	})
	r.t.Logf("in use: %+v, at first %+v", r.inUse(), first)
}

func (r restarts) until(what string, done func() (bool, string)) {
	r.t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, text := done()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("not %s: %s", what, text)
		}
	}
}
