package forward

import "time"

// The times and margins by which a viewer's layer follows its estimate. Going
// down is quick, for a link that is too full loses packets; going up takes
// proof, and more of it each time that it failed.
const (
	downMargin = 1.0              // a layer needs its rate times this to be kept …
	upMargin   = 1.2              // … and times this to be taken
	upAfter    = 2 * time.Second  // the estimate must have sufficed for so long
	upAtMost   = 32 * time.Second // upAfter doubles up to this with each step up that did not last
	lasting    = 10 * time.Second // a step up that holds for so long has lasted
)

// Quality is what a viewer asks for.
type Quality string

// The qualities.
const (
	Auto Quality = "auto" // the best layer that the viewer's path takes
	High Quality = "high" // the best layer, whatever the path says
	Low  Quality = "low"  // the lowest layer
	Off  Quality = "off"  // no media; the path stays open
)

// chooser chooses a viewer's layer, with hysteresis. It is pure: it knows
// what next is told, and when.
type chooser struct {
	patience time.Duration // of the next step up; 0: upAfter
	enough   time.Time     // since when the estimate suffices for a step up; zero: it does not
	stepped  time.Time     // when the last step up was made
	margin   float64       // in place of upMargin; 0: that
}

// next chooses among layers, best first, whose rates are in bits/s; a rate of
// 0 is a layer that delivers nothing now. current is the layer in force.
// estimate is what the viewer's path takes, in bits/s; 0: not known, and the
// best layer is taken.
func (c *chooser) next(now time.Time, quality Quality, current int, rates []float64, estimate float64) int {
	best, lowest := -1, current
	for i, r := range rates {
		if r > 0 {
			lowest = i
			if best < 0 {
				best = i
			}
		}
	}
	if best < 0 {
		return current // nothing is delivered: nothing to choose
	}
	switch {
	case quality == Low:
		return lowest
	case quality == High, estimate <= 0:
		return best
	}
	fits := func(margin float64) int {
		for i, r := range rates {
			if r > 0 && r*margin <= estimate {
				return i
			}
		}
		return lowest
	}
	if rates[current] == 0 {
		return fits(downMargin)
	}
	if keep := fits(downMargin); keep > current {
		c.down(now)
		return keep
	}
	if c.margin > 0 {
		return c.up(now, current, fits(c.margin), rates)
	}
	return c.up(now, current, fits(upMargin), rates)
}

// asked notes that a person has asked for another quality: a step up need not
// be waited for, if the estimate suffices now.
func (c *chooser) asked(now time.Time) { *c = chooser{enough: now.Add(-upAfter)} }

// down notes a step down: a step up that did not last makes the next one
// wait longer.
func (c *chooser) down(now time.Time) {
	if !c.stepped.IsZero() && now.Sub(c.stepped) < lasting {
		c.patience = min(upAtMost, 2*max(c.patience, upAfter))
	}
	c.enough, c.stepped = time.Time{}, time.Time{}
}

// up takes the next better layer once the estimate has sufficed for it long
// enough: a step at a time, so that each is proved.
func (c *chooser) up(now time.Time, current, fits int, rates []float64) int {
	if !c.stepped.IsZero() && now.Sub(c.stepped) >= lasting {
		c.patience = 0
	}
	better := current - 1
	for better >= fits && rates[better] == 0 {
		better--
	}
	if better < fits {
		c.enough = time.Time{}
		return current
	}
	if c.enough.IsZero() {
		c.enough = now
	}
	if now.Sub(c.enough) < max(c.patience, upAfter) {
		return current
	}
	c.enough, c.stepped = time.Time{}, now
	return better
}
