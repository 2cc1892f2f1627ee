package soak

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/internal/lab/bench"

	"go.uber.org/goleak"
)

// A short soak in every test run: nobody misses a frame. The long one is
// `make lab-soak`.
func TestNobodyMissesAFrame(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
	program := filepath.Join(t.TempDir(), "edged")
	if out, err := exec.Command("go", "build", "-o", program, "edged/cmd/edged").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clip, err := bench.Clip(t.Context(), filepath.Join("..", "..", "..", ".cache", "bench"), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{Program: program, Clip: clip, Dir: t.TempDir(), Viewers: 20, Rate: 20, For: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("20 viewers, %v: %d missed, at least %d frames each, %v, memory %+d KiB", r.Took, r.Missed(), r.Least, r.Profiles, r.Growth()>>10)
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

// What must fail, fails: the check itself.
func TestCheck(t *testing.T) {
	flat := make([]uint64, 20)
	leak := make([]uint64, 20)
	for i := range flat {
		flat[i] = 40<<20 + uint64(i%3)<<20
		leak[i] = 40<<20 + uint64(i)<<20
	}
	good := bench.Counts{Packets: 900, Frames: 300}
	for _, c := range []struct {
		name string
		r    Report
		want string // empty: nothing wrong
	}{
		{"good", Report{Viewers: []bench.Counts{good, good}, Expected: 270, Live: flat}, ""},
		{"a packet lost", Report{Viewers: []bench.Counts{good, {Frames: 300, Lost: 1}}, Expected: 270, Live: flat}, "viewer 1: 1 packets lost"},
		{"a frame skipped", Report{Viewers: []bench.Counts{{Frames: 300, Skipped: 2}}, Expected: 270, Live: flat}, "2 skipped"},
		{"frozen", Report{Viewers: []bench.Counts{{Frames: 20}}, Expected: 270, Live: flat}, "20 frames of at least 270"},
		{"a leak", Report{Viewers: []bench.Counts{good}, Expected: 270, Live: leak}, "memory grew by 10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.r.Check()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRunNeedsABox(t *testing.T) {
	_, err := Run(t.Context(), Options{Program: "false", Dir: t.TempDir(), Viewers: 1, Rate: 1})
	if err == nil {
		t.Error("a program that ends at once was taken for a box")
	}
}
