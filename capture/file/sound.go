package file

import (
	"io"
	"slices"

	"edged/capture"
)

const (
	soundRate = 48000          // Hz, of Opus whatever was encoded (RFC 7587 §4.1)
	soundStep = clockRate / 50 // a packet that begins later than this before the end is left out: the file begins anew
)

// soundTrack reads the first Opus track of an MP4 file (Opus in ISO base
// media file format): a sample is a packet.
type soundTrack struct {
	mp4
	lead  int64 // of its first packet after the first picture
	first int   // the first packet that is heard with pictures
	frame capture.Frame
}

// newSound finds the sound, or says why there is none.
func newSound(f io.ReaderAt, size int64, r reader) (*soundTrack, error) {
	pictures, ok := r.(*mp4)
	if !ok {
		return nil, capture.Errorf(capture.CodeNotFound, "the file has no sound: only an MP4 has any")
	}
	s := &soundTrack{mp4: mp4{f: f, size: size, handler: "soun"}}
	if err := s.load(); err != nil {
		return nil, err
	}
	s.lead = s.index[0].at + s.begin - (pictures.index[0].at + pictures.begin)
	for s.first < len(s.index) && s.after(s.first) <= -soundStep {
		s.first++
	}
	s.n = s.first
	s.frame = capture.Frame{Track: 1, Keyframe: true, Payloads: make([][]byte, 1)}
	return s, nil
}

// soundEntry takes the sample description of a sound track, or names what is
// not Opus.
func (r *mp4) soundEntry(entry box) (other string) {
	if entry.kind != "Opus" {
		return entry.kind
	}
	return ""
}

// noSound says what a file has instead of Opus.
func noSound(tracks []string) error {
	others := slices.DeleteFunc(tracks, func(kind string) bool { return kind == "vide" })
	if len(others) == 0 {
		return capture.Errorf(capture.CodeNotFound, "the file has no sound")
	}
	return capture.Errorf(capture.CodeCodec, "the file's sound is %q, which is not forwarded: only Opus is", others)
}

// due is the time of the next packet after the first picture; false after
// the last.
func (s *soundTrack) due() (at int64, ok bool) {
	if s == nil || s.n == len(s.index) {
		return 0, false
	}
	return s.after(s.n), true
}

// after is when a packet begins after the first picture; less than 0: before.
func (s *soundTrack) after(n int) int64 { return s.index[n].at - s.index[0].at + s.lead }

// rewind goes back to the first packet.
func (s *soundTrack) rewind() { s.n = s.first }

// packet reads the next packet.
func (s *soundTrack) packet() ([]byte, error) {
	p := s.index[s.n]
	s.n++
	var err error
	if s.buf, err = readAt(s.f, s.buf, p.offset, int(p.size)); err != nil {
		return nil, err
	}
	if len(s.buf) > capture.MaxPayload {
		return nil, broken(p.offset, "sample %d: a packet of %d bytes", s.n-1, len(s.buf))
	}
	return s.buf, nil
}

// tracks are the picture's, and the sound's where there is one.
func (p *player) tracks(picture capture.Track) []capture.Track {
	if p.sound == nil {
		return []capture.Track{picture}
	}
	return []capture.Track{picture, {Kind: capture.Audio, Codec: capture.Opus, ClockRate: soundRate}}
}

// speak sends the packets of sound that are due before a time of this turn,
// each when its own has come.
func (p *player) speak(before int64, wait func(at int64) error) error {
	for {
		at, ok := p.sound.due()
		if !ok || at >= before {
			return nil
		}
		if err := wait(p.base + at); err != nil {
			return err
		}
		packet, err := p.sound.packet()
		if err != nil {
			return err
		}
		if p.described.Codec == "" {
			continue // before the first picture
		}
		f := &p.sound.frame
		f.RTPTime = uint32((p.base + at) * soundRate / clockRate)
		f.Captured, f.Payloads[0] = p.start.Add(duration(p.base+at)), packet
		p.sink.Frame(f)
	}
}
