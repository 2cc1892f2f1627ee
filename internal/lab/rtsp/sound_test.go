package rtsp_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"edged/capture"
	rtsplab "edged/internal/lab/rtsp"
)

// listener keeps the times of both tracks.
type listener struct {
	mu     sync.Mutex
	tracks []capture.Track
	why    error
	got    [2][]capture.Frame // without payloads
	late   [2][]time.Duration // since capture
	change chan struct{}
}

func (l *listener) Describe(tracks []capture.Track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tracks = slices.Clone(tracks)
}

func (l *listener) Frame(f *capture.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[f.Track] = append(l.got[f.Track], capture.Frame{RTPTime: f.RTPTime, Captured: f.Captured})
	l.late[f.Track] = append(l.late[f.Track], time.Since(f.Captured))
	select {
	case l.change <- struct{}{}:
	default:
	}
}

func (l *listener) SoundFailed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = err
}

// await waits for so many frames of the picture, and five packets of sound
// for each two of those.
func (l *listener) await(t *testing.T, frames int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		enough := len(l.got[0]) >= frames && len(l.got[1]) >= frames*2
		text := fmt.Sprint(len(l.got[0]), " pictures, ", len(l.got[1]), " of sound, tracks ", l.tracks, l.why)
		l.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-l.change:
		case <-limit:
			t.Fatal(text)
		}
	}
}

// TestSound: the sound of a server that nobody here wrote comes with the
// picture, over either transport, and before and after its first reports both
// have times of one even clock.
func TestSound(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for path, track := range map[string]capture.Track{
		"opus#transport=udp": {Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000},
		"opus#transport=tcp": {Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000},
		"pcma":               {Kind: capture.Audio, Codec: capture.PCMA, ClockRate: 8000},
	} {
		t.Run(path, func(t *testing.T) {
			l := &listener{change: make(chan struct{}, 1)}
			stop, _ := play(t, capture.Config{Source: server.URL(path), Audio: capture.AudioConfig{Enabled: true}}, l)
			l.await(t, 200) // 8 s: reports come after some
			if err := stop(); err != nil {
				t.Error(err)
			}
			if len(l.tracks) != 2 || l.tracks[1].Codec != track.Codec || l.tracks[1].ClockRate != track.ClockRate || l.why != nil {
				t.Fatalf("tracks %+v, %v", l.tracks, l.why)
			}
			for i, frames := range l.got {
				for k := 50; k < len(frames); k++ {
					ticks := time.Duration(int32(frames[k].RTPTime-frames[k-1].RTPTime)) * time.Second / time.Duration(l.tracks[i].ClockRate)
					if d := frames[k].Captured.Sub(frames[k-1].Captured) - ticks; d.Abs() > ticks/4+time.Millisecond && d.Abs() > 20*time.Millisecond {
						t.Errorf("track %d, frame %d: captured %v after the one before, by RTP time %v", i, k, d+ticks, ticks)
					}
				}
			}
			late := [2]time.Duration{median(l.late[0][150:]), median(l.late[1][300:])}
			t.Logf("captured so long before: picture %v, sound %v", late[0], late[1])
			if late[0] < 0 || late[1] < 0 || late[0] > 2*time.Second || late[1] > 2*time.Second {
				t.Errorf("picture %v late, sound %v", late[0], late[1])
			}
		})
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
