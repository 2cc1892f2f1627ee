package forward

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// What an offer may have at most.
const (
	maxMedia      = 16  // m-lines
	maxCandidates = 64  // of an ICE generation; more are left aside (RFC 8445 §19.5.1)
	maxMid        = 32  // bytes (RFC 9143 §8 asks for few)
	maxFmtp       = 512 // bytes of an a=fmtp that is repeated in the answer
)

// offer is what an SDP offer asks for, in the offer's order.
type offer struct {
	ufrag, pwd  string
	lite        bool   // the far side is ICE-lite
	fingerprint string // "sha-256 AB:…" upper case
	passive     bool   // the far side insists on being DTLS server
	media       []offeredMedia
	candidates  []string
	bundle      []string // the mids of a=group:BUNDLE
}

// offeredMedia is one m-line.
type offeredMedia struct {
	kind     string // "video", "audio", "application"
	mid      string
	proto    string
	receives bool // direction lets us send
	rejected bool // port 0
	data     bool // data channels that can be served
	ids      extensions
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
	fec       uint8 // payload type of the repair packets (FlexFEC) of its m-line, 0 if none
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
	if group, ok := d.Attribute("group"); ok && strings.HasPrefix(group, "BUNDLE ") {
		o.bundle = strings.Fields(group)[1:]
	}
	o.transport(d.Attributes)
	for _, m := range d.MediaDescriptions {
		o.transport(m.Attributes)
		o.media = append(o.media, parseMedia(m))
	}
	if err := checkMids(o.media); err != nil {
		return nil, err
	}
	if err := checkCredentials(o.ufrag, o.pwd); err != nil {
		return nil, err
	}
	switch {
	case o.fingerprint == "":
		return nil, fmt.Errorf("%w: no a=fingerprint with sha-256", ErrOffer)
	}
	return o, nil
}

// checkMids refuses what could not be told apart (RFC 9143 §7).
func checkMids(media []offeredMedia) error {
	seen := map[string]bool{}
	for _, m := range media {
		if m.mid == "" {
			continue
		}
		if len(m.mid) > maxMid || strings.ContainsFunc(m.mid, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%w: a=mid is no token of at most %d bytes", ErrOffer, maxMid)
		}
		if seen[m.mid] {
			return fmt.Errorf("%w: two m-lines are a=mid:%s", ErrOffer, m.mid)
		}
		seen[m.mid] = true
	}
	return nil
}

// checkCredentials holds ICE credentials against RFC 8839 §5.4.
func checkCredentials(ufrag, pwd string) error {
	bad := func(s string, least int) bool {
		return len(s) < least || len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	switch {
	case ufrag == "" || pwd == "":
		return fmt.Errorf("%w: no a=ice-ufrag and a=ice-pwd", ErrOffer)
	case bad(ufrag, 4) || bad(pwd, 22):
		return fmt.Errorf("%w: a=ice-ufrag or a=ice-pwd is not as RFC 8839 has it", ErrOffer)
	}
	return nil
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
			if len(o.candidates) < maxCandidates {
				o.candidates = append(o.candidates, a.Value)
			}
		}
	}
}

// staticTypes are the payload types that need no a=rtpmap (RFC 3551 §6), of
// those that the box may send.
var staticTypes = map[uint64]string{0: "PCMU", 8: "PCMA"}

func parseMedia(m *sdp.MediaDescription) offeredMedia {
	out := offeredMedia{
		kind: m.MediaName.Media, proto: strings.Join(m.MediaName.Protos, "/"), receives: true,
		rejected: m.MediaName.Port.Value == 0, data: offersData(m),
	}
	byPT := map[string]int{}
	for _, f := range m.MediaName.Formats {
		pt, err := strconv.ParseUint(f, 10, 7)
		if _, twice := byPT[f]; err != nil || twice {
			continue // a data channel's "webrtc-datachannel"
		}
		byPT[f] = len(out.formats)
		out.formats = append(out.formats, format{pt: uint8(pt), codec: staticTypes[pt], clockRate: 8000})
	}
	var apt [][2]string // RTX payload type, what it repeats (RFC 4588 §8.1)
	for _, a := range m.Attributes {
		if strings.ContainsFunc(a.Value, func(r rune) bool { return r < ' ' && r != '\t' }) && a.Key != "mid" {
			continue // a line that would break the answer's; a mid like that is refused
		}
		switch a.Key {
		case "mid":
			out.mid = a.Value
		case "sendonly", "inactive":
			out.receives = false
		case "extmap":
			out.ids.offered(a.Value)
		case "bundle-only":
			out.rejected = false // port 0 is how a bundle-only m-line looks (RFC 9143 §6)
		case "rtpmap", "fmtp", "rtcp-fb":
			pt, value, ok := strings.Cut(a.Value, " ")
			if !ok {
				continue
			}
			if a.Key == "fmtp" && strings.HasPrefix(value, "apt=") {
				media, _, _ := strings.Cut(strings.TrimPrefix(value, "apt="), ";")
				apt = append(apt, [2]string{pt, strings.TrimSpace(media)})
			}
			for i := range out.formats {
				if pt == "*" || strconv.Itoa(int(out.formats[i].pt)) == pt {
					out.formats[i].attribute(a.Key, value)
				}
			}
		}
	}
	for _, pair := range apt {
		j, ok := byPT[pair[0]]
		i, ok2 := byPT[pair[1]]
		if ok && ok2 && i != j && strings.EqualFold(out.formats[j].codec, "rtx") {
			out.formats[i].rtx, out.formats[i].hasRTX = out.formats[j].pt, true
		}
	}
	out.repairs()
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
		if len(value) <= maxFmtp {
			f.fmtp = value
		}
	case "rtcp-fb":
		if len(f.feedback) < 16 {
			f.feedback = append(f.feedback, value)
		}
	}
}
