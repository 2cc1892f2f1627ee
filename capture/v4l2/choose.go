package v4l2

import (
	"fmt"
	"math"
	"slices"

	"edged/capture"
)

// mode is one way in which a device delivers pictures.
type mode struct {
	format        *format
	width, height int
	fps           float64 // 0: the device does not say
}

func (m mode) String() string {
	rate := ""
	if m.fps > 0 {
		rate = fmt.Sprintf(" at %.4g/s", m.fps)
	}
	return fmt.Sprintf("%s %d × %d%s", m.format.name, m.width, m.height, rate)
}

// choose takes the mode nearest to what is wanted among those that usable
// accepts: size first, then frame rate, then the cheapest format. What few
// viewers decode is taken only where there is nothing else. It returns its
// index, -1 for none.
func choose(modes []mode, want mode, usable func(*format) bool) int {
	best := -1
	var least [5]float64
	for i, m := range modes {
		if !usable(m.format) || m.width < 16 || m.height < 16 || m.width > maxSide || m.height > maxSide {
			continue
		}
		fps := m.fps
		if fps == 0 {
			fps = want.fps
		}
		rare := 0.0
		if m.format.codec == capture.H265 {
			rare = 1
		}
		cost := [5]float64{
			rare,
			math.Abs(float64(m.width-want.width)) + math.Abs(float64(m.height-want.height)),
			max(0, want.fps-fps-0.5), // 29.97 is as good as 30
			float64(slices.IndexFunc(formats, func(f format) bool { return f.fourcc == m.format.fourcc })),
			max(0, fps-want.fps),
		}
		if best < 0 || slices.Compare(cost[:], least[:]) < 0 {
			best, least = i, cost
		}
	}
	return best
}
