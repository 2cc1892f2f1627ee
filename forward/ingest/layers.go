package ingest

import (
	"slices"
	"time"

	"edged/capture"
)

const (
	layersIn   = time.Second             // from the first encoding's first picture: the others are waited for
	layerQuiet = 1500 * time.Millisecond // without a frame, while other encodings have some
)

// layers is the order of the encodings: the best picture first, whatever the
// order of their names. How good they are, their pictures say.
type layers struct {
	changed bool
	began   time.Time // when the first was known
	inOrder []*encoding
}

// describe tells the sink of the tracks, where there is news. At first it
// waits a little for all encodings; those that come later move the others.
func (s *Session) describe(now time.Time) {
	l := &s.layers
	if !l.changed {
		return
	}
	known := slices.DeleteFunc(slices.Clone(s.pictures), func(e *encoding) bool { return e.track.Codec == "" })
	if len(known) == 0 && len(s.pictures) > 0 {
		return
	}
	if l.began.IsZero() {
		l.began = now
	}
	if len(l.inOrder) == 0 && len(known) < len(s.pictures) && now.Sub(l.began) < layersIn {
		return
	}
	l.changed = false
	slices.SortStableFunc(known, func(a, b *encoding) int {
		return b.track.Width*b.track.Height - a.track.Width*a.track.Height
	})
	for _, e := range s.pictures {
		if !slices.Contains(known, e) {
			e.index = -1
		}
	}
	l.inOrder = known
	var tracks []capture.Track
	for i, e := range known {
		if e.index != i {
			e.fresh, e.last = true, now // layer i was another encoding, or none
		}
		e.index, e.track.Layer = i, i
		tracks = append(tracks, e.track)
	}
	if s.sound != nil {
		s.sound.index = len(tracks)
		tracks = append(tracks, s.sound.track)
	}
	s.sink.Describe(tracks)
	for _, e := range known {
		if e.fresh && now.Sub(e.asked) >= keyframePause {
			e.askKeyframe(now)
		}
	}
}

// keyframes asks the publisher for what was asked of the source.
func (s *Session) keyframes(now time.Time) {
	for i, e := range s.layers.inOrder {
		if s.wanted[i].Load() && now.Sub(e.asked) >= keyframePause {
			s.wanted[i].Store(false)
			e.askKeyframe(now)
		}
	}
}

// missLayers says which encodings the publisher has ceased to send, as
// browsers do where the path does not take them.
func (s *Session) missLayers(now time.Time) {
	if now.Sub(s.lastFrame) > layerQuiet {
		return // all of them: see listen
	}
	sink, ok := s.sink.(capture.LayerSink)
	if !ok {
		return
	}
	for i, e := range s.layers.inOrder {
		if !e.missed && now.Sub(e.last) > layerQuiet {
			e.missed = true
			sink.LayerFailed(i, capture.Errorf(capture.CodeStalled, "the publisher does not send this layer now"))
		}
	}
}
