package pattern

import (
	"context"
	"math"
	"time"

	"github.com/thesyncim/gopus"

	"edged/capture"
)

// The sound is a beep at the start of each second, in step with a flash in
// the picture. A second is encoded once and said again and again.
const (
	soundRate    = 48000 // Hz
	soundBitrate = 32000 // bits/s
	soundStep    = 20 * time.Millisecond
	soundFrame   = soundRate / 50 // samples
	beepLength   = 100 * time.Millisecond
	beepTone     = 1000 // Hz: whole periods fill a beep
	beepLevel    = 0.25 // of full scale
)

// flashes tells whether the picture flashes so long after the source began;
// the frame nearest to the start of a second is the first that does.
func flashes(since, interval time.Duration) bool {
	return (since+interval/2)%time.Second < beepLength
}

// soundTrack is what a decoder must know.
var soundTrack = capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: soundRate}

// encodeSecond gives the packets of one second. The encoder has run for a
// second before, so that the first packet follows the last.
func encodeSecond() ([][]byte, error) {
	e, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: soundRate, Channels: 1, Application: gopus.ApplicationAudio})
	if err == nil {
		err = e.SetBitrate(soundBitrate)
	}
	if err != nil {
		return nil, capture.Errorf(capture.CodeEncoder, "Opus: %w", err)
	}
	var packets [][]byte
	pcm := make([]float32, soundFrame)
	for n := range 2 * soundRate / soundFrame {
		for i := range pcm {
			// What the encoder is given comes out of a decoder so much later.
			pcm[i] = beep((n*soundFrame + i + e.Lookahead()) % soundRate)
		}
		p, err := e.EncodeFloat32(pcm)
		if err != nil {
			return nil, capture.Errorf(capture.CodeEncoder, "Opus: %w", err)
		}
		packets = append(packets, append([]byte(nil), p...))
	}
	return packets[len(packets)/2:], nil
}

// beep is a sample of the second.
func beep(n int) float32 {
	if time.Duration(n)*time.Second/soundRate >= beepLength {
		return 0
	}
	return float32(beepLevel * math.Sin(2*math.Pi*beepTone*float64(n)/soundRate))
}

// speak delivers the packets of a second over and over, from a moment on,
// until ctx is done. What comes too late to be of use is left out.
func speak(ctx context.Context, start time.Time, packets [][]byte, sink capture.Sink) {
	tick := time.NewTicker(soundStep)
	defer tick.Stop()
	frame := capture.Frame{Keyframe: true, Payloads: make([][]byte, 1)}
	for next := 0; ; {
		n := int(time.Since(start) / soundStep)
		for next = max(next, n-2); next <= n; next++ {
			frame.RTPTime = uint32(next) * soundFrame
			frame.Captured = start.Add(time.Duration(next) * soundStep)
			frame.Payloads[0] = packets[next%len(packets)]
			sink.Frame(&frame)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
