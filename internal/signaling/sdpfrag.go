package signaling

import (
	"fmt"
	"slices"
	"strings"
)

// fragment is what an SDP fragment (RFC 8840 §9) says of ICE. With one
// bundled transport, the first media section that has candidates speaks for
// all (RFC 9725 §4.3.2).
type fragment struct {
	ufrag, pwd string
	mid        string
	candidates []string // "candidate:…"
	end        bool     // a=end-of-candidates
}

// Bounds of a fragment; a browser sends a few dozen candidates at most.
const (
	maxCandidates = 128
	maxLine       = 1024
)

// parseFragment reads a fragment. Lines that it does not know are skipped, as
// SDP wants; a body without any line of SDP is an error.
func parseFragment(body string) (fragment, error) {
	var f fragment
	lines := 0
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		if len(line) > maxLine {
			return f, fmt.Errorf("sdpfrag: line too long")
		}
		if len(line) < 2 || line[1] != '=' || line[0] < 'a' || line[0] > 'z' {
			return f, fmt.Errorf("sdpfrag: not SDP: %.40q", line)
		}
		lines++
		if attr, ok := strings.CutPrefix(line, "a="); ok {
			if err := f.attribute(attr); err != nil {
				return f, err
			}
		}
	}
	if lines == 0 {
		return f, fmt.Errorf("sdpfrag: empty")
	}
	if (f.ufrag == "") != (f.pwd == "") && f.pwd != "" {
		return f, fmt.Errorf("sdpfrag: ice-pwd without ice-ufrag")
	}
	return f, nil
}

func (f *fragment) attribute(attr string) error {
	name, value, _ := strings.Cut(attr, ":")
	switch name {
	case "ice-ufrag":
		return once(&f.ufrag, name, value, 4) // RFC 8839 §5.4: 4 to 256 characters
	case "ice-pwd":
		return once(&f.pwd, name, value, 22)
	case "mid":
		if f.mid == "" {
			f.mid = value
		}
	case "candidate":
		if len(f.candidates) == maxCandidates {
			return fmt.Errorf("sdpfrag: more than %d candidates", maxCandidates)
		}
		if !slices.Contains(f.candidates, attr) { // a bundle may list them in every section
			f.candidates = append(f.candidates, attr)
		}
	case "end-of-candidates":
		f.end = true
	}
	return nil
}

// once takes the first value; every media section of a bundle repeats it.
func once(dst *string, name, value string, least int) error {
	if len(value) < least || len(value) > 256 {
		return fmt.Errorf("sdpfrag: %s of %d characters", name, len(value))
	}
	if *dst == "" {
		*dst = value
	}
	return nil
}

// iceOf reads the ICE part of a whole session description that the SFU has
// already accepted or made.
func iceOf(sdp string) fragment {
	var f fragment
	for line := range strings.Lines(sdp) {
		if attr, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "a="); ok {
			_ = f.attribute(attr) // odd lines are not ours to judge here
		}
	}
	return f
}

// String writes the fragment as RFC 8840 §9 wants it: credentials of the
// session, then the section of the bundle that carries the transport.
func (f fragment) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:%s\r\n", f.ufrag, f.pwd, f.mid)
	for _, c := range f.candidates {
		fmt.Fprintf(&b, "a=%s\r\n", c)
	}
	if f.end {
		b.WriteString("a=end-of-candidates\r\n")
	}
	return b.String()
}
