package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Audience is a number of viewers of one endpoint.
type Audience struct {
	viewers []*Viewer
	pause   time.Duration // between two joins

	mu       sync.Mutex
	failures []string
}

// NewAudience makes n viewers that join at a rate a second. step is as in
// NewViewer.
func NewAudience(n int, rate float64, url, token string, step uint32) *Audience {
	a := &Audience{pause: time.Duration(float64(time.Second) / rate)}
	for range n {
		a.viewers = append(a.viewers, NewViewer(url, token, step))
	}
	return a
}

// Run lets the viewers join one after the other and receive until ctx is
// done; it returns when all have left. A viewer that fails does not end the
// others: see Snapshot.Failures.
func (a *Audience) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(a.pause)
	defer tick.Stop()
	for _, v := range a.viewers {
		all.Go(func() {
			if err := v.Run(ctx); err != nil && ctx.Err() == nil {
				a.mu.Lock()
				a.failures = append(a.failures, err.Error())
				a.mu.Unlock()
			}
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// Snapshot is an audience at one moment.
type Snapshot struct {
	Time     time.Time
	Viewers  []Counts
	Joined   []time.Duration // of those who have a decodable keyframe
	Answered []time.Duration // of those who have an answer
	Profiles map[string]int  // viewers by SRTP profile
	Failures []string
}

// Snapshot reads all counters now.
func (a *Audience) Snapshot() Snapshot {
	s := Snapshot{Time: time.Now(), Profiles: map[string]int{}}
	a.mu.Lock()
	s.Failures = slices.Clone(a.failures)
	a.mu.Unlock()
	for _, v := range a.viewers {
		s.Viewers = append(s.Viewers, v.Counts())
		if d := v.Joined(); d > 0 {
			s.Joined = append(s.Joined, d)
			s.Profiles[v.Profile()]++
		}
		if d := v.Answered(); d > 0 {
			s.Answered = append(s.Answered, d)
		}
	}
	return s
}

// Total sums the viewers' counts.
func (s Snapshot) Total() (t Counts) {
	for _, c := range s.Viewers {
		t = t.Add(c)
	}
	return t
}

// Quantile gives the q-quantile (0..1) of values, by the nearest rank; 0 of none.
func Quantile[T int | int64 | float64 | time.Duration](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	v := slices.Clone(values)
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}
