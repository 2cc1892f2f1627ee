package forward

import (
	"math"
	"testing"
	"time"
)

func TestScore(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name        string
		loss        float64
		rtt, jitter time.Duration
		want        float64
		group       Group
	}{
		{"LAN", 0, ms, ms, 100, Good},
		{"nothing measured", 0, 0, 0, 100, Good},
		{"home", .005, 30 * ms, 8 * ms, 97.5, Good},
		{"mobile", .01, 70 * ms, 13 * ms, 85, Good},
		{"some loss", .05, 30 * ms, 5 * ms, 75, Fair},
		{"much loss", .15, 30 * ms, 5 * ms, 25, Poor},
		{"nothing arrives", 1, 30 * ms, 5 * ms, 0, Poor},
		{"far away", 0, 170 * ms, 5 * ms, 70, Fair},
		{"by satellite", 0, 650 * ms, 5 * ms, 30, Poor},
		{"shaky", 0, 20 * ms, 28 * ms, 70, Fair},
		{"very shaky", 0, 20 * ms, time.Second, 30, Poor},
		{"a little of each", .02, 90 * ms, 16 * ms, 70, Fair},
		{"all at once", .1, 300 * ms, 60 * ms, 0, Poor},
	} {
		got := score(tt.loss, tt.rtt, tt.jitter)
		if math.Abs(got-tt.want) > .01 || groupOf(got) != tt.group {
			t.Errorf("%s: %.2f, %v; want %.2f, %v", tt.name, got, groupOf(got), tt.want, tt.group)
		}
	}
}

func TestGroupsHaveHysteresis(t *testing.T) {
	var g grader
	if g.score() != 100 || g.group != Good {
		t.Errorf("before any report: %v, %v", g.score(), g.group)
	}
	changes := 0
	take := func(n int, losses ...float64) {
		for i := range n {
			before := g.group
			g.take(losses[i%len(losses)], 20*time.Millisecond, time.Millisecond)
			if g.group != before {
				changes++
			}
		}
	}
	take(20, 0, 0, 0, .1) // one bad report in four is no bad path
	if g.group != Good || changes != 0 {
		t.Errorf("now and then a loss: %v, %v after %d changes", g.score(), g.group, changes)
	}
	take(100, .03, .05) // around a bound, for long
	if changes > 1 {
		t.Errorf("%d changes around a bound", changes)
	}
	take(20, .2)
	if g.group != Poor || changes > 3 {
		t.Errorf("a bad path: %v, %v after %d changes", g.score(), g.group, changes)
	}
	take(3, 0)
	if g.group == Good {
		t.Error("three good reports are proof enough")
	}
	take(20, 0)
	if g.group != Good || changes > 5 {
		t.Errorf("mended: %v, %v after %d changes", g.score(), g.group, changes)
	}
}
