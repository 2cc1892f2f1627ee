package encode

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"sync"
	"time"

	"edged/capture"
)

// Stream is the way of a picture from a camera that does not encode to the
// sink: scaled once for each further layer from the layer above, encoded by
// an encoder of the layer's own, cut into packets. One goroutine calls
// Deliver.
type Stream struct {
	sink      capture.Sink
	show      capture.PictureSink // the same, where it takes pictures; else nil
	control   *Control
	layers    []*layer
	tracks    []capture.Track // of all layers; empty before the first picture
	start     time.Time
	pace      pace
	described bool
	lower     sync.WaitGroup // the layers below the first, of one picture
	below     struct {       // what its goroutine does, kept so that none of it is allocated for each picture
		do       func()
		img      *image.YCbCr
		layers   []*layer
		captured time.Time
	}
}

// layer is one encoding. The goroutine that encodes a picture owns it until
// the picture is done.
type layer struct {
	cfg    Config
	enc    Encoder
	name   string // of enc, as last told
	pack   *capture.Packetizer
	params capture.H264Params
	img    *image.YCbCr // scaled to this layer; nil for layer 0
	paused bool         // left out the last picture
	active bool         // has this one
	target int          // bits/s that enc is set to

	unit  Unit // of this picture
	err   error
	nalus [][]byte
	frame capture.Frame
}

// NewStream makes the encoders of 1 to [capture.MaxLayers] layers and what
// follows them; see [Layers] for their sizes and bitrates. Where the picture
// is too small for as many, the sink hears why and the stream has fewer.
func NewStream(cfg Config, layers int, sink capture.Sink, control *Control) (*Stream, error) {
	s := &Stream{sink: sink, control: control, pace: pace{fps: cfg.FPS}}
	s.below.do = s.encodeBelow
	s.show, _ = sink.(capture.PictureSink)
	configs := Layers(cfg, max(layers, 1))
	for i, c := range configs {
		l, err := newLayer(c, i)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.layers = append(s.layers, l)
	}
	s.tracks = make([]capture.Track, len(s.layers))
	if missing, ok := sink.(capture.LayerSink); ok {
		for i := len(configs); i < min(layers, capture.MaxLayers); i++ {
			missing.LayerFailed(i, capture.Errorf(capture.CodeEncoder, "a picture of %d × %d is too small for more than %d layers: the smallest has %d × %d at least",
				cfg.Width, cfg.Height, len(configs), capture.MinLayerWidth, capture.MinLayerHeight))
		}
	}
	return s, nil
}

func newLayer(c Config, i int) (*layer, error) {
	pack, err := capture.NewPacketizer(capture.H264)
	if err != nil {
		return nil, err
	}
	enc, err := New(c)
	if err != nil {
		return nil, err
	}
	l := &layer{cfg: c, enc: enc, pack: pack, target: c.Bitrate, frame: capture.Frame{Track: i}}
	if i > 0 {
		l.img = image.NewYCbCr(image.Rect(0, 0, c.Width, c.Height), image.YCbCrSubsampleRatio420)
	}
	return l, nil
}

// Deliver encodes one picture in all layers that are wanted and hands them to
// the sink, the best first, before it returns. All carry the same RTP time
// and time of capture. The layers below the first are encoded on another
// core, so that they do not delay it.
func (s *Stream) Deliver(img *image.YCbCr, captured time.Time) error {
	if s.start.IsZero() {
		s.start = captured
	}
	if s.show != nil {
		defer s.show.Picture(img, captured) // after the frames, which do not wait for it
	}
	rtpTime := uint32(captured.Sub(s.start).Microseconds() * 9 / 100)
	s.choose()
	if fps := s.pace.next(captured); fps > 0 {
		for _, l := range s.layers {
			l.enc.SetFrameRate(fps)
		}
	}
	top, rest := s.layers[0], s.layers[1:]
	if lowest := s.lowest(); lowest > 0 {
		s.below.img, s.below.layers, s.below.captured = img, rest[:lowest], captured
		s.lower.Add(1)
		go s.below.do()
	}
	if top.active {
		top.encode(img, captured)
	}
	if !s.described || !top.active || top.err != nil {
		s.lower.Wait()
		return s.deliver(s.layers, rtpTime)
	}
	err := s.deliver(s.layers[:1], rtpTime)
	s.lower.Wait()
	return errors.Join(err, s.deliver(rest, rtpTime))
}

// choose decides which layers get this picture: the first has all, so that
// all are described; then those that are wanted; of none the smallest.
func (s *Stream) choose() {
	none := true
	for i, l := range s.layers {
		l.active = !s.described || !s.control.layers[i].unwanted.Load()
		none = none && !l.active
	}
	if none {
		s.layers[len(s.layers)-1].active = true
	}
	for i, l := range s.layers {
		asked := l.active && s.control.layers[i].keyframe.Swap(false)
		if l.active && (asked || l.paused || !s.described) {
			l.enc.ForceKeyframe()
		}
		l.paused = !l.active
		l.follow(int(s.control.layers[i].bitrate.Load()))
	}
}

// follow sets the encoder to a bitrate, at most the configured one, which 0 is.
func (l *layer) follow(bitrate int) {
	if bitrate == 0 {
		bitrate = l.cfg.Bitrate
	}
	if bitrate = min(bitrate, l.cfg.Bitrate); bitrate != l.target {
		l.target = bitrate
		l.enc.SetBitrate(bitrate)
	}
}

// lowest is the last layer that gets this picture.
func (s *Stream) lowest() int {
	for i := len(s.layers) - 1; i > 0; i-- {
		if s.layers[i].active {
			return i
		}
	}
	return 0
}

// encodeBelow scales the picture from layer to layer and encodes it in those
// that are active.
func (s *Stream) encodeBelow() {
	defer s.lower.Done()
	img := s.below.img
	for _, l := range s.below.layers {
		halve(l.img, img)
		if img = l.img; l.active {
			l.encode(img, s.below.captured)
		}
	}
}

// encode leaves the unit, or what is wrong, in l.
func (l *layer) encode(img *image.YCbCr, captured time.Time) {
	l.unit, l.err = l.enc.Encode(img, captured)
	l.nalus = l.nalus[:0]
	if l.err != nil {
		return
	}
	l.nalus = capture.SplitAnnexB(l.nalus, l.unit.Data)
	l.pack.H264(l.params.Complete(l.nalus), &l.frame)
}

// deliver hands the pictures of layers to the sink, whatever is new about
// their tracks first.
func (s *Stream) deliver(layers []*layer, rtpTime uint32) error {
	changed := false
	for _, l := range layers {
		if !l.active {
			continue
		}
		if l.err != nil {
			return fmt.Errorf("layer %d: %w", l.frame.Track, l.err)
		}
		if len(l.nalus) > 0 && l.frame.Keyframe {
			track, err := l.observe()
			if err != nil {
				return err
			}
			name := l.enc.Name()
			changed = changed || track != s.tracks[l.frame.Track] || name != l.name
			s.tracks[l.frame.Track], l.name = track, name
		}
	}
	if changed && !slices.ContainsFunc(s.tracks, func(t capture.Track) bool { return t.Codec == "" }) {
		s.described = true
		s.control.encoder.Store(new(s.encoder()))
		s.sink.Describe(s.tracks)
	}
	if !s.described {
		return nil // an encoder left out the first picture: the next is a keyframe again
	}
	for _, l := range layers {
		if l.active && len(l.nalus) > 0 {
			l.frame.Captured, l.frame.RTPTime = l.unit.Captured, rtpTime
			s.sink.Frame(&l.frame)
		}
	}
	return nil
}

// encoder is what encodes: the best layer, and those that differ from it.
func (s *Stream) encoder() string {
	name := s.layers[0].name
	for i, l := range s.layers[1:] {
		if l.name != s.layers[0].name {
			name += fmt.Sprintf("; layer %d: %s", i+1, l.name)
		}
	}
	return name
}

// observe reads the parameter sets of a keyframe.
func (l *layer) observe() (capture.Track, error) {
	if _, err := l.params.Observe(l.nalus); err != nil {
		return capture.Track{}, capture.Errorf(capture.CodeEncoder, "%s: %w", l.enc.Name(), err)
	}
	track, ok := l.params.Track()
	if !ok {
		return capture.Track{}, capture.Errorf(capture.CodeEncoder, "%s: a keyframe without SPS", l.enc.Name())
	}
	track.Layer, track.Bitrate = l.frame.Track, l.cfg.Bitrate
	return track, nil
}

// Close frees the encoders.
func (s *Stream) Close() error {
	var errs []error
	for _, l := range s.layers {
		errs = append(errs, l.enc.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("encoder: %w", err)
	}
	return nil
}
