package uplink

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("away")

func testPace(servers int, random float64) *pace {
	p := newPace(servers)
	p.rand = func() float64 { return random }
	return p
}

func TestPaceBacksOffAfterEachRound(t *testing.T) {
	p := testPace(1, 1)
	now := time.Unix(0, 0)
	want := []time.Duration{2, 4, 8, 16, 32, 64, 120, 120, 120}
	for i, w := range want {
		if got := p.after(now, outcome{err: errAway}); got != w*time.Second {
			t.Errorf("failure %d: wait %v, want %v", i, got, w*time.Second)
		}
	}
	if got := p.after(now, outcome{err: errAway, lived: time.Minute}); got != 2*time.Second {
		t.Errorf("after a good connection: wait %v, want 2s", got)
	}
	p.rand = func() float64 { return 0 }
	if got := p.after(now, outcome{err: errAway}); got != time.Second {
		t.Errorf("least jitter: wait %v, want 1s", got)
	}
}

func TestPaceTriesServersInTurn(t *testing.T) {
	p := testPace(3, 1)
	now := time.Unix(0, 0)
	var order []int
	var waits []time.Duration
	for range 6 {
		order = append(order, p.server)
		waits = append(waits, p.after(now, outcome{err: errAway}))
	}
	if got, want := order, []int{0, 1, 2, 0, 1, 2}; !equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if want := []time.Duration{0, 0, 2 * time.Second, 0, 0, 4 * time.Second}; !equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestPaceAfterRefusal(t *testing.T) {
	now := time.Unix(0, 0)
	no := outcome{err: errAway, refused: true}

	p := testPace(1, 0)
	if got := p.after(now, no); got != 300*time.Second {
		t.Errorf("one server that refuses: wait %v, want 300s", got)
	}
	p = testPace(1, 1)
	if got := p.after(now, no); got != 330*time.Second {
		t.Errorf("most jitter: wait %v, want 330s", got)
	}

	p = testPace(2, 0) // the first refuses, the second is away
	p.after(now, no)
	if got := p.after(now, outcome{err: errAway}); got != time.Second || p.server != 1 {
		t.Errorf("wait %v for server %d, want 1s for server 1", got, p.server)
	}
	p.kicked()
	if p.server != 0 || p.after(now, outcome{err: errAway}) != 0 || p.server != 1 {
		t.Error("a kick does not begin again with all servers")
	}

	p = testPace(2, 0) // both refuse, at different times
	p.after(now, no)
	if got := p.after(now.Add(10*time.Second), no); got != 290*time.Second || p.server != 0 {
		t.Errorf("wait %v for server %d, want 290s for server 0", got, p.server)
	}
}

func TestSupervise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		kick := make(chan struct{}, 1)
		began := time.Now()
		var at []time.Duration
		outcomes := []outcome{{err: errAway}, {err: errAway, refused: true}, {err: errAway}, {}}
		p := testPace(1, 1)
		p.supervise(ctx, kick, func(context.Context, int) outcome {
			at = append(at, time.Since(began))
			o := outcomes[len(at)-1]
			if len(at) == len(outcomes) {
				cancel()
			}
			return o
		}, func(o outcome, wait time.Duration) {
			if o.err == nil {
				t.Error("the end was reported as a failure")
			}
			if o.refused { // an address changes 40 s into the long wait
				time.AfterFunc(40*time.Second, func() { kick <- struct{}{} })
			}
		})
		want := []time.Duration{0, 2 * time.Second, 42 * time.Second, 44 * time.Second}
		if !equal(at, want) {
			t.Errorf("tried at %v, want %v", at, want)
		}
	})
}

func TestSuperviseEndsInAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		testPace(1, 1).supervise(ctx, nil,
			func(context.Context, int) outcome { return outcome{err: errAway, refused: true} },
			func(outcome, time.Duration) {})
		if d := time.Since(began); d != time.Minute {
			t.Errorf("ended after %v, want 1m", d)
		}
	})
}
