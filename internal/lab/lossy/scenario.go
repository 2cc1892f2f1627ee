package lossy

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"edged/internal/lab/link"
)

// Step is a path from a time on.
type Step struct {
	At    time.Duration
	Shape link.Shape
}

// Scenario is what happens to the paths.
type Scenario struct {
	Name     string
	Steps    []Step // the first at 0
	For      time.Duration
	Drop     time.Duration // when the path becomes too narrow for the high layer; 0: never
	Recovery time.Duration // when it has room again
}

const settling = 30 * time.Second // a steady path is known by then

const (
	delay = 20 * time.Millisecond
	queue = 300 * time.Millisecond
)

func steady(name string, d time.Duration, change func(*link.Shape)) Scenario {
	s := link.Shape{Rate: 20e6, Queue: queue, Delay: delay}
	change(&s)
	return Scenario{Name: name, For: d, Steps: []Step{{0, s}}}
}

func loss(p float64) func(*link.Shape) { return func(s *link.Shape) { s.Loss = p } }

// Scenarios are all of them; the steady one is five minutes long.
func Scenarios() []Scenario {
	wide := link.Shape{Rate: 5e6, Queue: queue, Delay: delay}
	narrow := link.Shape{Rate: 600e3, Queue: queue, Delay: delay}
	far := func(change func(*link.Shape)) func(*link.Shape) {
		return func(s *link.Shape) { change(s); s.Delay = 50 * time.Millisecond }
	}
	return []Scenario{
		steady("2 % loss", time.Minute, loss(.02)),
		steady("5 % loss", time.Minute, loss(.05)),
		steady("10 % loss", time.Minute, loss(.10)),
		steady("bursts of 5 lost, 2.4 % in all", time.Minute, func(s *link.Shape) { s.Burst = link.Burst{Enter: .005, Leave: .2} }),
		steady("5 % loss, 100 ms there and back", time.Minute, far(loss(.05))),
		steady("bursts of 5 lost, 100 ms there and back", time.Minute, far(func(s *link.Shape) { s.Burst = link.Burst{Enter: .005, Leave: .2} })),
		steady("40 ms jitter (0 to 80)", time.Minute, func(s *link.Shape) { s.Jitter = 80 * time.Millisecond }),
		{Name: "drop from 5 Mbit/s to 600 kbit/s, and back", For: 90 * time.Second, Drop: 20 * time.Second, Recovery: 50 * time.Second,
			Steps: []Step{{0, wide}, {20 * time.Second, narrow}, {50 * time.Second, wide}}},
		steady("steady 1.2 Mbit/s", 5*time.Minute, func(s *link.Shape) { s.Rate = 1.2e6 }),
	}
}

// Result is how one subject did in a scenario.
type Result struct {
	Scenario string
	Subject  string
	Summary
	Lost    float64  // share of its packets that the path lost or dropped
	Samples []Sample // of all the time that the page was open
}

// Play plays a scenario to all subjects at once. Its first shape should be in
// force before Run.
func (l *Lab) Play(ctx context.Context, s Scenario) ([]Result, error) {
	before := make([]link.Counts, len(l.subjects))
	for i := range l.subjects {
		before[i] = l.Counts(i)
	}
	began := time.Now()
	for i, step := range s.Steps {
		l.Shape(step.Shape)
		until := s.For
		if i+1 < len(s.Steps) {
			until = s.Steps[i+1].At
		}
		t := time.NewTimer(time.Until(began.Add(until)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
	samples, err := l.Samples()
	if err != nil {
		return nil, err
	}
	var out []Result
	for i, subject := range l.subjects {
		after := l.Counts(i)
		out = append(out, Result{
			Scenario: s.Name, Subject: subject.Name, Summary: Summarize(samples[i], began, s), Samples: samples[i],
			Lost: link.Counts{Passed: after.Passed - before[i].Passed, Lost: after.Lost - before[i].Lost, Dropped: after.Dropped - before[i].Dropped}.Share(),
		})
	}
	return out, nil
}

// Summary is a picture in the time of a scenario.
type Summary struct {
	Took     time.Duration
	Freezes  int
	Frozen   time.Duration
	Frames   float64 // decoded a second
	Switches int     // changes of the picture's width
	Settled  int     // … after the first half minute
	NACKs    int
	PLIs     int
	Keys     int
	Repairs  int           // FlexFEC packets
	Bitrate  float64       // bits/s received
	Longest  time.Duration // without a frame, as coarse as the samples
	Low      time.Duration // from the drop to the low layer; 0: it was low, or never became so
	High     time.Duration // from the recovery to the high layer; likewise
	Drops    bool          // the scenario has a drop
}

// Summarize looks at the samples from began on, for as long as the scenario
// takes.
func Summarize(samples []Sample, began time.Time, s Scenario) (out Summary) {
	from, to := began.UnixMilli(), began.Add(s.For).UnixMilli()
	var first, last *Sample
	var advanced int64 // when a frame was last seen to come
	for i := range samples {
		x := &samples[i]
		if x.At < from || x.At > to {
			continue
		}
		at := time.Duration(x.At-from) * time.Millisecond
		if first == nil {
			first, advanced = x, x.At
		} else {
			if x.Width != last.Width && last.Width > 0 {
				out.Switches++
				if at > settling {
					out.Settled++
				}
			}
			if x.Decoded > last.Decoded {
				advanced = x.At
			}
			out.Longest = max(out.Longest, time.Duration(x.At-advanced)*time.Millisecond)
		}
		if s.Drop > 0 {
			if at >= s.Drop && at < s.Recovery && out.Low == 0 && x.Width < HighWidth {
				out.Low = at - s.Drop
			}
			if at >= s.Recovery && out.High == 0 && out.Low > 0 && x.Width == HighWidth {
				out.High = at - s.Recovery
			}
		}
		last = x
	}
	out.Drops = s.Drop > 0
	if first == nil || last.At == first.At {
		return out
	}
	out.Took = time.Duration(last.At-first.At) * time.Millisecond
	out.Freezes, out.Frozen = last.Freezes-first.Freezes, time.Duration((last.Frozen-first.Frozen)*float64(time.Second))
	out.Frames = float64(last.Decoded-first.Decoded) / out.Took.Seconds()
	out.NACKs, out.PLIs, out.Keys = last.NACKs-first.NACKs, last.PLIs-first.PLIs, last.Keys-first.Keys
	out.Repairs = last.Repairs - first.Repairs
	out.Bitrate = float64(last.Bytes-first.Bytes) * 8 / out.Took.Seconds()
	return out
}

// The bounds of a viewer of two layers.
const (
	lowWithin  = 2 * time.Second
	highWithin = 10 * time.Second
)

// criteria are what must hold of a viewer of two layers.
func criteria(w io.Writer, all []Result) {
	says := func(what string, holds bool) {
		answer := "yes"
		if !holds {
			answer = "NO"
		}
		fmt.Fprintf(w, "%s: %s\n", what, answer)
	}
	for _, r := range all {
		switch {
		case r.Subject != twoLayers:
		case r.Drops:
			says(fmt.Sprintf("%s: the low layer within %v", r.Scenario, lowWithin), r.Low > 0 && r.Low <= lowWithin)
			says(fmt.Sprintf("%s: the high layer within %v", r.Scenario, highWithin), r.High > 0 && r.High <= highWithin)
		case r.Took > settling:
			says(fmt.Sprintf("%s: no switch after the first %v (%d)", r.Scenario, settling, r.Settled), r.Settled == 0)
		}
	}
}

// PrintTable writes a line a result, and what holds.
func PrintTable(w io.Writer, all []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path\tviewer of\tfreezes\tfrozen s\tlongest gap s\tframes/s\tkbit/s\tlow after s\thigh after s\tswitches\tNACKs\tPLIs\tkeyframes\trepairs\tlost %")
	for _, r := range all {
		low, high := "", ""
		if r.Drops {
			low, high = moment(r.Low), moment(r.High)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%.1f\t%.1f\t%.0f\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.1f\n", r.Scenario, r.Subject, r.Freezes, r.Frozen.Seconds(), r.Longest.Seconds(),
			r.Frames, r.Bitrate/1000, low, high, r.Switches, r.NACKs, r.PLIs, r.Keys, r.Repairs, 100*r.Lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	criteria(w, all)
	return nil
}

func moment(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f", d.Seconds())
}
