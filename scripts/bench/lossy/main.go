// Command lossy lets Chromium watch the test pattern over bad links, from
// edged with two layers, from edged with one and from plain pion with NACK
// alone, side by side, and prints what it saw: `make lab-lossy`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"edged/internal/lab/lossy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "lossy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("lossy", flag.ContinueOnError)
	edged := flags.String("edged", "bin/edged", "the program of the project")
	baseline := flags.String("baseline", ".cache/bench/baseline-live", "plain pion, built with the encoder; empty: without it")
	only := flags.String("only", "", "scenarios whose names have this in them, e.g. drop or 2 %")
	limit := flags.Duration("for", 0, "at most this for scenarios without a drop; 0: as long as they are")
	keep := flags.String("samples", "", "file for all that the browser told, as JSON")
	seed := flags.Uint64("seed", 1, "of what is lost")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var scenarios []lossy.Scenario
	for _, s := range lossy.Scenarios() {
		if strings.Contains(s.Name, *only) {
			if *limit > 0 && s.Drop == 0 {
				s.For = min(s.For, *limit)
			}
			scenarios = append(scenarios, s)
		}
	}
	if len(scenarios) == 0 {
		return fmt.Errorf("no scenario has %q in its name", *only)
	}
	dir, err := os.MkdirTemp("", "edged-lossy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []lossy.Result
	var failed error
	for i, s := range scenarios {
		fmt.Fprintf(stderr, "%s, %v\n", s.Name, s.For.Round(time.Second))
		results, err := play(ctx, s, *edged, *baseline, dir, *seed+uint64(i))
		all = append(all, results...)
		if ctx.Err() != nil {
			break // what there is, is printed
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	if *keep != "" {
		b, err := json.Marshal(all)
		if err == nil {
			err = os.WriteFile(*keep, b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(failed, lossy.PrintTable(stdout, all))
}

// play plays one scenario to boxes and viewers that have seen none before.
func play(ctx context.Context, s lossy.Scenario, edged, baseline, dir string, seed uint64) (all []lossy.Result, err error) {
	work, err := os.MkdirTemp(dir, "box")
	if err != nil {
		return nil, err
	}
	subjects, stop, err := lossy.StartSubjects(ctx, edged, baseline, work)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	l := lossy.New(subjects, seed)
	l.Shape(s.Steps[0].Shape) // from the start: a delay that begins later looks like a queue
	err = l.Run(ctx, func(ctx context.Context) (err error) {
		all, err = l.Play(ctx, s)
		return err
	})
	return all, err
}
