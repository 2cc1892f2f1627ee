// Package soak lets many viewers watch one camera of a real box for a while
// and tells whether any of them missed a frame and whether memory stayed
// flat.
package soak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edged/internal/lab/bench"

	"golang.org/x/sync/errgroup"
)

// Options of a soak.
type Options struct {
	Program string        // edged
	Clip    string        // H.264 byte stream at 30 frames a second
	Dir     string        // for the box's configuration and data
	Viewers int           //
	Rate    float64       // joins a second
	For     time.Duration // watched after the last viewer has a picture
}

// Report is how it went. Counts are of the watched time alone.
type Report struct {
	Viewers  []bench.Counts
	Least    uint64          // frames of the viewer who got fewest
	Expected uint64          // frames that the camera delivered in that time, less a second's for the edges
	Joined   []time.Duration //
	Profiles map[string]int  //
	RSS      []uint64        // bytes, once a second
	Live     []uint64        // bytes of live heap and stacks, once a second
	CPU      time.Duration   // of the box
	Took     time.Duration   //
}

// Missed is how many packets and frames the viewers did not get, all together.
func (r Report) Missed() uint64 {
	var t bench.Counts
	for _, c := range r.Viewers {
		t = t.Add(c)
	}
	return t.Lost + t.Broken + t.Skipped
}

// Growth is what the live heap, as garbage collections leave it, and the
// stacks grew between the second and the last quarter of the time, in bytes:
// medians. Resident memory tells less: garbage makes its teeth.
func (r Report) Growth() int64 {
	n := len(r.Live)
	if n < 8 {
		return 0
	}
	return int64(bench.Quantile(signed(r.Live[n*3/4:]), 0.5)) - int64(bench.Quantile(signed(r.Live[n/4:n/2]), 0.5))
}

func signed(v []uint64) (out []int64) {
	for _, x := range v {
		out = append(out, int64(x))
	}
	return out
}

// Check returns what is wrong, nil where nothing is: a frame missed, a viewer
// short of frames, or memory in use that grew by more than a tenth and 4 MiB: a ring takes seconds to fill.
func (r Report) Check() error {
	var faults []error
	for i, c := range r.Viewers {
		if c.Lost+c.Broken+c.Skipped > 0 {
			faults = append(faults, fmt.Errorf("viewer %d: %d packets lost, %d frames broken, %d skipped", i, c.Lost, c.Broken, c.Skipped))
		}
		if c.Frames < r.Expected {
			faults = append(faults, fmt.Errorf("viewer %d: %d frames of at least %d", i, c.Frames, r.Expected))
		}
	}
	if g := r.Growth(); g > 4<<20 && uint64(g) > r.Live[len(r.Live)/2]/10 {
		faults = append(faults, fmt.Errorf("memory grew by %d KiB", g>>10))
	}
	return errors.Join(faults...)
}

// Run does it. It returns an error where the soak could not take place; what
// it found is the report's to say.
func Run(ctx context.Context, o Options) (r Report, err error) {
	// The live heap is known after each collection, of which a minute has hardly
	// one: let there be more.
	box, endpoint, err := bench.StartBox(ctx, -1, o.Program, o.Dir, "file:"+o.Clip, o.Viewers, "GOGC=20")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, box.Stop()) }()
	audience := bench.NewAudience(o.Viewers, o.Rate, endpoint, "", 90000/bench.ClipFPS)
	watch, leave := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return audience.Run(watch) })
	defer func() { err = errors.Join(err, group.Wait()) }()
	defer leave()
	if err := gather(ctx, audience, o); err != nil {
		return r, err
	}
	before, began := audience.Snapshot(), time.Now()
	cpu, err := box.CPU()
	if err != nil {
		return r, err
	}
	if err := r.sample(ctx, box, endpoint, o.For); err != nil {
		return r, err
	}
	after, took := audience.Snapshot(), time.Since(began)
	used, err := box.CPU()
	if err != nil {
		return r, err
	}
	if len(after.Failures) > 0 {
		return r, fmt.Errorf("%d viewers failed: %s", len(after.Failures), after.Failures[0])
	}
	r.Took, r.CPU, r.Joined, r.Profiles = took, used-cpu, after.Joined, after.Profiles
	r.Expected = uint64(max(0, took.Seconds()-1) * bench.ClipFPS)
	r.Least = ^uint64(0)
	for i := range after.Viewers {
		c := after.Viewers[i].Sub(before.Viewers[i])
		r.Viewers = append(r.Viewers, c)
		r.Least = min(r.Least, c.Frames)
	}
	return r, nil
}

// gather waits until every viewer has a picture.
func gather(ctx context.Context, a *bench.Audience, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second+time.Duration(float64(o.Viewers)/o.Rate*float64(time.Second)))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := a.Snapshot()
		if len(s.Failures) > 0 {
			return fmt.Errorf("%d viewers failed: %s", len(s.Failures), s.Failures[0])
		}
		if len(s.Joined) == o.Viewers {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d viewers have a picture: %w", len(s.Joined), o.Viewers, ctx.Err())
		}
	}
}

// sample reads the box's memory once a second for a time.
func (r *Report) sample(ctx context.Context, box *bench.Process, endpoint string, d time.Duration) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		select {
		case <-tick.C:
			rss, err := box.RSS()
			if err != nil {
				return err
			}
			m, err := bench.Scrape(ctx, endpoint)
			if err != nil {
				return err
			}
			r.RSS, r.Live = append(r.RSS, rss), append(r.Live, uint64(m.Live()))
		case <-end.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
