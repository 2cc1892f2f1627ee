package signaling

import (
	"reflect"
	"time"

	"edged/capture"
	"edged/forward"
)

// Cameras is what this package asks of the running cameras. All methods may
// be called from many goroutines at once and return at once.
type Cameras interface {
	// IDs lists the cameras in the order of the configuration.
	IDs() []string
	// Camera gives a camera's state and its stream; the stream is nil while
	// the camera has none. ok is false where there is no such camera.
	Camera(id string) (state capture.State, stream *forward.Stream, ok bool)
	// Subscribe has changed called, from any goroutine, after each change of
	// any camera's state or of the list. changed returns at once. cancel ends
	// it; a call may still be under way when cancel returns.
	Subscribe(changed func()) (cancel func())
}

// Camera is a camera as clients see it.
type Camera struct {
	ID        string                  `json:"id"`
	Kind      string                  `json:"kind"`
	State     capture.Phase           `json:"state"`
	Since     time.Time               `json:"since"`
	LastError *CameraError            `json:"last_error,omitempty"` // why it is not live
	Faults    []LayerError            `json:"faults,omitempty"`     // layers in trouble while it is live
	Encoder   string                  `json:"encoder,omitempty"`
	Input     *Input                  `json:"input,omitempty"` // of a camera that is a device of the box
	Codec     capture.Codec           `json:"codec,omitempty"` // of the best layer
	Width     int                     `json:"width,omitempty"`
	Height    int                     `json:"height,omitempty"`
	FPS       float64                 `json:"fps"`
	Bitrate   float64                 `json:"bitrate"` // bits/s of all tracks
	Layers    []Layer                 `json:"layers"`
	Audio     *Layer                  `json:"audio,omitempty"`       // its sound
	NoAudio   *CameraError            `json:"audio_error,omitempty"` // why it has none, where it is to have
	Viewers   int                     `json:"viewers"`
	LastFrame *time.Time              `json:"last_frame,omitempty"`
	Restarts  map[capture.Code]uint64 `json:"restarts,omitempty"`
	Keyframes uint64                  `json:"keyframes"` // asked of the source

	Placeholder bool    `json:"placeholder,omitempty"` // viewers see a notice in the place of pictures
	Motion      *Motion `json:"motion,omitempty"`      // nil: not looked for, or nothing was seen yet
}

// Motion is whether something moves in a camera's scene.
type Motion struct {
	By     string     `json:"by"`               // pictures, keyframes or nothing
	Reason string     `json:"reason,omitempty"` // why nothing
	Active bool       `json:"active"`
	Since  *time.Time `json:"since,omitempty"` // when active changed last
}

// Input is what a device delivers.
type Input struct {
	Mode    string   `json:"mode"`    // for people: "YUYV 1280 × 720 at 30/s"
	Lost    uint64   `json:"lost"`    // pictures that it counted and that did not come
	Damaged uint64   `json:"damaged"` // pictures that came damaged
	Unmet   []string `json:"unmet,omitempty"`
}

// CameraError is why a camera is not live.
type CameraError struct {
	Code   capture.Code `json:"code"`
	Detail string       `json:"detail"`
}

// LayerError is why one layer has no pictures.
type LayerError struct {
	Layer  int          `json:"layer"`
	Code   capture.Code `json:"code"`
	Detail string       `json:"detail"`
}

// Layer is one encoding of a camera, or its sound.
type Layer struct {
	Layer   int           `json:"layer"`
	Codec   capture.Codec `json:"codec"`
	Fmtp    string        `json:"fmtp,omitempty"`
	Width   int           `json:"width,omitempty"`
	Height  int           `json:"height,omitempty"`
	Spared  bool          `json:"spared,omitempty"` // nobody watches it, so that it may have no pictures
	FPS     float64       `json:"fps"`
	Bitrate float64       `json:"bitrate"`          // bits/s
	Target  int           `json:"target,omitempty"` // bits/s that the box's encoder is set to now
	Frames  uint64        `json:"frames"`
	Bytes   uint64        `json:"bytes"`
}

// Describe makes the clients' form of a camera; stream may be nil.
func Describe(st capture.State, stream *forward.Stream) Camera {
	c := Camera{
		ID: st.ID, Kind: st.Kind, State: st.Phase, Since: st.Since.UTC(), Encoder: st.Encoder,
		Layers: []Layer{}, Restarts: st.Restarts, Keyframes: st.Keyframes, Placeholder: st.Placeholder,
	}
	if in := st.Input; in.Mode != "" {
		c.Input = &Input{in.Mode, in.Lost, in.Damaged, in.Unmet}
	}
	if st.Code != "" {
		c.LastError = &CameraError{st.Code, st.Reason}
	}
	if st.Sound.Code != "" {
		c.NoAudio = &CameraError{st.Sound.Code, st.Sound.Reason}
	}
	for _, f := range st.Faults {
		c.Faults = append(c.Faults, LayerError{f.Layer, f.Code, f.Reason})
	}
	if !st.LastFrame.IsZero() {
		t := st.LastFrame.UTC()
		c.LastFrame = &t
	}
	c.Motion = describeMotion(st.Motion)
	for i, t := range st.Tracks {
		l := Layer{
			Layer: t.Layer, Codec: t.Codec, Fmtp: t.Fmtp, Width: t.Width, Height: t.Height, Spared: at(st.Unwanted, i),
			FPS: at(st.FPS, i), Bitrate: at(st.Bitrate, i), Target: at(st.Target, i), Frames: at(st.Frames, i), Bytes: at(st.Bytes, i),
		}
		c.Bitrate += l.Bitrate
		if t.Kind == capture.Audio {
			c.Audio = &l
			continue
		}
		if c.Codec == "" || t.Layer == 0 {
			c.Codec, c.Width, c.Height, c.FPS = l.Codec, l.Width, l.Height, l.FPS
		}
		c.Layers = append(c.Layers, l)
	}
	if stream != nil {
		c.Viewers = len(stream.Stats().Viewers)
	}
	return c
}

func describeMotion(m capture.Motion) *Motion {
	if m.By == "" {
		return nil
	}
	out := &Motion{By: m.By, Reason: m.Reason, Active: m.Active}
	if !m.Since.IsZero() {
		since := m.Since.UTC()
		out.Since = &since
	}
	return out
}

// at is s[i], or zero where the slice is shorter.
func at[T any](s []T, i int) (v T) {
	if i < len(s) {
		v = s[i]
	}
	return v
}

// sameState tells whether two cameras differ in figures at most, which change
// with every frame and are no news.
func sameState(a, b Camera) bool {
	return reflect.DeepEqual(a.still(), b.still())
}

// still is the camera without its moving figures.
func (c Camera) still() Camera {
	c.FPS, c.Bitrate, c.Viewers, c.LastFrame, c.Restarts, c.Keyframes = 0, 0, 0, nil, nil, 0
	if c.Input != nil {
		c.Input = &Input{Mode: c.Input.Mode, Unmet: c.Input.Unmet}
	}
	layers := make([]Layer, len(c.Layers))
	for i, l := range c.Layers {
		layers[i] = l.still()
	}
	c.Layers = layers
	if c.Audio != nil {
		a := c.Audio.still()
		c.Audio = &a
	}
	return c
}

func (l Layer) still() Layer {
	l.FPS, l.Bitrate, l.Target, l.Frames, l.Bytes, l.Spared = 0, 0, 0, 0, 0, false
	return l
}
