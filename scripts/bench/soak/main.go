// Command soak lets 200 viewers watch one camera of bin/edged for ten minutes,
// prints what they got, and fails if one of them missed a frame, the memory that
// the box uses grew, or its race detector, where it was built with one, found
// a race: `make lab-soak`, `make lab-soak-race`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"edged/internal/lab/bench"
	"edged/internal/lab/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	o := soak.Options{}
	flags.IntVar(&o.Viewers, "n", 200, "viewers")
	flags.Float64Var(&o.Rate, "rate", 20, "joins a second")
	flags.DurationVar(&o.For, "for", 10*time.Minute, "watched time")
	flags.StringVar(&o.Program, "edged", "bin/edged", "the program of the project")
	cache := flags.String("cache", ".cache/bench", "folder for the clip")
	if err := flags.Parse(args); err != nil {
		return err
	}
	clip, err := bench.Clip(ctx, *cache, 2*time.Second)
	if err != nil {
		return err
	}
	if o.Clip, err = filepath.Abs(clip); err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "edged-soak"); err != nil {
		return err
	}
	defer os.RemoveAll(o.Dir)
	r, err := soak.Run(ctx, o)
	if err != nil {
		return err
	}
	report(stdout, o, r)
	return r.Check()
}

func report(w io.Writer, o soak.Options, r soak.Report) {
	var total bench.Counts
	for _, c := range r.Viewers {
		total = total.Add(c)
	}
	fmt.Fprintf(w, "%d viewers, %.0f s, 720p30\n", o.Viewers, r.Took.Seconds())
	fmt.Fprintf(w, "  frames        %d in all, at least %d a viewer\n", total.Frames, r.Least)
	fmt.Fprintf(w, "  missed        %d packets lost, %d frames broken, %d skipped\n", total.Lost, total.Broken, total.Skipped)
	fmt.Fprintf(w, "  join          p50 %v, p95 %v\n", bench.Quantile(r.Joined, 0.5).Round(time.Millisecond), bench.Quantile(r.Joined, 0.95).Round(time.Millisecond))
	fmt.Fprintf(w, "  SRTP          %v\n", slices.Sorted(maps.Keys(r.Profiles)))
	fmt.Fprintf(w, "  memory        live heap and stacks %d KiB at the start, %d KiB at the end, growth of the medians %+d KiB\n", first(r.Live)>>10, last(r.Live)>>10, r.Growth()>>10)
	fmt.Fprintf(w, "                resident %d KiB, then %d KiB\n", first(r.RSS)>>10, last(r.RSS)>>10)
	if total.Packets > 0 {
		fmt.Fprintf(w, "  CPU           %.0f ns a packet (see `make bench` for a measurement on a CPU of its own)\n", float64(r.CPU.Nanoseconds())/float64(total.Packets))
	}
}

func first(v []uint64) uint64 {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

func last(v []uint64) uint64 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)-1]
}
