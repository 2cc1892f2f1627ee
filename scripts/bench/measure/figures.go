package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"edged/internal/lab/bench"
)

// figures are what is measured of edged besides the cost of a packet. NaN is
// what could not be measured.
type figures struct {
	join        float64 // ms, p95 to a decodable keyframe, keyframes 10 s apart
	joinCPU     float64 // ms of CPU a join
	disturbed   float64 // packets and frames that running viewers missed while others joined
	stormDelay  float64 // s, p99 from a frame's arrival to a viewer's socket in that time
	idle        float64 // bytes resident without a camera
	camera      float64 // … with one, and no viewer
	allocations float64 // a frame
	glass       float64 // ms, p50
}

func figuresOf(ctx context.Context, o *options, stderr io.Writer) (figures, error) {
	nan := math.NaN()
	f := figures{nan, nan, nan, nan, nan, nan, nan, nan}
	if o.glass > 0 {
		f.glass = float64(o.glass) / 1e6
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context, *setup, *figures) error
	}{
		{"joins between keyframes", lateJoins},
		{"CPU of joins", joinCost},
		{"joins in a storm", storm},
		{"resident memory", resident},
		{"allocations", allocations},
	} {
		if err := part.measure(ctx, &o.setup, &f); err != nil {
			if ctx.Err() != nil {
				return f, errors.New("interrupted")
			}
			fmt.Fprintf(stderr, "%s: %v\n", part.name, err)
		}
	}
	return f, nil
}

// The joins that are measured.
const (
	lateViewers  = 30
	lateRate     = 3 // a second: between two keyframes come many
	running      = 20
	stormViewers = 100
	stormRate    = 50 // a second
)

// lateJoins measures joins of a camera whose keyframes are ten seconds apart
// and cannot be asked for.
func lateJoins(ctx context.Context, s *setup, f *figures) (err error) {
	clip, err := bench.Clip(ctx, s.bin, 10*time.Second)
	if err != nil {
		return err
	}
	if clip, err = filepath.Abs(clip); err != nil {
		return err
	}
	late := *s
	late.clip = clip
	server, endpoint, err := box(ctx, &late, lateViewers, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	c, err := viewers(s, endpoint, lateViewers, lateRate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err := allJoined(ctx, c, plan{viewers: lateViewers, rate: lateRate}); err != nil {
		return err
	}
	now, err := c.snapshot(ctx)
	if err != nil {
		return err
	}
	f.join = float64(bench.Quantile(now.Joined, 0.95)) / 1e6
	return nil
}

// joinCost measures the CPU time of a join at a camera so small that its
// packets cost next to nothing: what is left is ICE, DTLS and signalling.
func joinCost(ctx context.Context, s *setup, f *figures) (err error) {
	dir, err := os.MkdirTemp(s.work, "box")
	if err != nil {
		return err
	}
	server, endpoint, err := bench.StartWatched(ctx, s.server, s.edged, dir, bench.SmallConfig(stormViewers))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	idle, err := server.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	before, err := server.CPU()
	if err != nil {
		return err
	}
	joining := time.Now()
	c, err := viewers(s, endpoint, stormViewers, stormRate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err := allJoined(ctx, c, plan{viewers: stormViewers, rate: stormRate}); err != nil {
		return err
	}
	after, err := server.CPU()
	if err != nil {
		return err
	}
	alone := float64(before-idle) / float64(joining.Sub(began)) * float64(time.Since(joining))
	f.joinCPU = (float64(after-before) - alone) / stormViewers / 1e6
	return nil
}

// storm lets many viewers join while some watch: what do those feel of it?
func storm(ctx context.Context, s *setup, f *figures) (err error) {
	server, endpoint, err := box(ctx, s, running+stormViewers, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	old, err := viewers(s, endpoint, running, stormRate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Stop()) }()
	if err := allJoined(ctx, old, plan{viewers: running, rate: stormRate}); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	early, err := bench.Scrape(ctx, endpoint)
	if err != nil {
		return err
	}
	before, err := old.snapshot(ctx)
	if err != nil {
		return err
	}
	young, err := viewers(s, endpoint, stormViewers, stormRate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, young.Stop()) }()
	if err := allJoined(ctx, young, plan{viewers: stormViewers, rate: stormRate}); err != nil {
		return err
	}
	after, err := old.snapshot(ctx)
	if err != nil {
		return err
	}
	late, err := bench.Scrape(ctx, endpoint)
	if err != nil {
		return err
	}
	missed := after.Total().Sub(before.Total())
	f.disturbed = float64(missed.Lost + missed.Broken + missed.Skipped)
	f.stormDelay = bench.HistogramQuantile(early, late, frameDelay, 0.99)
	return nil
}

// resident measures a box that does nothing, and one whose camera nobody
// watches.
func resident(ctx context.Context, s *setup, f *figures) error {
	for _, b := range []struct {
		config string
		into   *float64
	}{
		{bench.IdleConfig(), &f.idle},
		{bench.BoxConfig("file:"+s.clip, 1), &f.camera},
	} {
		rss, err := residentOf(ctx, s, b.config)
		if err != nil {
			return err
		}
		*b.into = rss
	}
	return nil
}

func residentOf(ctx context.Context, s *setup, config string) (rss float64, err error) {
	dir, err := os.MkdirTemp(s.work, "box")
	if err != nil {
		return 0, err
	}
	p, _, err := bench.StartConfigured(ctx, s.server, s.edged, dir, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := pause(ctx, 10*time.Second); err != nil { // the ring of a camera fills in less
		return 0, err
	}
	n, err := p.RSS()
	return float64(n), err
}

var allocs = regexp.MustCompile(`(?m)^BenchmarkEgress/GSO(?:-\d+)?\s.*\s(\d+) allocs/op$`)

// allocations asks the benchmark of the way from the ring to the socket,
// whose operation is a frame of nine packets.
func allocations(ctx context.Context, _ *setup, f *figures) error {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkEgress$", "-benchtime", "20000x", "-benchmem", "./forward").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test: %w: %s", err, out)
	}
	m := allocs.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("go test told no allocations: %s", out)
	}
	f.allocations, err = strconv.ParseFloat(string(m[1]), 64)
	return err
}
