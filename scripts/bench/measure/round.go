package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edged/internal/lab/bench"

	"golang.org/x/sys/unix"
)

// plan is what a round is told.
type plan struct {
	viewers int
	rate    float64       // joins a second
	settle  time.Duration // after the last join
	steady  time.Duration // measured
	warm    time.Duration // before the first join, so that histories are full and memory is the viewers'; 0: memory is not told
}

// result is one round of one target.
type result struct {
	target   string
	viewers  int
	nsPacket float64 // CPU time of the server per packet that arrived
	packets  float64 // a second
	cpu      float64 // of the server, in CPUs
	foreign  float64 // of everybody else, in CPUs
	memory   float64 // bytes a viewer; 0: not told
	lost     uint64  // packets and frames, over all viewers
	joined   []time.Duration
	profiles map[string]int
	live     float64 // bytes of heap and stacks a viewer; 0: not told
	delay    float64 // s, p99 from a frame's arrival to a viewer's socket; NaN: not told
	stopped  string  // why there is no figure; empty: there is
}

// fullCPU is the share of its one CPU from which a server counts as overloaded.
const fullCPU = 0.95

// overloaded tells whether more viewers are not worth a try.
func (r result) overloaded() bool { return r.stopped != "" || r.cpu >= fullCPU }

// frameDelay is the box's histogram of it.
const frameDelay = "edged_forward_frame_delay_seconds"

// reading is everything at one moment.
type reading struct {
	server, viewers, self, machine time.Duration
	snapshot                       bench.Snapshot
}

// crowd is the viewers' process.
type crowd struct{ *bench.Process }

// snapshot asks for one.
func (c crowd) snapshot(ctx context.Context) (s bench.Snapshot, err error) {
	if _, err := c.Stdin.Write([]byte("\n")); err != nil {
		return s, err
	}
	line, err := c.Line(ctx, func(line string) bool { return strings.HasPrefix(line, "{") })
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(line), &s)
}

// round starts a target and its viewers, measures, and ends both.
func round(ctx context.Context, s *setup, t target, p plan) (r result, err error) {
	r = result{target: t.name, viewers: p.viewers}
	var to string
	var c crowd
	if t.bare {
		if c.Process, to, err = receivers(ctx, s, p.viewers); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, c.Stop()) }()
	}
	server, endpoint, err := t.start(ctx, s, p.viewers, to)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := pause(ctx, p.warm); err != nil {
		return r, err
	}
	alone, err := server.RSS()
	if err != nil {
		return r, err
	}
	empty, err := t.metrics(ctx, endpoint)
	if err != nil {
		return r, err
	}
	if !t.bare {
		if c, err = viewers(s, endpoint, p.viewers, p.rate); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, c.Stop()) }()
	}
	if err := allJoined(ctx, c, p); err != nil {
		return r, err
	}
	if err := pause(ctx, p.settle); err != nil {
		return r, err
	}
	early, err := t.metrics(ctx, endpoint)
	if err != nil {
		return r, err
	}
	before, err := read(ctx, server, c)
	if err != nil {
		return r, err
	}
	if err := pause(ctx, p.steady); err != nil {
		return r, err
	}
	after, err := read(ctx, server, c)
	if err != nil {
		return r, err
	}
	late, err := t.metrics(ctx, endpoint)
	if err != nil {
		return r, err
	}
	full, err := server.RSS()
	if err != nil {
		return r, err
	}
	if p.warm > 0 {
		r.memory = (float64(full) - float64(alone)) / float64(p.viewers)
		r.live = (late.Live() - empty.Live()) / float64(p.viewers)
	}
	r.delay = bench.HistogramQuantile(early, late, frameDelay, 0.99)
	return r, r.compare(before, after)
}

// viewers starts n viewers of an endpoint, who join at a rate a second.
func viewers(s *setup, endpoint string, n int, rate float64) (crowd, error) {
	p, err := bench.Start(s.client, filepath.Join(s.bin, "viewers"), "-url", endpoint, "-n", strconv.Itoa(n), "-rate", fmt.Sprint(rate))
	return crowd{p}, err
}

// receivers starts plain sockets and returns their addresses for a sender.
func receivers(ctx context.Context, s *setup, n int) (*bench.Process, string, error) {
	p, err := bench.Start(s.client, filepath.Join(s.bin, "viewers"), "-bare", "-n", strconv.Itoa(n))
	if err != nil {
		return nil, "", err
	}
	line, err := p.Line(ctx, func(line string) bool { return strings.HasPrefix(line, "[") })
	if err != nil {
		return nil, "", errors.Join(err, p.Stop())
	}
	return p, strings.ReplaceAll(strings.Trim(line, "[]"), " ", ","), nil
}

// allJoined waits until every viewer has a decodable keyframe.
func allJoined(ctx context.Context, c crowd, p plan) error {
	patience := 20*time.Second + time.Duration(float64(p.viewers)/p.rate*float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	joined := 0
	for {
		s, err := c.snapshot(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d viewers have a picture after %v", joined, p.viewers, patience)
		}
		if err != nil {
			return err
		}
		joined = len(s.Joined)
		if len(s.Failures) > 0 {
			return fmt.Errorf("%d viewers failed: %s", len(s.Failures), s.Failures[0])
		}
		if len(s.Joined) == p.viewers {
			return nil
		}
		_ = pause(ctx, 100*time.Millisecond) // at its end, the next look says so
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func read(ctx context.Context, server *bench.Process, c crowd) (r reading, err error) {
	if r.server, err = server.CPU(); err != nil {
		return r, err
	}
	if r.snapshot, err = c.snapshot(ctx); err != nil {
		return r, err
	}
	if r.viewers, err = c.CPU(); err != nil {
		return r, err
	}
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own); err != nil {
		return r, os.NewSyscallError("clock_gettime", err)
	}
	r.self = time.Duration(own.Nano())
	r.machine, err = bench.Machine()
	return r, err
}

// compare fills in what two readings say.
func (r *result) compare(a, b reading) error {
	got := b.snapshot.Total().Sub(a.snapshot.Total())
	took := b.snapshot.Time.Sub(a.snapshot.Time)
	if got.Packets == 0 || took <= 0 {
		return errors.New("no packet arrived while measuring")
	}
	server := b.server - a.server
	r.nsPacket = float64(server.Nanoseconds()) / float64(got.Packets)
	r.packets = float64(got.Packets) / took.Seconds()
	r.cpu = server.Seconds() / took.Seconds()
	others := (b.machine - a.machine) - server - (b.viewers - a.viewers) - (b.self - a.self)
	r.foreign = max(0, others.Seconds()/took.Seconds())
	r.lost = got.Lost + got.Broken + got.Skipped
	r.joined = b.snapshot.Joined
	r.profiles = b.snapshot.Profiles
	return nil
}
