// Package file is the source of recordings: a file that plays over and over,
// in real time.
//
// It reads byte streams of H.264 and H.265 (annex B of either), MP4 with a
// track of H.264, H.265, VP8, VP9 or AV1 and one of Opus (ISO/IEC 14496-12 and
// -15, fragmented or not) and IVF with VP8, VP9 or AV1. What a file is, is told
// by its content. Edit lists say where a track begins. Samples are read from disk one at a
// time; memory holds one sample and, for MP4, an index of 24 bytes a sample.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"edged/capture"
)

const (
	clockRate  = 90000   // Hz, of all times in this package unless said otherwise
	maxSample  = 4 << 20 // bytes
	maxGap     = 60 * clockRate
	maxLate    = time.Second // behind real time, before the clock is set anew
	singleStep = 3000        // the duration of a sample that has no neighbour
)

// Source is one file. It implements [capture.Source].
type Source struct {
	path string
	fps  float64 // where the file does not say
	loud bool    // with sound
	log  *slog.Logger
}

// New checks the path. It opens nothing.
func New(cfg capture.Config, log *slog.Logger) (*Source, error) {
	path, ok := strings.CutPrefix(cfg.Source, "file:")
	if !ok {
		return nil, fmt.Errorf("source: %q is not file:PATH", cfg.Source)
	}
	if strings.HasPrefix(path, "//") {
		u, err := url.Parse(cfg.Source)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("source: file on another host, %q", u.Host)
		}
		path = u.Path
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, errors.New("source: file: without a path")
	}
	return &Source{path: path, fps: float64(cfg.Video.FPS), loud: cfg.Audio.Enabled, log: log}, nil
}

// Keyframe does nothing: a recording has its keyframes where they are.
func (*Source) Keyframe(int) {}

// Run plays the file in real time, again from the start when it ends, with
// RTP times that go on, until ctx is done (nil) or the file cannot be read.
// The error names the file and wraps a [*capture.Error]: [capture.CodeMedia]
// with the place of the fault, [capture.CodeNotFound] also where it goes away
// while it is played, [capture.CodeUnplugged] where it changes then,
// [capture.CodeDenied], or [capture.CodeCodec].
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	err := s.run(ctx, sink)
	if ctx.Err() != nil {
		return nil
	}
	return capture.Errorf(capture.CodeOf(err), "file %s: %w", s.path, err)
}

func (s *Source) run(ctx context.Context, sink capture.Sink) error {
	f, size, err := open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := newReader(f, size, s.fps)
	if err != nil {
		return err
	}
	p, err := newPlayer(r, sink)
	if err != nil {
		return err
	}
	if s.loud {
		if p.sound, err = newSound(f, size, r); err != nil {
			noSound, _ := sink.(capture.SoundSink)
			if noSound != nil {
				noSound.SoundFailed(err)
			}
		}
	}
	was, err := f.Stat()
	if err != nil {
		return fault(err)
	}
	p.still = func() error { return still(s.path, was) }
	err = p.run(ctx)
	if changed := p.still(); changed != nil && ctx.Err() == nil {
		err = changed // it explains whatever else is wrong
	}
	return err
}

// still says whether the path is the file that was opened, as it was then.
func still(path string, was os.FileInfo) error {
	is, err := os.Stat(path)
	if err != nil {
		return fault(err)
	}
	if !os.SameFile(is, was) || is.Size() != was.Size() || !is.ModTime().Equal(was.ModTime()) {
		return capture.Errorf(capture.CodeUnplugged, "it changed while it was played, and is read anew")
	}
	return nil
}

// open refuses what is no plain file: opening a pipe would block.
func open(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, 0, capture.Errorf(capture.CodeMedia, "not a plain file")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err == nil {
		return f, info.Size(), nil
	}
	return nil, 0, fault(err)
}

// fault is why the system does not give a file.
func fault(err error) error {
	var reason syscall.Errno // without the path, which Run names
	if !errors.As(err, &reason) {
		return capture.Errorf(capture.CodeMedia, "%w", err)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), reason == syscall.ENOTDIR:
		return capture.Errorf(capture.CodeNotFound, "%w", reason)
	case errors.Is(err, fs.ErrPermission):
		return capture.Errorf(capture.CodeDenied, "%w", reason)
	}
	return capture.Errorf(capture.CodeMedia, "%w", reason)
}

// sample is one access unit. Its memory is valid until the next is read.
type sample struct {
	at   int64    // since the start of the file; rises from sample to sample
	unit [][]byte // as [capture.Bitstream] takes it
}

// reader reads the samples of a file in order.
type reader interface {
	// next gives the next sample, or io.EOF after the last. Errors have a
	// code and name the place.
	next() (sample, error)
	// rewind goes back to the first sample.
	rewind() error
	codec() capture.Codec
	// header is what the file says of its stream before the first sample:
	// parameter sets, a sequence header, or nothing.
	header() [][]byte
}

// newReader tells what the file is.
func newReader(f io.ReaderAt, size int64, fps float64) (reader, error) {
	head := make([]byte, min(size, 12))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, broken(0, "%w", err)
	}
	switch {
	case len(head) == 12 && (string(head[4:8]) == "ftyp" || string(head[4:8]) == "moov" || string(head[4:8]) == "styp"):
		return newMP4(f, size)
	case len(head) >= 4 && string(head[:4]) == "DKIF":
		return newIVF(f, size)
	case len(head) >= 4 && head[0] == 0 && head[1] == 0 && (head[2] == 1 || head[2] == 0 && head[3] == 1):
		return newAnnexB(f, size, fps, syntaxOf(head))
	}
	return nil, broken(0, "neither MP4 nor IVF nor a byte stream of H.264 or H.265")
}

// broken is a fault of the file at a place.
func broken(at int64, format string, a ...any) error {
	return capture.Errorf(capture.CodeMedia, "at byte %d: %w", at, fmt.Errorf(format, a...))
}

// readAt reads n bytes, all of them, into buf, which it grows.
func readAt(f io.ReaderAt, buf []byte, at int64, n int) ([]byte, error) {
	if cap(buf) < n {
		buf = make([]byte, n+n/2)
	}
	buf = buf[:n]
	if got, err := f.ReadAt(buf, at); got < n {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the file ends %d bytes too early", n-got)
		}
		return buf, broken(at, "%w", err)
	}
	return buf, nil
}
