package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Fault is one thing wrong with a document.
type Fault struct {
	Path    string // for people: cameras[2].video.fps; empty: the whole document
	Pointer string // for programs: /cameras/2/video/fps (RFC 6901)
	Detail  string // names the value and what is allowed; never a secret
}

// String is "path: detail".
func (f Fault) String() string {
	if f.Path == "" {
		return f.Detail
	}
	return f.Path + ": " + f.Detail
}

// Faults is the error of a document: all that is wrong with it, in the
// document's order.
type Faults []Fault

// Error gives one line a fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// In gives one line a fault, each beginning with the name of the document's
// file, as compilers do: "FILE: cameras[2].video.fps: 0 is not in 1..60".
func (fs Faults) In(file string) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&b, "%s: %s\n", file, f)
	}
	return b.String()
}

// maxFaults bounds what a hostile document can make us say.
const maxFaults = 50

// add appends a fault; beyond maxFaults only that there are more.
func (fs *Faults) add(p path, format string, a ...any) {
	switch {
	case len(*fs) < maxFaults:
		*fs = append(*fs, Fault{Path: clip(p.text, 200), Pointer: clip(p.pointer, 200), Detail: fmt.Sprintf(format, a...)})
	case len(*fs) == maxFaults:
		*fs = append(*fs, Fault{Detail: "there are more faults"})
	}
}

// at says whether a fault lies at or under a pointer.
func (fs Faults) at(pointer string) bool {
	for _, f := range fs {
		if f.Pointer == pointer || strings.HasPrefix(f.Pointer, pointer+"/") {
			return true
		}
	}
	return false
}

// path is a place in a document, in both notations.
type path struct{ text, pointer string }

func (p path) key(k string) path {
	text := k
	if !plainKey.MatchString(k) {
		text = strconv.Quote(clip(k, 64))
	}
	if p.text != "" {
		text = p.text + "." + text
	}
	return path{text, p.pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)}
}

func (p path) index(i int) path {
	return path{fmt.Sprintf("%s[%d]", p.text, i), fmt.Sprintf("%s/%d", p.pointer, i)}
}

// clip cuts a text for a fault, between characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
