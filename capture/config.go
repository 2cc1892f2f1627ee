package capture

// Config is one camera's entry of the configuration. Two equal values mean
// that the camera need not restart.
type Config struct {
	ID       string // [a-z0-9][a-z0-9-]{0,31}
	Source   string // a URL: rtsp(s)://, v4l2:DEVICE|auto, file:PATH, pattern:
	Username string
	Password Secret
	Video    VideoConfig
}

// VideoConfig is what is encoded on the box; sources that deliver encoded
// pictures ignore it.
type VideoConfig struct {
	Width   int // pixels
	Height  int // pixels
	FPS     int // frames a second
	Bitrate int // bits a second
}

// Secret is a text that is never printed, logged or marshalled.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "***" }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
