package main

import (
	"context"
	"os"
	"path/filepath"

	"edged/internal/lab/bench"
)

// target is a program that forwards the clip.
type target struct {
	name string
	note string // what it is, for the table's legend
	bare bool   // sends to plain sockets, without signalling
	box  bool   // tells of itself at /metrics
	// start runs the program on a CPU and returns it with its endpoint.
	// to is where a bare sender sends.
	start func(ctx context.Context, s *setup, n int, to string) (*bench.Process, string, error)
}

// metrics are what the target tells of itself, nil where it does not.
func (t target) metrics(ctx context.Context, endpoint string) (bench.Metrics, error) {
	if !t.box {
		return nil, nil
	}
	return bench.Scrape(ctx, endpoint)
}

// setup is where things are.
type setup struct {
	bin    string // folder of baseline, limit and viewers
	edged  string // the program of the project
	clip   string
	work   string // for configuration files
	server int    // CPU of the server; -1: any
	client int    // CPU of the viewers; -1: any
}

var targets = []target{
	{name: "limit", note: "header copy, AES-128-GCM, one segmented send a viewer and frame; no signalling, no state", bare: true,
		start: func(_ context.Context, s *setup, _ int, to string) (*bench.Process, string, error) {
			p, err := bench.Start(s.server, filepath.Join(s.bin, "limit"), "-clip", s.clip, "-to", to)
			return p, "", err
		}},
	{name: "pion", note: "plain pion, one PeerConnection a viewer, default interceptors",
		start: func(ctx context.Context, s *setup, _ int, _ string) (*bench.Process, string, error) {
			return baseline(ctx, s, "-interceptors")
		}},
	{name: "pion-bare", note: "plain pion, one shared track, no interceptors: no retransmission, no reports",
		start: func(ctx context.Context, s *setup, _ int, _ string) (*bench.Process, string, error) {
			return baseline(ctx, s)
		}},
	{name: "janus", note: "Janus from Debian's package, streaming plugin fed with the clip by RTP",
		start: func(ctx context.Context, s *setup, _ int, _ string) (*bench.Process, string, error) {
			dir, err := os.MkdirTemp(s.work, "janus")
			if err != nil {
				return nil, "", err
			}
			return bench.StartJanus(ctx, s.server, dir, s.clip)
		}},
	{name: "edged", note: "bin/edged with retransmission, reports and statistics on", box: true, start: box},
}

func baseline(ctx context.Context, s *setup, args ...string) (*bench.Process, string, error) {
	p, err := bench.Start(s.server, filepath.Join(s.bin, "baseline"), append(args, "-clip", s.clip)...)
	if err != nil {
		return nil, "", err
	}
	return bench.Located(ctx, p)
}

func box(ctx context.Context, s *setup, n int, _ string) (*bench.Process, string, error) {
	dir, err := os.MkdirTemp(s.work, "box")
	if err != nil {
		return nil, "", err
	}
	return bench.StartBox(ctx, s.server, s.edged, dir, "file:"+s.clip, n)
}
