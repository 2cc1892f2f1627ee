package lossy

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/capture/encode"
	"edged/internal/lab/link"
)

// The picture survives what a link does to it: it goes on, in the low layer
// while the link is narrow, and in the high one afterwards. How well is for
// `make lab-lossy` to tell.
func TestBadLink(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no software encoder")
	}
	program := filepath.Join(t.TempDir(), "edged")
	if out, err := exec.Command("go", "build", "-o", program, "edged/cmd/edged").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	subjects, stop, err := StartSubjects(t.Context(), program, "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	l := New(subjects[:1], 7)
	wide := link.Shape{Rate: 5e6, Queue: queue, Delay: delay}
	narrow, lossy, bursts, jumpy := wide, wide, wide, wide
	narrow.Rate = 600e3
	lossy.Loss = .05
	bursts.Burst = link.Burst{Enter: .005, Leave: .2}
	jumpy.Jitter = 80 * time.Millisecond
	l.Shape(wide)
	began := time.Now()
	step := func(what string, s link.Shape, width int) error {
		l.Shape(s)
		now := time.Now()
		err := l.Until(0, fmt.Sprintf("s.width === %d", width), 40*time.Second)
		var samples [][]Sample
		if err == nil {
			samples, err = l.Samples()
		}
		if err == nil {
			last := samples[0][len(samples[0])-1]
			err = l.Until(0, fmt.Sprintf("s.decoded > %d", last.Decoded+60), time.Minute)
			t.Logf("%s: %d wide after %v; then %v for 60 pictures", what, width, last.at(now), time.Since(now)-last.at(now))
		}
		if err != nil {
			all, _ := l.Samples()
			return fmt.Errorf("%s: %w; %+v", what, err, all[0][len(all[0])-1])
		}
		return nil
	}
	err = l.Run(t.Context(), func(context.Context) error {
		for _, s := range []struct {
			what  string
			shape link.Shape
			width int
		}{
			{"5 Mbit/s", wide, HighWidth}, {"600 kbit/s", narrow, LowWidth}, {"5 Mbit/s again", wide, HighWidth},
			{"5 % loss", lossy, HighWidth}, {"bursts", bursts, HighWidth}, {"jitter", jumpy, HighWidth},
		} {
			if err := step(s.what, s.shape, s.width); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if c := l.Counts(0); c.Lost == 0 || c.Dropped == 0 {
		t.Errorf("%+v: the path did nothing", c)
	}
	t.Log(time.Since(began).Round(time.Second), "in all")
}

// at is when a sample was taken, after a moment.
func (s Sample) at(since time.Time) time.Duration {
	return time.UnixMilli(s.At).Sub(since).Round(10 * time.Millisecond)
}

func TestSummarize(t *testing.T) {
	s := Scenario{For: 10 * time.Second, Drop: 2 * time.Second, Recovery: 5 * time.Second}
	began := time.UnixMilli(1_000_000)
	var samples []Sample
	for i := range 60 { // 200 ms apart, from 1 s before the scenario to 1 s after
		x := Sample{At: 999_000 + int64(i)*200, Width: HighWidth, Decoded: 6 * i, Bytes: 1000 * i, Freezes: i / 20, Frozen: float64(i/20) / 2, NACKs: i, PLIs: i / 30}
		if at := x.At - 1_000_000; at > 3000 && at < 6500 {
			x.Width = LowWidth
		}
		if i >= 30 && i < 40 {
			x.Decoded = 6 * 30
		}
		samples = append(samples, x)
	}
	got := Summarize(samples, began, s)
	want := Summary{Took: 10 * time.Second, Freezes: 2, Frozen: time.Second, Frames: 30, Switches: 2, NACKs: 50, PLIs: 1, Bitrate: 40_000,
		Longest: 1800 * time.Millisecond, Low: 1200 * time.Millisecond, High: 1600 * time.Millisecond, Drops: true}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Summarize(nil, began, s); got != (Summary{Drops: true}) {
		t.Errorf("%+v of nothing", got)
	}
	var out bytes.Buffer
	if err := PrintTable(&out, []Result{{Scenario: "x", Subject: "y", Summary: want, Lost: .024}, {Scenario: "x", Subject: "z", Summary: Summary{Drops: true}}}); err != nil {
		t.Fatal(err)
	}
	want.Settled, want.Drops, want.Took = 3, false, time.Minute
	if err := PrintTable(&out, []Result{{Scenario: "quick", Subject: twoLayers, Summary: Summary{Drops: true, Low: time.Second, High: 11 * time.Second}},
		{Scenario: "steady", Subject: twoLayers, Summary: want}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.2", "1.6", "never", "2.4", "quick: the low layer within 2s: yes", "quick: the high layer within 10s: NO", "after the first 30s (3): NO"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestScenarios(t *testing.T) {
	for _, s := range Scenarios() {
		if len(s.Steps) == 0 || s.Steps[0].At != 0 || s.Steps[len(s.Steps)-1].At >= s.For || s.Drop > s.Recovery {
			t.Errorf("%+v", s)
		}
	}
}
