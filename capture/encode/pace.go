package encode

import (
	"math"
	"time"
)

// paceWindow is what a frame rate is measured over.
const paceWindow = 3 * time.Second

// pace measures at which rate pictures really come: a camera in the dark
// exposes for longer than the time of a frame, and an encoder that waits for
// more would leave half of its bits unused.
type pace struct {
	fps      int       // as last told
	since    time.Time // of this window
	pictures int
}

// next takes the time of a picture. It returns the rate where that has changed
// by more than a fifth, else 0.
func (p *pace) next(captured time.Time) int {
	elapsed := captured.Sub(p.since)
	if elapsed < 0 || elapsed > 2*paceWindow { // the first; or a pause, which is no rate
		p.since, p.pictures = captured, 0
		return 0
	}
	p.pictures++
	if elapsed < paceWindow {
		return 0
	}
	fps := max(1, int(math.Round(float64(p.pictures)/elapsed.Seconds())))
	p.since, p.pictures = captured, 0
	if difference := fps - p.fps; 5*max(difference, -difference) <= p.fps {
		return 0
	}
	p.fps = fps
	return fps
}
