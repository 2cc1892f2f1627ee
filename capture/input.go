package capture

import "context"

// Awaiter is a [Source] that hears of it when its camera may be back.
type Awaiter interface {
	// Await blocks until an attempt is worth while, or until ctx is done. It
	// is called between two runs, while the camera waits before it tries
	// again, and leaves nothing running.
	Await(ctx context.Context)
}

// Input is what is known of the device behind a source.
type Input struct {
	Mode    string   // what it delivers: "YUYV 1280 × 720 at 30/s"; empty before it was open
	Lost    uint64   // pictures that it counted and that did not come
	Damaged uint64   // pictures that came damaged, and were left out
	Unmet   []string // settings that it does not have or take, with the reason for people
}

// Inputter is a [Source] that tells of its device.
type Inputter interface {
	// Input returns at once; any goroutine may call it at any time.
	Input() Input
}
