// Command edged turns a small Linux box into a media gateway: cameras in,
// WebRTC viewers out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// gcPercent is how much garbage may gather, in percent of what is alive, where
// GOGC does not say. What a hundred viewers make of it, a megabyte a second, is
// collected every few seconds either way, and this takes a quarter off the
// memory that a viewer costs.
const gcPercent = 30

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(start())
}

// start runs the command line and returns the exit status: 0 stopped as
// asked, 1 failed while running, 2 bad usage or configuration.
func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	var bad *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return 0
	case errors.As(err, &bad):
		fmt.Fprint(os.Stderr, bad.text)
		return 2
	}
	fmt.Fprintln(os.Stderr, "edged:", err)
	return 1
}

// usageError is a mistake in the command line or the configuration; text is
// whole lines, for stderr.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, a ...any) error {
	return &usageError{fmt.Sprintf(format, a...) + "\n"}
}

var errHelp = errors.New("help was asked for")

const help = `edged: an edge media gateway: cameras in, WebRTC viewers out

  edged [run] [--config FILE] [--data DIR] [--http ADDR] [--log-level LEVEL] [--log-format text|json]
                            serve; with no configuration: a test pattern and every V4L2 camera
  edged check FILE          check a configuration; prints every fault
  edged token [--may view] [--cameras GLOB] [--for 12h] [--once] [--data DIR]
                            print a token signed by the box's key
  edged doctor [--json] [--config FILE] [--data DIR]
                            check what the box needs to work
  edged schema              print the configuration's JSON Schema
  edged version             print the version

Environment: EDGED_CONFIG, EDGED_DATA, EDGED_HTTP; a flag beats them, they beat the file.
`

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	switch command {
	case "run":
		return serve(ctx, args, stdout, stderr)
	case "check":
		return check(args, stdout)
	case "token":
		return token(args, stdout)
	case "doctor":
		return doctor(args, stdout)
	case "schema":
		return schema(args, stdout)
	case "version":
		_, err := fmt.Fprintln(stdout, "edged", version)
		return err
	case "help":
		_, err := io.WriteString(stdout, help)
		return err
	}
	return usagef("edged: no command %q; see edged help", command)
}
