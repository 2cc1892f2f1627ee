package main

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skip2/go-qrcode"
	"golang.org/x/sys/unix"

	"edged/internal/auth"
	"edged/internal/config"
	"edged/storage"
)

// check prints every fault of a file.
func check(args []string, stdout io.Writer) error {
	rest, err := parse("check", args, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return usagef("edged check: name one file; see edged help")
	}
	given, err := readConfig(rest[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: good: %d cameras\n", rest[0], len(given.cfg.Cameras))
	return err
}

// schema prints the configuration's JSON Schema.
func schema(args []string, stdout io.Writer) error {
	if len(args) > 0 {
		return usagef("edged schema: %q is not understood; see edged help", args[0])
	}
	_, err := stdout.Write(append(config.Schema(), '\n'))
	return err
}

// rights are what --may lists.
type rights []auth.Right

// String implements flag.Value.
func (r *rights) String() string { return fmt.Sprint(*r) }

// Set implements flag.Value.
func (r *rights) Set(s string) error {
	*r = nil
	for w := range strings.SplitSeq(s, ",") {
		right := auth.Right(strings.TrimSpace(w))
		if !slices.Contains([]auth.Right{auth.View, auth.Publish, auth.Metrics, auth.Admin}, right) {
			return fmt.Errorf("%q is not one of view, publish, metrics, admin", w)
		}
		*r = append(*r, right)
	}
	return nil
}

// token prints a token signed by the box's key. It reads the identity alone,
// so that it works while the box runs.
func token(args []string, stdout io.Writer) error {
	var o options
	may := rights{auth.View}
	var cameras, subject string
	var life time.Duration
	var once bool
	rest, err := parse("token", args, func(fs *flag.FlagSet) {
		o.define(fs)
		fs.Var(&may, "may", "")
		fs.StringVar(&cameras, "cameras", "*", "")
		fs.StringVar(&subject, "subject", "cli", "")
		fs.DurationVar(&life, "for", 12*time.Hour, "")
		fs.BoolVar(&once, "once", false, "")
	})
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return usagef("edged token: %q is not understood; see edged help", rest[0])
	case life <= 0:
		return usagef("edged token: --for: %v is not above 0", life)
	}
	if err := storage.CheckDir(o.data); err != nil {
		return err
	}
	identity, err := storage.OpenIdentity(o.data)
	if err != nil {
		return err
	}
	var id [12]byte
	_, _ = rand.Read(id[:])
	t, err := auth.Sign(identity.Key, auth.Claims{
		Subject: subject, Cameras: strings.Split(cameras, ","), May: may,
		Expires: time.Now().Add(life), ID: hex.EncodeToString(id[:]), Once: once,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, t)
	return err
}

// printQR prints a URL as a QR code where stdout is a terminal.
func printQR(stdout io.Writer, url string) {
	f, ok := stdout.(*os.File)
	if !ok {
		return
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return
	}
	if q, err := qrcode.New(url, qrcode.Low); err == nil {
		_, _ = io.WriteString(stdout, q.ToSmallString(false))
	}
}
