package capture

import (
	"image"
	"slices"
	"sync"
	"time"
)

// Mux makes one sink of a source whose pictures and sound come from
// goroutines of their own: each side is a sink that describes and delivers
// its own tracks. The pictures come first in the list. What is said before
// the pictures are described waits for them, and sound until then is dropped.
type Mux struct {
	mu       sync.Mutex // over each call of the sink, which does not block
	sink     Sink
	pictures []Track
	sound    []Track
	frame    Frame // scratch
}

// NewMux makes a mux before a sink.
func NewMux(sink Sink) *Mux { return &Mux{sink: sink} }

// Pictures is the side for video.
func (m *Mux) Pictures() LayerSink { return pictures{m} }

// Sound is the side for audio.
func (m *Mux) Sound() SoundSink { return sound{m} }

func (m *Mux) describe() {
	if len(m.pictures) > 0 {
		m.sink.Describe(slices.Concat(m.pictures, m.sound))
	}
}

type pictures struct{ *Mux }

// Describe implements [Sink].
func (p pictures) Describe(tracks []Track) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pictures = slices.Clone(tracks)
	p.describe()
}

// Frame implements [Sink].
func (p pictures) Frame(f *Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sink.Frame(f)
}

// LayerFailed implements [LayerSink].
func (p pictures) LayerFailed(layer int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.sink.(LayerSink); ok {
		s.LayerFailed(layer, err)
	}
}

// Picture implements [PictureSink].
func (p pictures) Picture(img *image.YCbCr, captured time.Time) {
	if s, ok := p.sink.(PictureSink); ok {
		s.Picture(img, captured)
	}
}

type sound struct{ *Mux }

// Describe implements [Sink].
func (s sound) Describe(tracks []Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sound = slices.Clone(tracks)
	s.describe()
}

// Frame implements [Sink].
func (s sound) Frame(f *Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pictures) == 0 || f.Track < 0 || f.Track >= len(s.sound) {
		return
	}
	s.frame = *f
	s.frame.Track += len(s.pictures)
	s.sink.Frame(&s.frame)
	s.frame.Payloads = nil // the source's memory
}

// SoundFailed implements [SoundSink].
func (s sound) SoundFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sink, ok := s.sink.(SoundSink); ok {
		sink.SoundFailed(err)
	}
}
