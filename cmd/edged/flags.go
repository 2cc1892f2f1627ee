package main

import (
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// options are the flags that several commands share.
type options struct {
	config    string // file; empty: none
	data      string // directory
	http      string // listen address; empty: the configuration's
	logLevel  string // empty: the configuration's
	logFormat string // text or json
}

// parse reads flags; what follows them is returned.
func parse(name string, args []string, define func(*flag.FlagSet)) ([]string, error) {
	fs := flag.NewFlagSet("edged "+name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	define(fs)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(os.Stdout, help)
		return nil, errHelp
	case err != nil:
		return nil, usagef("edged %s: %v; see edged help", name, err)
	}
	return fs.Args(), nil
}

func (o *options) define(fs *flag.FlagSet) {
	fs.StringVar(&o.config, "config", os.Getenv("EDGED_CONFIG"), "")
	fs.StringVar(&o.data, "data", defaultData(), "")
}

func (o *options) defineRun(fs *flag.FlagSet) {
	o.define(fs)
	fs.StringVar(&o.http, "http", os.Getenv("EDGED_HTTP"), "")
	fs.StringVar(&o.logLevel, "log-level", "", "")
	fs.StringVar(&o.logFormat, "log-format", "text", "")
}

// defaultData is where the box keeps its state: what the environment or the
// service manager says, the system's place for root, the user's otherwise.
func defaultData() string {
	for _, v := range []string{"EDGED_DATA", "STATE_DIRECTORY"} {
		if dir := os.Getenv(v); dir != "" {
			return dir
		}
	}
	if os.Geteuid() == 0 {
		return "/var/lib/edged"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "edged")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "edged")
	}
	return "edged-data"
}

// logger makes the log; its level may be changed later through level.
func (o *options) logger(w io.Writer, level *slog.LevelVar) (*slog.Logger, error) {
	if o.logLevel != "" {
		var l slog.Level
		if err := l.UnmarshalText([]byte(o.logLevel)); err != nil {
			return nil, usagef("edged: --log-level: %q is not one of debug, info, warn, error", o.logLevel)
		}
		level.Set(l)
	}
	h := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, h)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, h)), nil
	}
	return nil, usagef("edged: --log-format: %q is not one of text, json", o.logFormat)
}
