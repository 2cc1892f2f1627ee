package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"edged/capture/capturetest"
)

// ClipFPS is the frame rate of Clip.
const ClipFPS = 30

// Clip makes, once, the recording that benchmarks play: twenty seconds of
// H.264 Constrained Baseline, 1280x720 at 30 frames and about 2.5 Mbit/s a
// second, a keyframe at the given interval. It is kept in dir, which must not
// be under version control. ffmpeg with libx264 must be installed.
func Clip(ctx context.Context, dir string, keyframe time.Duration) (path string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	group := max(1, int(keyframe.Seconds()*ClipFPS))
	path = filepath.Join(dir, fmt.Sprintf("clip-720p30-g%d.h264", group))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.CreateTemp(dir, "clip-*.new") // a name of its own: tests of several packages may make it at once
	if err != nil {
		return "", fmt.Errorf("clip: %w", err)
	}
	aside := f.Name()
	defer os.Remove(aside)
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("clip: %w", err)
	}
	args := fmt.Sprintf("-loglevel error -y -f lavfi -i testsrc2=size=1280x720:rate=%d -t 20 -pix_fmt yuv420p"+
		" -c:v libx264 -preset medium -profile:v baseline -b:v 2500k -maxrate 2500k -bufsize 1250k -g %d -keyint_min %d -sc_threshold 0"+
		" -bsf:v h264_mp4toannexb -f h264 %s", ClipFPS, group, group, aside)
	if out, err := exec.CommandContext(ctx, "ffmpeg", strings.Fields(args)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("clip: ffmpeg: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, os.Rename(aside, path)
}

// Play is a camera that plays a recording, an H.264 byte stream, at fps frames
// a second; of no name: a small built-in one.
func Play(file string, fps float64) (*capturetest.Source, error) {
	var stream []byte
	if file != "" {
		var err error
		if stream, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return capturetest.New(capturetest.Options{Stream: stream, FPS: fps})
}
