package v4l2

import (
	"fmt"
	"slices"
)

// mode is one way in which a device delivers pictures.
type mode struct {
	format        string // as mediadevices calls it
	width, height int
	fps           float64 // 0: the device does not say
}

func (m mode) String() string {
	return fmt.Sprintf("%s %d × %d at %g/s", m.format, m.width, m.height, m.fps)
}

// formats that become 4:2:0 pictures, cheapest first. MJPEG costs more than
// all else together, but over USB 2 it is often the only one at full rate.
var formats = []string{"I420", "NV12", "NV21", "YUYV", "UYVY", "MJPEG"}

// choose takes the mode nearest to what is wanted: size first, then frame
// rate, then the cheapest format. It returns its index, -1 for none.
func choose(modes []mode, want mode) int {
	best := -1
	var least [4]float64
	for i, m := range modes {
		rank := slices.Index(formats, m.format)
		if rank < 0 || m.width < 16 || m.height < 16 {
			continue
		}
		fps := m.fps
		if fps == 0 {
			fps = want.fps
		}
		cost := [4]float64{
			abs(float64(m.width-want.width)) + abs(float64(m.height-want.height)),
			max(0, want.fps-fps-0.5), // 29.97 is as good as 30
			float64(rank),
			max(0, fps-want.fps),
		}
		if best < 0 || slices.Compare(cost[:], least[:]) < 0 {
			best, least = i, cost
		}
	}
	return best
}

func abs(f float64) float64 { return max(f, -f) }
