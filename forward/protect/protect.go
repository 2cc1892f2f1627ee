// Package protect is the sending side of SRTP (RFC 3711): it encrypts and
// authenticates the RTP packets of one viewer, a frame at a time. What comes
// back, SRTCP included, is not its matter.
//
// There are several implementations of each protection profile; which of them,
// and which profile, costs least on this machine is measured once: see Best
// and Preferred.
package protect

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Profile is an SRTP protection profile, by its number in DTLS (RFC 5764
// §4.1.2, RFC 7714 §14.2).
type Profile uint16

// The profiles; 256-bit keys cost more and are not offered.
const (
	AES128CM  Profile = 0x0001 // AES_128_CM_HMAC_SHA1_80
	AES128GCM Profile = 0x0007 // AEAD_AES_128_GCM
)

// Profiles are all that are known.
var Profiles = []Profile{AES128GCM, AES128CM}

// String is the name in the registry, without the prefix of all.
func (p Profile) String() string {
	switch p {
	case AES128CM:
		return "AES128_CM_HMAC_SHA1_80"
	case AES128GCM:
		return "AEAD_AES_128_GCM"
	}
	return fmt.Sprintf("profile %#04x", uint16(p))
}

// Sizes in bytes.
const (
	KeySize   = 16 // of a master key and of an encryption key
	MaxTag    = 16 // of the longest tag
	cmSalt    = 14
	cmTag     = 10
	cmAuth    = 20 // authentication key
	gcmSalt   = 12
	gcmTag    = 16
	minHeader = 12 // RTP header without CSRC and extension (RFC 3550 §5.1)
)

// SaltSize is the length of a master salt; 0 for what is no profile.
func (p Profile) SaltSize() int {
	switch p {
	case AES128CM:
		return cmSalt
	case AES128GCM:
		return gcmSalt
	}
	return 0
}

// TagSize is the room that a packet needs behind its payload.
func (p Profile) TagSize() int {
	switch p {
	case AES128CM:
		return cmTag
	case AES128GCM:
		return gcmTag
	}
	return 0
}

// packet is where a packet lies in its buffer, and what its header does not
// say of its index. C reads it too: see openssl.h.
type packet struct {
	start   uint32 // of the header
	payload uint32 // end of the header, CSRC and extension included
	end     uint32 // end of the tag
	roc     uint32 // rollover counter
}

// sealer is one implementation of one profile with its keys: it encrypts the
// packets' payloads in place and writes the tags.
type sealer interface {
	seal(buf []byte, packets []packet) error
}

// chunk is how many packets a sealer is given at once: most frames.
const chunk = 32

// Protector protects the RTP packets that one side sends under one master key,
// on any number of SSRCs. One goroutine at a time may use it.
type Protector struct {
	profile  Profile
	sealer   sealer
	counters []counter
	packets  [chunk]packet // scratch, so that sealing allocates nothing
}

// New makes a protector with the implementation that costs least here. The
// master key and salt are the sender's half of what DTLS exports (RFC 5764
// §4.2); they are not kept.
func New(profile Profile, key, salt []byte) (*Protector, error) {
	i, err := Best(profile)
	if err != nil {
		return nil, err
	}
	return i.New(profile, key, salt)
}

// Profile is the profile in use.
func (p *Protector) Profile() Profile { return p.profile }

// Seal protects packets that lie back to back in buf, in place. ends has the
// offset behind each; a packet's last Profile().TagSize() bytes are room for
// its tag, whatever they hold. After an error none of them may be sent.
//
// The rollover counter of each SSRC follows its sequence numbers (RFC 3711
// §3.3.1), which may jump and go back by less than 32,768. Each pair of SSRC
// and sequence number stands for one packet: it may be sealed again just as
// it was, but never with other contents, which would give the key stream
// away.
func (p *Protector) Seal(buf []byte, ends []int) error {
	from := 0
	for done := 0; done < len(ends); {
		n := 0
		for ; n < chunk && done < len(ends); done++ {
			q, err := p.place(buf, from, ends[done])
			if err != nil {
				return fmt.Errorf("packet %d: %w", done, err)
			}
			p.packets[n] = q
			from = ends[done]
			n++
		}
		if err := p.sealer.seal(buf[:from], p.packets[:n]); err != nil {
			return fmt.Errorf("%v: %w", p.profile, err)
		}
	}
	return nil
}

var (
	errBounds    = errors.New("outside of its buffer")
	errHeader    = errors.New("no whole RTP header and room for a tag")
	errBeforeOne = errors.New("sequence number from before the first")
	errUsedUp    = errors.New("2^48 packets sent under one key")
)

// place finds the parts of the packet at buf[from:end] and its index.
func (p *Protector) place(buf []byte, from, end int) (packet, error) {
	if from > end || end > len(buf) {
		return packet{}, errBounds
	}
	header := headerSize(buf[from:end])
	if header == 0 || end-from < header+p.profile.TagSize() {
		return packet{}, errHeader
	}
	b := buf[from:]
	roc, err := p.rollover(binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:]))
	return packet{uint32(from), uint32(from + header), uint32(end), roc}, err
}

// headerSize is the length of the RTP header at the start of b, with CSRCs
// and extension (RFC 3550 §5.1, §5.3.1); 0: there is none.
func headerSize(b []byte) int {
	if len(b) < minHeader || b[0]>>6 != 2 {
		return 0
	}
	n := minHeader + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < n+4 {
			return 0
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	if len(b) < n {
		return 0
	}
	return n
}

// counter is the highest index that was sealed of one SSRC: 48 bits, of which
// the low 16 are the sequence number.
type counter struct {
	ssrc  uint32
	index int64
}

// rollover estimates the rollover counter of a packet as its receiver will
// (RFC 3711 §3.3.1, appendix A).
func (p *Protector) rollover(ssrc uint32, seq uint16) (uint32, error) {
	c := p.counter(ssrc)
	if c == nil {
		p.counters = append(p.counters, counter{ssrc, int64(seq)})
		return 0, nil
	}
	const half = 1 << 15
	last := int64(c.index & 0xffff)
	roc := c.index >> 16
	switch {
	case last < half && int64(seq)-last > half:
		roc--
	case last >= half && last-half > int64(seq):
		roc++
	}
	index := roc<<16 | int64(seq)
	if roc < 0 {
		return 0, errBeforeOne
	}
	if roc > 1<<32-1 {
		return 0, errUsedUp // §9.2
	}
	c.index = max(c.index, index)
	return uint32(roc), nil
}

// counter finds the counter of an SSRC; there are few.
func (p *Protector) counter(ssrc uint32) *counter {
	for i := range p.counters {
		if p.counters[i].ssrc == ssrc {
			return &p.counters[i]
		}
	}
	return nil
}
