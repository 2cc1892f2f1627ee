package uplink

import "time"

// Sample is what the box knows at one moment. Counters only rise while the
// thing they count lives; one that falls is taken as started again.
type Sample struct {
	Cameras []CameraSample
	Forward ForwardSample
	TURN    TURNSample
	Link    LinkSample // filled in by the uplink
	Host    HostSample // filled in by the uplink
}

// CameraSample is one camera.
type CameraSample struct {
	ID        string
	State     string // capture's phase: starting, live, stalled, offline, unmet
	Code      string // why it is not live
	Frames    uint64 // counter
	Bytes     uint64 // counter
	Restarts  uint64 // counter
	Keyframes uint64 // counter, asked of the source
	Viewers   int
}

// ForwardSample is the SFU.
type ForwardSample struct {
	Packets, Bytes uint64          // counters
	NACKs, RTX     uint64          // counters
	PLIs           uint64          // counter
	Dropped        uint64          // counter, frames
	Viewers        int             //
	Loss           []float64       // of each viewer, fraction
	RTT            []time.Duration // of each viewer that has one
	Join           Histogram       // seconds
	Delay          Histogram       // seconds
}

// TURNSample is the relay.
type TURNSample struct {
	Allocations           int
	RelayedIn, RelayedOut uint64 // counters, bytes
	AuthFailures          uint64 // counter
	DeniedPeers           uint64 // counter
}

// LinkSample is the connection to the broker.
type LinkSample struct {
	Connected bool
	Connects  uint64 // counter
}

// Histogram has cumulative-ready counts: Counts[i] observations ≤ Bounds[i]
// (and above Bounds[i-1]); the last count is of those above all bounds.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
}
