// Command measure runs the same clip through plain pion, Janus, edged and a
// bare loop, in turns on the same machine, and prints what a forwarded packet
// costs each, then the project's targets and whether they hold. The server has one CPU, the viewers another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"edged/internal/lab/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	counts   []int
	rounds   int
	only     string
	keyframe time.Duration
	warm     time.Duration // of the first round
	figures  bool          // the other targets too
	glass    time.Duration // from capture to display, as measured in a browser; 0: not
	setup    setup
	plan     plan
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	counts := flags.String("n", "10,50,100,200", "viewers, separated by commas")
	flags.IntVar(&o.rounds, "rounds", 2, "rounds of each server and number of viewers, in turns")
	flags.DurationVar(&o.plan.steady, "steady", 6*time.Second, "measured time of a round")
	flags.DurationVar(&o.plan.settle, "settle", 2*time.Second, "time between the last join and the measurement")
	flags.DurationVar(&o.warm, "warm", 8*time.Second, "time before the first join in the first round, which tells memory: as long as the ring of a box takes to fill")
	flags.Float64Var(&o.plan.rate, "rate", 50, "joins a second")
	flags.DurationVar(&o.keyframe, "keyframe", 2*time.Second, "keyframe interval of the clip")
	flags.StringVar(&o.only, "only", "", "servers, separated by commas; empty: all")
	flags.BoolVar(&o.figures, "figures", true, "measure joins, memory and allocations besides, and print the table of targets")
	flags.DurationVar(&o.glass, "glass", 0, "capture to display in a browser, for the table of targets")
	flags.StringVar(&o.setup.bin, "bin", ".cache/bench", "folder of baseline, limit and viewers")
	flags.StringVar(&o.setup.edged, "edged", "bin/edged", "the program of the project")
	flags.StringVar(&o.setup.clip, "clip", "", "H.264 byte stream at 30 frames a second; empty: made by ffmpeg")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for f := range strings.SplitSeq(*counts, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 1000 {
			return o, fmt.Errorf("-n: %q is not in 1..1000", f)
		}
		o.counts = append(o.counts, n)
	}
	if o.rounds < 1 || o.plan.rate <= 0 || o.plan.steady <= 0 {
		return o, errors.New("-rounds, -rate and -steady must be positive")
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if name != "" && !slices.ContainsFunc(targets, func(t target) bool { return t.name == name }) {
			return o, fmt.Errorf("-only: no server %q", name)
		}
	}
	o.setup.server, o.setup.client = 0, 1
	if runtime.NumCPU() < 2 {
		o.setup.server, o.setup.client = -1, -1
	}
	return o, nil
}

func (o options) wants(t target) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), t.name)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.setup.clip == "" {
		if o.setup.clip, err = bench.Clip(ctx, o.setup.bin, o.keyframe); err != nil {
			return err
		}
	}
	if o.setup.clip, err = filepath.Abs(o.setup.clip); err != nil {
		return err
	}
	if o.setup.work, err = os.MkdirTemp("", "edged-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(o.setup.work)
	all, err := rounds(ctx, o, stderr)
	if err != nil {
		return err
	}
	if err := printTable(stdout, all, o.counts); err != nil || !o.figures {
		return err
	}
	f, err := figuresOf(ctx, &o, stderr)
	if err != nil {
		return err
	}
	return printGoals(stdout, all, f)
}

// rounds runs every target with every number of viewers, in turns. A target
// that is overloaded is not tried with more viewers, and its rows say so.
func rounds(ctx context.Context, o options, stderr io.Writer) ([]result, error) {
	var all []result
	full := map[string]int{} // viewers that overloaded a target
	for i := range o.rounds {
		for _, n := range o.counts {
			for _, t := range targets {
				if !o.wants(t) {
					continue
				}
				if most := full[t.name]; most > 0 && n > most {
					all = append(all, result{target: t.name, viewers: n, stopped: fmt.Sprintf("not tried: %d viewers were too many", most)})
					continue
				}
				p := o.plan
				p.viewers = n
				switch {
				case i > 0 || t.bare:
				case t.box:
					p.warm = o.warm
				default:
					p.warm = min(o.warm, 2*time.Second)
				}
				r, err := round(ctx, &o.setup, t, p)
				if ctx.Err() != nil {
					return nil, errors.New("interrupted")
				}
				if err != nil {
					r = result{target: t.name, viewers: n, stopped: err.Error()}
					fmt.Fprintf(stderr, "round %d/%d  %-9s %3d viewers: %v\n", i+1, o.rounds, t.name, n, err)
				} else {
					fmt.Fprintf(stderr, "round %d/%d  %-9s %3d viewers  %6.0f ns/packet  %6.0f packets/s  server %.2f, foreign %.2f CPU  lost %d\n",
						i+1, o.rounds, t.name, n, r.nsPacket, r.packets, r.cpu, r.foreign, r.lost)
				}
				if r.overloaded() && n > full[t.name] {
					full[t.name] = n
				}
				all = append(all, r)
			}
		}
	}
	if !slices.ContainsFunc(all, func(r result) bool { return r.stopped == "" }) {
		return nil, errors.New("no round succeeded")
	}
	return all, nil
}
