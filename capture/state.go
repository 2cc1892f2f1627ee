package capture

import "time"

// Phase is where a camera is in its life.
type Phase string

// The phases.
const (
	Starting Phase = "starting" // first attempt, no frame yet
	Live     Phase = "live"     // frames advance
	Stalled  Phase = "stalled"  // connected, frames stopped; about to restart
	Offline  Phase = "offline"  // the last attempt failed; another follows
	Waiting  Phase = "waiting"  // for pictures that others send to the box; they may come at any moment
	Unmet    Phase = "unmet"    // cannot work on this box or build (no encoder, no such driver); still retried, slowly
)

// State is a camera as seen from outside, at one moment.
type State struct {
	ID        string
	Kind      string // the source's scheme: rtsp, v4l2, file, pattern, whip
	Phase     Phase
	Since     time.Time       // when the phase began
	Code      Code            // why it is not live; empty while starting or live
	Reason    string          // the same for people, without secrets
	Encoder   string          // what encodes: "OpenH264 …", or "camera" for pass-through; empty before the first frame
	Tracks    []Track         // as last described
	LastFrame time.Time       // zero before the first
	Frames    []uint64        // by track, since the process started
	Bytes     []uint64        // payload bytes by track
	FPS       []float64       // by track, over the last seconds
	Bitrate   []float64       // bits/s by track, over the last seconds
	Target    []int           // bits/s by track that the box's encoder is set to now; 0: the camera encodes
	Restarts  map[Code]uint64 // failures by reason
	Keyframes uint64          // keyframes asked of the source
	Dropped   uint64          // frames refused because they break Sink's contract
	Unwanted  []bool          // by track: nobody watches the layer, so that it may have no frames
	Faults    []LayerFault    // layers in trouble while the camera is live, by layer
	Sound     SoundFault      // why a camera that is to have sound has none; zero: it has, or is not to
	Input     Input           // of the device, where the source tells

	Placeholder bool   // viewers see a notice in the place of pictures
	Motion      Motion // filled in by who looks for it
}

// Motion is what is known of motion in a scene.
type Motion struct {
	By     string    // what is looked at: "pictures" or "keyframes"; "nothing" where it cannot be; empty: not enabled, or nothing yet
	Reason string    // why nothing can be
	Active bool      // something moves
	Since  time.Time // when Active became what it is
}

// SoundFault is why a camera has no sound.
type SoundFault struct {
	Code   Code
	Reason string // for people, without secrets
}

// LayerFault is why one layer of a camera has no frames.
type LayerFault struct {
	Layer  int
	Code   Code
	Reason string // for people, without secrets
}
