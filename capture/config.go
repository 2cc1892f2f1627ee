package capture

import "time"

// Config is one camera's entry of the configuration. Two equal values mean
// that the camera need not restart.
type Config struct {
	ID       string // [a-z0-9][a-z0-9-]{0,31}
	Source   string // a URL: rtsp(s)://, v4l2:DEVICE|auto, rpicam:N, file:PATH, pattern:, whip:
	Sub      string // rtsp(s) sources: the URL of a second, smaller encoding of the scene, layer 1; empty: none
	Username string
	Password Secret
	// TLSFingerprint is the SHA-256 of the certificate of an rtsps camera, in
	// hexadecimal: that one alone is trusted; empty: the system's authorities.
	TLSFingerprint string
	Video          VideoConfig
	RPiCam         RPiCamConfig
	Audio          AudioConfig
	Controls       Controls // v4l2 sources

	Placeholder PlaceholderConfig
	Motion      MotionConfig
}

// MotionConfig says whether, and by what, motion in the scene is noticed.
type MotionConfig struct {
	Enabled   bool
	Threshold int // steps of luma by which a place must differ
	Blocks    int // blocks of the grid that must have changed
}

// AudioConfig says what becomes of a camera's sound.
type AudioConfig struct {
	Enabled bool   // it is delivered, where the camera has any
	Device  string // of sources without sound of their own: "auto", the microphone in the camera, or hw:CARD,DEVICE; empty: auto
}

// PlaceholderConfig is what viewers see while the camera has no picture.
type PlaceholderConfig struct {
	Disabled bool          // the last picture
	After    time.Duration // without pictures; 0: [PlaceholderAfter]
}

// VideoConfig is what is encoded on the box; sources that deliver encoded
// pictures ignore it.
type VideoConfig struct {
	Width   int    // pixels
	Height  int    // pixels
	FPS     int    // frames a second
	Bitrate int    // bits a second, of the best layer
	Encoder string // EncoderAuto, which "" is, or another of those
	Layers  int    // encodings of the scene, each half as wide and high as the one before; 0: 1
}

// RPiCamConfig is what rpicam: sources set of the camera. Words are those of
// the tables below; empty and 0 are the defaults.
type RPiCamConfig struct {
	Flip     string
	Exposure string
	Shutter  int // microseconds; 0: as bright as it should be
	AWB      string
	Focus    string // of cameras that have a motor
}

// The words of [RPiCamConfig], the default first.
var (
	RPiCamFlips     = []string{"none", "horizontal", "vertical", "both"}
	RPiCamExposures = []string{"normal", "sport"}
	RPiCamAWBs      = []string{"auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy"}
	RPiCamFocuses   = []string{"default", "manual", "auto", "continuous"}
)

// What may encode.
const (
	EncoderAuto     = "auto"     // the box's own while it works, else OpenH264
	EncoderOpenH264 = "openh264" // in software
	EncoderM2M      = "v4l2m2m"  // of the box's chip, by the kernel's memory-to-memory interface
)

// The least picture of a layer below the first, in pixels: smaller, nobody
// sees anything.
const (
	MinLayerWidth  = 64
	MinLayerHeight = 32
)

// LayerSize is the size in pixels of a layer that is made on the box from a
// picture of width × height: halved for each layer and rounded down to even.
// ok is false where that is too small.
func LayerSize(width, height, layer int) (w, h int, ok bool) {
	for range layer {
		width, height = width/2&^1, height/2&^1
	}
	return width, height, layer == 0 || width >= MinLayerWidth && height >= MinLayerHeight
}

// Secret is a text that is never printed, logged or marshalled.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "***" }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
