package data

import (
	"testing"
	"time"
)

func TestAdapter(t *testing.T) {
	type step struct {
		after time.Duration
		loss  float64
		rtt   time.Duration
		want  detail
	}
	const ms = time.Millisecond
	for name, steps := range map[string][]step{
		"a good path":                    {{0, 0, 20 * ms, all}, {time.Hour, .01, 100 * ms, all}},
		"an unknown path":                {{0, 0, 0, all}},
		"loss":                           {{0, .06, 20 * ms, thinned}},
		"much loss":                      {{0, .25, 20 * ms, keyframes}},
		"a long way":                     {{0, 0, 500 * ms, thinned}},
		"a very long way":                {{0, 0, 2 * time.Second, keyframes}},
		"down at once":                   {{0, 0, 0, all}, {ms, .06, 0, thinned}, {ms, .3, 0, keyframes}},
		"up a step at a time":            {{0, .3, 0, keyframes}, {ms, 0, 0, keyframes}, {calm - ms, 0, 0, keyframes}, {ms, 0, 0, thinned}, {calm - ms, 0, 0, thinned}, {ms, 0, 0, all}},
		"a relapse begins the wait anew": {{0, .06, 0, thinned}, {ms, 0, 0, thinned}, {calm - ms, .04, 0, thinned}, {ms, 0, 0, thinned}, {calm - ms, 0, 0, thinned}, {ms, 0, 0, all}},
		"just better is not calm":        {{0, .06, 0, thinned}, {time.Hour, .04, 0, thinned}, {time.Hour, .03, 0, thinned}},
		"nor is a long way":              {{0, .06, 0, thinned}, {time.Hour, 0, 300 * ms, thinned}, {time.Hour, 0, 300 * ms, thinned}},
	} {
		t.Run(name, func(t *testing.T) {
			var a adapter
			now := time.Unix(1e9, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				if got := a.next(now, s.loss, s.rtt); got != s.want {
					t.Errorf("step %d: %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

func TestPicker(t *testing.T) {
	for _, c := range []struct {
		name   string
		detail detail
		fps    int
		key    int // a keyframe each so many frames
		want   int // records of 600 frames
	}{
		{"all", all, 30, 60, 600},
		{"at 50 a second", all, 50, 60, 600},
		{"at 120 a second", all, 120, 600, 200}, // each third: two are closer than the least gap
		{"thinned", thinned, 30, 60, 150},       // 60 is a multiple of 4
		{"thinned, odd keyframes", thinned, 30, 10, 60 + 2*60},
		{"keyframes", keyframes, 30, 60, 10},
	} {
		var p picker
		n := 0
		for i := range 600 {
			f := Frame{Captured: time.Unix(1e9, 0).Add(time.Duration(i) * time.Second / time.Duration(c.fps)), Keyframe: i%c.key == 0}
			if p.wants(c.detail, f) {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s: %d records, want %d", c.name, n, c.want)
		}
	}
}
