package main

import (
	"regexp"
	"strings"
	"testing"

	"edged/capture/encode"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	err := run([]string{"-cameras", "2", "-layers", "2", "-time", "200ms"}, &out)
	if encode.Name == "" {
		if err == nil {
			t.Error("a build without an encoder encodes")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^2 × 1280x720 at [1-9][0-9.]* frames/s, [0-9.]+ Mbit/s each, by OpenH264 .*: \d+ % of a CPU, [0-9.]+ms a frame; capture to packets p50 [0-9.]+ms, p95 [0-9.]+ms; [0-9.]+ allocations a frame\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("%q", out.String())
	}
	if err := run([]string{"-encoder", "none"}, &out); err == nil || !strings.Contains(err.Error(), `no encoder "none"`) {
		t.Errorf("%v", err)
	}
}
