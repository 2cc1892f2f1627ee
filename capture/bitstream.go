package capture

// Bitstream makes frames of the access units of one encoded video stream. It
// keeps what a decoder must have before it can begin (parameter sets, a
// sequence header) and puts it in front of keyframes that lack it, so that
// each can be decoded alone. One belongs to one track and is not safe for
// concurrent use.
type Bitstream struct {
	params params
	pack   *Packetizer
}

// params is what is known of a stream by its own words.
type params interface {
	// Observe looks at an access unit, or at what was said out of band.
	Observe(unit [][]byte) (changed bool, err error)
	// Track describes the stream, once enough is known.
	Track() (Track, bool)
	// Complete gives the unit with what it needs to be decoded alone.
	Complete(unit [][]byte) [][]byte
}

// NewBitstream makes one for a video codec, or says with [CodeCodec] that
// there is none.
func NewBitstream(c Codec) (*Bitstream, error) {
	pack, err := NewPacketizer(c)
	if err != nil {
		return nil, err
	}
	b := &Bitstream{pack: pack}
	switch c {
	case H264:
		b.params = &H264Params{}
	case H265:
		b.params = &H265Params{}
	case VP8, VP9:
		b.params = &vpParams{codec: c}
	case AV1:
		b.params = &av1Params{}
	default:
		return nil, Errorf(CodeCodec, "%s is no video", string(c))
	}
	return b, nil
}

// Observe takes in an access unit (the NAL units of H.264 or H.265, one frame
// of VP8 or VP9, the OBUs of AV1) or what was said out of band. It does not
// retain unit. What cannot be parsed is an error with [CodeProtocol].
func (b *Bitstream) Observe(unit [][]byte) error {
	_, err := b.params.Observe(unit)
	return err
}

// Track describes the stream as of the last Observe, as layer 0; false while
// too little is known, before the first keyframe at the latest.
func (b *Bitstream) Track() (Track, bool) { return b.params.Track() }

// Reorders tells whether the stream says that its pictures are shown in
// another order than they are decoded in, as with B-frames. Only H.265 says.
func (b *Bitstream) Reorders() bool {
	p, ok := b.params.(*H265Params)
	return ok && p.Reorders()
}

// Pack cuts an access unit, which Observe has had, and sets Payloads and
// Keyframe of dst, reusing dst.Payloads. The payloads alias unit and b's
// memory. A unit with nothing to send leaves Payloads empty; one that makes
// no sense is an error with [CodeProtocol].
func (b *Bitstream) Pack(unit [][]byte, dst *Frame) error {
	return b.pack.Unit(b.params.Complete(unit), dst)
}
