package file

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// A file that goes away, is replaced, written to or cut off while it plays
// says so, whatever it then looks like; nothing else ends it.
func TestFileChanges(t *testing.T) {
	clip, err := os.ReadFile("testdata/clip.mp4")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(path string) error
		code   capture.Code
		whole  bool // the turn is played to its end
	}{
		"nothing":   {change: func(string) error { return nil }},
		"linked":    {change: func(path string) error { return os.Link(path, path+".too") }},
		"removed":   {change: os.Remove, code: capture.CodeNotFound, whole: true},
		"replaced":  {change: func(path string) error { return os.Rename(path+".new", path) }, code: capture.CodeUnplugged, whole: true},
		"touched":   {change: func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)) }, code: capture.CodeUnplugged, whole: true},
		"cut off":   {change: func(path string) error { return os.Truncate(path, 4000) }, code: capture.CodeUnplugged},
		"scribbled": {change: func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{0xff}, len(clip)), 0) }, code: capture.CodeUnplugged},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "clip.mp4")
			for _, file := range []string{path, path + ".new"} {
				if err := os.WriteFile(file, clip, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				s, err := New(capture.Config{Source: "file:" + path}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				r := &record{t: t, most: -1}
				changed := time.AfterFunc(450*time.Millisecond, func() {
					if err := c.change(path); err != nil {
						t.Error(err)
					}
				})
				defer changed.Stop()
				err = s.Run(ctx, r)
				switch {
				case c.code == "" && (err != nil || len(r.frames) < 29):
					t.Errorf("%d frames, %v", len(r.frames), err)
				case c.code != "":
					expect(t, err, c.code, path)
					if n := len(r.frames); n < 5 || n > 10 || c.whole && n != 10 {
						t.Errorf("%d frames", n)
					}
				}
			})
		})
	}
}
