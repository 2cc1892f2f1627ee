package forward

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// maxMedia is the most m-lines that an offer may have.
const maxMedia = 16

// offer is what an SDP offer asks for, in the offer's order.
type offer struct {
	ufrag, pwd  string
	lite        bool   // the far side is ICE-lite
	fingerprint string // "sha-256 AB:…" upper case
	passive     bool   // the far side insists on being DTLS server
	media       []offeredMedia
	candidates  []string
}

// offeredMedia is one m-line.
type offeredMedia struct {
	kind     string // "video", "audio", "application"
	mid      string
	proto    string
	receives bool // direction lets us send
	rejected bool // port 0
	formats  []format
}

// format is one payload type of an m-line.
type format struct {
	pt        uint8
	codec     string // as in a=rtpmap
	clockRate uint32
	channels  string // the third part of a=rtpmap, "" if none
	fmtp      string
	feedback  []string // "nack", "nack pli", "ccm fir", …
	rtx       uint8    // payload type of its RTX, 0 if none
	hasRTX    bool
}

// parseOffer reads an SDP offer (RFC 9429 §5.8). Errors wrap ErrOffer.
func parseOffer(text string) (*offer, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("%w: SDP: %w", ErrOffer, err)
	}
	if len(d.MediaDescriptions) == 0 {
		return nil, fmt.Errorf("%w: no m-line", ErrOffer)
	}
	if len(d.MediaDescriptions) > maxMedia {
		return nil, fmt.Errorf("%w: %d m-lines, at most %d are taken", ErrOffer, len(d.MediaDescriptions), maxMedia)
	}
	o := &offer{}
	_, o.lite = d.Attribute("ice-lite")
	o.transport(d.Attributes)
	for _, m := range d.MediaDescriptions {
		o.transport(m.Attributes)
		o.media = append(o.media, parseMedia(m))
	}
	switch {
	case o.ufrag == "" || o.pwd == "":
		return nil, fmt.Errorf("%w: no a=ice-ufrag and a=ice-pwd", ErrOffer)
	case o.fingerprint == "":
		return nil, fmt.Errorf("%w: no a=fingerprint with sha-256", ErrOffer)
	}
	return o, nil
}

// transport takes the attributes of RFC 8839 and RFC 8122; with BUNDLE the
// first m-line's are in force for all.
func (o *offer) transport(attributes []sdp.Attribute) {
	for _, a := range attributes {
		switch a.Key {
		case "ice-ufrag":
			if o.ufrag == "" {
				o.ufrag = a.Value
			}
		case "ice-pwd":
			if o.pwd == "" {
				o.pwd = a.Value
			}
		case "fingerprint":
			if alg, sum, ok := strings.Cut(a.Value, " "); ok && o.fingerprint == "" && strings.EqualFold(alg, "sha-256") {
				o.fingerprint = strings.ToUpper(strings.TrimSpace(sum))
			}
		case "setup":
			o.passive = o.passive || a.Value == "passive"
		case "candidate":
			o.candidates = append(o.candidates, a.Value)
		}
	}
}

func parseMedia(m *sdp.MediaDescription) offeredMedia {
	out := offeredMedia{
		kind: m.MediaName.Media, proto: strings.Join(m.MediaName.Protos, "/"), receives: true,
		rejected: m.MediaName.Port.Value == 0,
	}
	byPT := map[string]int{}
	for _, f := range m.MediaName.Formats {
		pt, err := strconv.ParseUint(f, 10, 7)
		if _, twice := byPT[f]; err != nil || twice {
			continue // a data channel's "webrtc-datachannel"
		}
		byPT[f] = len(out.formats)
		out.formats = append(out.formats, format{pt: uint8(pt)})
	}
	apt := map[string]string{} // RTX payload type → what it repeats (RFC 4588 §8.1)
	for _, a := range m.Attributes {
		switch a.Key {
		case "mid":
			out.mid = a.Value
		case "sendonly", "inactive":
			out.receives = false
		case "bundle-only":
			out.rejected = false // port 0 is how a bundle-only m-line looks (RFC 9143 §6)
		case "rtpmap", "fmtp", "rtcp-fb":
			pt, value, ok := strings.Cut(a.Value, " ")
			if !ok {
				continue
			}
			if a.Key == "fmtp" && strings.HasPrefix(value, "apt=") {
				apt[pt], _, _ = strings.Cut(strings.TrimPrefix(value, "apt="), ";")
			}
			for i := range out.formats {
				if pt == "*" || strconv.Itoa(int(out.formats[i].pt)) == pt {
					out.formats[i].attribute(a.Key, value)
				}
			}
		}
	}
	for rtx, media := range apt {
		i, ok := byPT[media]
		j, ok2 := byPT[rtx]
		if ok && ok2 && strings.EqualFold(out.formats[j].codec, "rtx") {
			out.formats[i].rtx, out.formats[i].hasRTX = out.formats[j].pt, true
		}
	}
	return out
}

func (f *format) attribute(key, value string) {
	switch key {
	case "rtpmap":
		parts := strings.SplitN(value, "/", 3)
		f.codec = parts[0]
		if len(parts) > 1 {
			n, _ := strconv.ParseUint(strings.TrimSpace(parts[1]), 10, 32)
			f.clockRate = uint32(n)
		}
		if len(parts) > 2 {
			f.channels = strings.TrimSpace(parts[2])
		}
	case "fmtp":
		f.fmtp = value
	case "rtcp-fb":
		if len(f.feedback) < 16 {
			f.feedback = append(f.feedback, value)
		}
	}
}
