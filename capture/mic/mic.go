// Package mic is a camera's sound where the pictures come without: a
// microphone that ALSA drives, the camera's own or another, encoded on the
// box as Opus.
//
// Its way: [pcm] reads what the kernel has, [clock] says when that was heard,
// [voice] brings it to 48 kHz, encodes it and cuts it into frames of 20 ms.
package mic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edged/capture"
)

const (
	retry     = time.Second // until a microphone that failed is looked for again
	maxSilent = 4           // waits without a sample, half a second each
)

// Microphone is one. It implements [capture.Microphone].
type Microphone struct {
	name  string // "auto", or hw:CARD,DEVICE
	video string // the node of the camera, or "auto"; empty where it has none
	open  func(name, video string) (device, string, error)
	log   *slog.Logger
}

var _ capture.Microphone = (*Microphone)(nil)

// device is an open microphone: see [pcm].
type device interface {
	is() mode
	read(buf []byte) (frames int, at time.Time, err error)
	restart() error
	close() error
}

func (p *pcm) is() mode { return p.mode }

// New makes the microphone of a camera whose configuration has sound on and
// names one. It opens nothing.
func New(cfg capture.Config, log *slog.Logger) (*Microphone, error) {
	name := cmp.Or(cfg.Audio.Device, capture.MicrophoneAuto)
	if _, _, err := capture.ParseMicrophone(name); err != nil {
		return nil, fmt.Errorf("microphone: %w", err)
	}
	video, named := strings.CutPrefix(cfg.Source, "v4l2:")
	if !named {
		video = ""
	}
	return &Microphone{name: name, video: video, open: openDevice, log: log}, nil
}

// openDevice finds and opens a microphone, and says which it took.
func openDevice(name, video string) (device, string, error) {
	node, err := kernel.find(name, video)
	if err != nil {
		return nil, "", err
	}
	p, err := openPCM(node)
	if err != nil {
		return nil, node, fmt.Errorf("%s: %w", node, err)
	}
	return p, node, nil
}

// Run listens until ctx is done; it ends within half a second. A microphone
// that cannot be opened, fails or goes away is said to the sink and looked for
// again: pictures need no sound.
func (m *Microphone) Run(ctx context.Context, sink capture.SoundSink) {
	sink.Describe([]capture.Track{Track}) // at once, so that nobody joins without
	v := voice{}
	for ctx.Err() == nil {
		err := m.listen(ctx, &v, sink)
		if ctx.Err() != nil {
			return
		}
		var coded *capture.Error
		if !errors.As(err, &coded) {
			err = capture.Errorf(codeOf(err), "%w", err)
		}
		sink.SoundFailed(fmt.Errorf("microphone %s: %w", m.name, err))
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// listen reads one device until it fails or ctx is done.
func (m *Microphone) listen(ctx context.Context, v *voice, sink capture.SoundSink) error {
	dev, node, err := m.open(m.name, m.video)
	if err != nil {
		return err
	}
	defer func() {
		if err := dev.close(); err != nil {
			m.log.Warn("microphone", "device", node, "err", err)
		}
	}()
	is := dev.is()
	if err := v.begin(is); err != nil {
		return err
	}
	m.log.Info("microphone", "device", node, "mode", is.String())
	buf := make([]byte, is.rate/50*is.frameBytes())
	overruns, silent := 0, 0
	for ctx.Err() == nil {
		n, at, err := dev.read(buf)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ESTRPIPE):
			if err := dev.restart(); err != nil {
				return err
			}
			if overruns++; overruns&(overruns-1) == 0 { // the 1st, 2nd, 4th …
				m.log.Warn("microphone overrun: the box was too late to read", "device", node, "overruns", overruns)
			}
			v.lost = true
		case err != nil:
			return err
		case n == 0:
			if silent++; silent >= maxSilent {
				return capture.Errorf(capture.CodeStalled, "no samples come")
			}
		default:
			silent = 0
			if err := v.add(buf[:n*is.frameBytes()], at, sink); err != nil {
				return err
			}
		}
	}
	return nil
}
