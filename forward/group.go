package forward

import "time"

// Group says how good the path to a viewer is, for all that need not know
// more. Better groups are less.
type Group uint8

// The groups.
const (
	Good Group = iota
	Fair
	Poor
)

func (g Group) String() string {
	switch g {
	case Good:
		return "good"
	case Fair:
		return "fair"
	}
	return "poor"
}

// What a score loses by: a path is as bad as its loss, its round trip and its
// jitter make the picture. Each alone can make it poor.
const (
	lossPoint   = 0.002                  // of the packets: 2 % is repaired unseen, 20 % hardly
	rttFree     = 50 * time.Millisecond  // up to here a resend is in time
	rttPoint    = 4 * time.Millisecond   // beyond
	jitterFree  = 10 * time.Millisecond  // up to here the player's buffer need not grow
	jitterPoint = 600 * time.Microsecond // beyond
	mostPoints  = 70                     // that round trip or jitter cost
)

// score rates a path from 0 to 100 by what receiver reports say: the fraction
// of packets lost, the round trip, the jitter. It is pure.
func score(loss float64, rtt, jitter time.Duration) float64 {
	s := 100 - loss/lossPoint
	s -= min(mostPoints, max(0, float64(rtt-rttFree)/float64(rttPoint)))
	s -= min(mostPoints, max(0, float64(jitter-jitterFree)/float64(jitterPoint)))
	return min(100, max(0, s))
}

const (
	fairBelow   = 80.0
	poorBelow   = 50.0
	groupMargin = 5.0 // beyond a bound, before a viewer changes its group
	scoreWeight = 0.3 // of a new report: groups follow what lasts for some seconds
)

// grader keeps the score and the group of one viewer, with hysteresis. The
// zero value has heard nothing yet.
type grader struct {
	heard bool
	now   float64
	group Group
}

// score is from 0 to 100; a viewer of whom nothing was heard has a good path.
func (g *grader) score() float64 {
	if !g.heard {
		return 100
	}
	return g.now
}

// take notes a report.
func (g *grader) take(loss float64, rtt, jitter time.Duration) {
	g.now = g.score() + scoreWeight*(score(loss, rtt, jitter)-g.score())
	g.heard = true
	switch worse, better := groupOf(g.now+groupMargin), groupOf(g.now-groupMargin); {
	case worse > g.group:
		g.group = worse
	case better < g.group:
		g.group = better
	}
}

func groupOf(score float64) Group {
	switch {
	case score < poorBelow:
		return Poor
	case score < fairBelow:
		return Fair
	}
	return Good
}
