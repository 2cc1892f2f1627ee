package file

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"edged/capture"
)

// Whatever the bytes, a reader ends with io.EOF or an error that has a code
// of files, and its samples keep their bounds.
func FuzzReader(f *testing.F) {
	names, err := filepath.Glob("testdata/clip.*")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/*.*v*")
	if err != nil {
		f.Fatal(err)
	}
	fragmented, err := filepath.Glob("testdata/*.mp4")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(append(names, more...), fragmented...) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(0), uint16(0), uint32(0))
		f.Add(b, uint16(40), uint16(len(b)/2), uint32(0x7fffffff))
	}
	// Two changes to a real file each go deeper than the fuzzer's own alone.
	f.Fuzz(func(t *testing.T, b []byte, at1, at2 uint16, with uint32) {
		b = bytes.Clone(b)
		for i, at := range []uint16{at1, at2} {
			if at > 0 && int(at)+4 <= len(b) {
				b[at], b[at+1], b[at+2], b[at+3] = byte(with>>24), byte(with>>16), byte(with>>8), byte(with)
				with += uint32(i)
			}
		}
		r, err := newReader(bytes.NewReader(b), int64(len(b)), 25)
		if err != nil {
			fileFault(t, err)
			return
		}
		if sound, err := newSound(bytes.NewReader(b), int64(len(b)), r); err == nil {
			for _, ok := sound.due(); ok && err == nil; _, ok = sound.due() {
				if _, err = sound.packet(); err != nil {
					fileFault(t, err)
				}
			}
		} else if capture.CodeOf(err) != capture.CodeNotFound {
			fileFault(t, err)
		}
		p, err := newPlayer(r, discard{t})
		if err != nil {
			fileFault(t, err)
			return
		}
		if err := p.observe(r.header()); err != nil {
			fileFault(t, err)
			return
		}
		for last := int64(-1); ; {
			s, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil && s.at <= last {
				t.Fatalf("time %d after %d", s.at, last)
			}
			if last = s.at; err == nil {
				err = p.send(s)
			}
			if err != nil {
				fileFault(t, err)
				return
			}
		}
	})
}

func fileFault(t *testing.T, err error) {
	t.Helper()
	if c := capture.CodeOf(err); c != capture.CodeMedia && c != capture.CodeCodec {
		t.Fatalf("%s: %v", c, err)
	}
}

type discard struct{ t *testing.T }

func (discard) Describe([]capture.Track) {}
func (d discard) Frame(f *capture.Frame) {
	for _, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			d.t.Fatalf("payload of %d bytes", len(p))
		}
	}
}
