package forward

import (
	"slices"
	"strconv"
	"strings"

	"edged/capture"
)

// match says how well an offered format decodes a track: 0 not at all, the
// more the better.
func match(t capture.Track, f format) int {
	if !strings.EqualFold(f.codec, string(t.Codec)) || f.clockRate != t.ClockRate {
		return 0
	}
	switch t.Codec {
	case capture.H264:
		return matchH264(param(t.Fmtp, "profile-level-id"), f.fmtp)
	case capture.VP9:
		if p := param(f.fmtp, "profile-id"); p != "" && p != "0" && p != param(t.Fmtp, "profile-id") {
			return 0
		}
	case capture.H265:
		if p, q := param(f.fmtp, "profile-id"), param(t.Fmtp, "profile-id"); p != "" && q != "" && p != q {
			return 0
		}
	}
	return 1
}

// matchH264 compares profile-level-ids (RFC 6184 §8.1). Browsers decode more
// than they list, so another profile is a last resort rather than a refusal;
// a level above the listed one likewise.
func matchH264(have, fmtp string) int {
	if param(fmtp, "packetization-mode") != "1" {
		return 0 // our frames have FU-A, which mode 0 forbids
	}
	want := param(fmtp, "profile-level-id")
	if want == "" {
		want = "42000a" // RFC 6184 §8.1: Baseline, level 1
	}
	hp, hok := h264Profile(have)
	wp, wok := h264Profile(want)
	switch {
	case !hok || !wok:
		return 1
	case hp == wp:
		return 4
	case hp == "constrained baseline" && (wp == "baseline" || wp == "main" || wp == "high"):
		return 3 // a subset of those (RFC 6184 table 5, H.264 annex A)
	case hp == "baseline" && wp == "constrained baseline", hp == "constrained high" && wp == "high", hp == "main" && wp == "high":
		return 2
	}
	return 1
}

// h264Profile names the profile of a profile-level-id by its profile_idc and
// constraint flags (RFC 6184 table 5).
func h264Profile(id string) (string, bool) {
	n, err := strconv.ParseUint(id, 16, 24)
	if err != nil || len(id) != 6 {
		return "", false
	}
	idc, iop := byte(n>>16), byte(n>>8)
	switch {
	case idc == 0x42 && iop&0x40 != 0, idc == 0x4d && iop&0x80 != 0, idc == 0x58 && iop&0xc0 == 0xc0:
		return "constrained baseline", true
	case idc == 0x42:
		return "baseline", true
	case idc == 0x4d:
		return "main", true
	case idc == 0x64 && iop&0x0c == 0x0c:
		return "constrained high", true
	case idc == 0x64:
		return "high", true
	}
	return id, true
}

// param reads one parameter of an a=fmtp value, lower case.
func param(fmtp, name string) string {
	for p := range strings.SplitSeq(fmtp, ";") {
		if k, v, ok := strings.Cut(strings.TrimSpace(p), "="); ok && strings.EqualFold(k, name) {
			return strings.ToLower(v)
		}
	}
	return ""
}

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
			out = append(out, selection{tracks: layersOf(tracks, t, f), media: i, format: f})
		}
	}
	out = oneTransport(out, o)
	hasVideo := slices.ContainsFunc(tracks, func(t capture.Track) bool { return t.Kind == capture.Video })
	if hasVideo && !taken[capture.Video] || len(out) == 0 {
		return nil, codecError(tracks, o)
	}
	return out, nil
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

func codecError(tracks []capture.Track, o *offer) error {
	e := &CodecError{}
	for _, t := range tracks {
		if t.Kind == capture.Video {
			e.Camera = append(e.Camera, t.Codec)
		}
	}
	for _, m := range o.media {
		if m.kind != "video" {
			continue
		}
		for _, f := range m.formats {
			name := f.codec
			switch strings.ToLower(name) {
			case "", "rtx", "red", "ulpfec", "flexfec-03":
				continue
			}
			if !slices.Contains(e.Viewer, name) {
				e.Viewer = append(e.Viewer, name)
			}
		}
	}
	if len(e.Viewer) == 0 {
		e.Viewer = []string{"no video"}
	}
	return e
}
