package forward

import (
	"slices"
	"strings"

	"edged/capture"
)

// selection is a track matched with an m-line and a format of it.
type selection struct {
	tracks []int // indices into the stream's tracks: the layers, best first
	media  int   // index into the offer's m-lines
	format
}

// negotiate chooses for each kind the best pair of track and format: the
// highest layer first, then the closest format, then the offer's order.
func negotiate(tracks []capture.Track, o *offer) ([]selection, error) {
	var out []selection
	taken := map[capture.Kind]bool{}
	for i, m := range o.media {
		kind := capture.Kind(m.kind)
		if m.rejected || !m.receives || taken[kind] || !strings.Contains(m.proto, "SAVPF") {
			continue
		}
		if t, f, ok := bestFormat(tracks, kind, m.formats); ok {
			taken[kind] = true
			s := selection{tracks: layersOf(tracks, t, f), media: i, format: f}
			s.fmtp = answered(tracks[t], f.fmtp)
			out = append(out, s)
		}
	}
	out = oneTransport(out, o)
	hasVideo := slices.ContainsFunc(tracks, func(t capture.Track) bool { return t.Kind == capture.Video })
	if hasVideo && o.wants(capture.Video) && !taken[capture.Video] || len(out) == 0 {
		return nil, codecError(tracks, o)
	}
	return soundFirst(out, o), nil
}

// oneTransport leaves what the offer bundles (RFC 9143 §7.3), or, of an offer
// that does not, the picture: there is one transport a viewer.
func oneTransport(chosen []selection, o *offer) []selection {
	if len(chosen) < 2 || !slices.ContainsFunc(chosen, func(s selection) bool { return !slices.Contains(o.bundle, o.media[s.media].mid) }) {
		return chosen
	}
	i := max(0, slices.IndexFunc(chosen, func(s selection) bool { return o.media[s.media].kind == string(capture.Video) }))
	return chosen[i : i+1]
}

func bestFormat(tracks []capture.Track, kind capture.Kind, formats []format) (track int, best format, ok bool) {
	score, layer := 0, 0
	for i, t := range tracks {
		if t.Kind != kind {
			continue
		}
		for _, f := range formats {
			s := match(t, f)
			if s > 0 && (!ok || t.Layer < layer || t.Layer == layer && s > score) {
				track, best, ok, score, layer = i, f, true, s, t.Layer
			}
		}
	}
	return track, best, ok
}

// layersOf lists the tracks that are other encodings of the best one's scene,
// best first, which the same format decodes.
func layersOf(tracks []capture.Track, best int, f format) []int {
	b := tracks[best]
	var out []int
	for i, t := range tracks {
		if t.Kind == b.Kind && t.Codec == b.Codec && t.ClockRate == b.ClockRate && t.Layer >= b.Layer && match(t, f) > 0 {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(i, j int) int { return tracks[i].Layer - tracks[j].Layer })
	return out
}

// offered is a codec that one side has.
type offered struct{ codec, fmtp string }

// codecError tells what the camera has and what the viewer would take.
func codecError(tracks []capture.Track, o *offer) error {
	var camera, viewer []offered
	for _, t := range tracks {
		if t.Kind == capture.Video {
			camera = append(camera, offered{string(t.Codec), t.Fmtp})
		}
	}
	for _, m := range o.media {
		if m.kind != "video" || m.rejected || !m.receives {
			continue
		}
		for _, f := range m.formats {
			switch strings.ToLower(f.codec) {
			case "", "rtx", "red", "ulpfec", repairFormat:
				continue
			}
			viewer = append(viewer, offered{f.codec, f.fmtp})
		}
	}
	e := &CodecError{Camera: names(camera, viewer), Viewer: names(viewer, camera)}
	if len(e.Viewer) == 0 {
		e.Viewer = []string{"no video"}
	}
	return e
}

// names lists the codecs of one side, once each, with what keeps them from
// being the other side's where that has the same.
func names(own, other []offered) (list []string) {
	for _, c := range own {
		name := c.codec
		if slices.ContainsFunc(other, func(o offered) bool { return strings.EqualFold(o.codec, c.codec) }) {
			name = withParameter(c.codec, c.fmtp)
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}
