package rpicam

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/capture/capturetest"
)

// behaviour is the variable that makes this test's program the stand-in for
// rpicam-vid, and says what it does wrong.
const behaviour = "EDGED_TEST_RPICAM"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(behaviour); ok {
		os.Exit(standIn(how, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// install puts the stand-in where the source finds it.
func install(t *testing.T, how string) (programs []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rpicam-vid")
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", behaviour, how, self)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{filepath.Join(t.TempDir(), "not-there"), path}
}

// option finds the value of an option.
func option(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// standIn does what rpicam-vid does: it writes frames to its output as they
// become due, each in one go and the line with its time after it, and tells of
// trouble on standard error.
func standIn(how string, args []string) int {
	if err := play(how, args); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR: ***", err, "***")
		return 255
	}
	return 0
}

func play(how string, args []string) error {
	fmt.Fprintln(os.Stderr, "[0:00:01.000] [1] INFO Camera camera_manager.cpp:325 libcamera v0.3.0")
	fps, err := strconv.Atoi(option(args, "--framerate"))
	if err != nil || option(args, "--output") != "-" || option(args, "--timeout") != "0" || !slices.Contains(args, "--flush") || !slices.Contains(args, "--nopreview") {
		return fmt.Errorf("unexpected arguments: %q", args)
	}
	switch how {
	case "no-camera":
		return fmt.Errorf("no cameras available")
	case "busy":
		return fmt.Errorf("failed to acquire camera /base/soc/i2c0mux")
	case "silent":
		os.Exit(3)
	case "hangs":
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("sleep", "3600") // of its group
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "child", child.Process.Pid)
		select {}
	case "garbage":
		for {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte{0xa5}, 1<<16)); err != nil {
				return err
			}
		}
	case "bad-sps":
		_, err := os.Stdout.Write([]byte{0, 0, 0, 1, 0x67, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x65, 0x88, 0x80, 0, 0, 0, 1, 0x41, 0x9a, 0x80})
		time.Sleep(time.Hour)
		return err
	}
	frames, err := frames(args)
	if err != nil {
		return err
	}
	var times *os.File
	if path := option(args, "--save-pts"); path != "" && how != "no-times" {
		if times, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			return err
		}
		fmt.Fprintln(times, "# timecode format v2")
	}
	tick := time.NewTicker(time.Second / time.Duration(fps))
	for i := 0; ; i++ {
		if how == "dies" && i == 5 {
			return fmt.Errorf("Camera frontend has timed out!") //nolint:staticcheck // the program's own words
		}
		if how == "one-frame" && i == 1 { // and no more: its end shows by the line only
			time.Sleep(time.Hour)
		}
		if _, err := os.Stdout.Write(frames[i%len(frames)]); err != nil {
			return err
		}
		if times != nil {
			fmt.Fprintf(times, "%d.%03d\n", i*1000/fps, i*1000000/fps%1000)
		}
		<-tick.C
	}
}

// frames are those of a recording, or raw pictures whose luma counts.
func frames(args []string) ([][]byte, error) {
	if option(args, "--codec") == "yuv420" {
		w, _ := strconv.Atoi(option(args, "--width"))
		h, _ := strconv.Atoi(option(args, "--height"))
		if w%64 != 0 {
			return nil, fmt.Errorf("rows of %d bytes would be filled up", w)
		}
		var all [][]byte
		for i := range byte(8) {
			all = append(all, slices.Concat(bytes.Repeat([]byte{16 + 20*i}, w*h), bytes.Repeat([]byte{100}, w*h/4), bytes.Repeat([]byte{150}, w*h/4)))
		}
		return all, nil
	}
	if option(args, "--codec") != "h264" || !slices.Contains(args, "--inline") || option(args, "--intra") == "" || option(args, "--bitrate") == "" {
		return nil, fmt.Errorf("unexpected arguments: %q", args)
	}
	var all [][]byte
	for _, unit := range capturetest.Units(capturetest.Clip()) {
		all = append(all, join(unit))
	}
	return all, nil
}

func join(nalus [][]byte) []byte {
	var b []byte
	for _, n := range nalus {
		b = append(append(b, 0, 0, 0, 1), n...)
	}
	return b
}
