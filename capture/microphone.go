package capture

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// MicrophoneAuto names the microphone that is part of the camera.
const MicrophoneAuto = "auto"

var microphoneName = regexp.MustCompile(`^hw:([0-9]{1,2}|[A-Za-z][A-Za-z0-9_]{0,15}),([0-9]{1,2})$`)

// ParseMicrophone reads the name of a microphone: [MicrophoneAuto], of which
// card and device are empty, or "hw:CARD,DEVICE" with the number or the id of
// a sound card and the number of its device.
func ParseMicrophone(name string) (card, device string, err error) {
	parts := microphoneName.FindStringSubmatch(name)
	switch {
	case name == MicrophoneAuto:
		return "", "", nil
	case parts == nil:
		return "", "", fmt.Errorf("%q is neither auto nor hw:CARD,DEVICE, as hw:1,0 or hw:Webcam,0", name)
	}
	number := strings.TrimLeft(parts[2], "0")
	if number == "" {
		number = "0"
	}
	return parts[1], number, nil
}

// Microphone is the sound of a camera whose source has none.
type Microphone interface {
	// Run describes one track of sound and delivers it until ctx is done; then
	// it returns, when all that it started has ended. Trouble it tells the
	// sink, and goes on trying: it never ends by itself. It is called again
	// when the source runs again, never twice at once.
	Run(ctx context.Context, sink SoundSink)
}

// runWith runs a source, and a microphone beside it where there is one: what
// the microphone does never ends the pictures.
func runWith(ctx context.Context, src Source, mic Microphone, sink Sink) error {
	if mic == nil {
		return src.Run(ctx, sink)
	}
	mux := NewMux(sink)
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { runMicrophone(ctx, mic, mux.Sound()) })
	defer beside.Wait()
	defer cancel()
	return src.Run(ctx, mux.Pictures())
}

// runMicrophone turns a panic into silence, with its place.
func runMicrophone(ctx context.Context, mic Microphone, sink SoundSink) {
	defer func() {
		if v := recover(); v != nil {
			sink.SoundFailed(Errorf(CodeProtocol, "microphone: panic at %s: %v", panicPlace(), v))
		}
	}()
	mic.Run(ctx, sink)
}
