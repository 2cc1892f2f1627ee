// Command viewers is the audience of a benchmark: WHEP viewers with sockets
// of their own, in a process of their own, so that the server's CPU time is
// the server's alone. Each line on its standard input is answered with one
// bench.Snapshot as a line of JSON; the end of the input ends it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"edged/internal/lab/bench"

	"golang.org/x/sync/errgroup"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "viewers:", err)
		os.Exit(1)
	}
}

// audience is viewers, or sockets that stand for them.
type audience interface {
	Run(ctx context.Context) error
	Snapshot() bench.Snapshot
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("viewers", flag.ContinueOnError)
	n := flags.Int("n", 50, "viewers")
	rate := flags.Float64("rate", 20, "joins a second")
	url := flags.String("url", "", "WHEP endpoint")
	token := flags.String("token", "", "bearer token")
	step := flags.Uint("step", 3000, "RTP time between two frames")
	bare := flags.Bool("bare", false, "plain UDP sockets that only count; their addresses are the first line of output")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" && !*bare || *n < 1 || *rate <= 0 {
		return errors.New("-url or -bare, -n and -rate must be given")
	}
	var a audience = bench.NewAudience(*n, *rate, *url, *token, uint32(*step))
	if *bare {
		r, err := bench.ListenReceivers(*n)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, r.Addrs())
		a = r
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.Run(ctx) })
	group.Go(func() error {
		defer leave()
		out := json.NewEncoder(stdout)
		for in := bufio.NewScanner(stdin); in.Scan(); {
			if err := out.Encode(a.Snapshot()); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}
