package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/ice/v4"
)

// cname names the box in RTCP and SDP (RFC 3550 §6.5.1).
const cname = "edged"

// answerParams is what an SDP answer says besides the offer.
type answerParams struct {
	sessionID   uint64
	version     int // rises with each ICE restart (RFC 3264 §5)
	ufrag, pwd  string
	fingerprint string
	candidates  []string // "candidate:…"
	stream      string   // the camera's id
	lanes       []*lane  // by selection
}

// answerWith writes the viewer's SDP answer.
func (v *Viewer) answerWith(p answerParams) string {
	p.stream, p.lanes = v.stream.id, v.lanes
	return answer(v.offer, v.chosen, p)
}

// answer writes the SDP answer (RFC 3264, RFC 9429 §5.3): the chosen m-lines
// send, bundled on one transport; the others are refused.
func answer(o *offer, chosen []selection, p answerParams) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\r\n", a...) }
	setup := o.setup()
	data := o.dataLine(chosen)
	var mids []string
	for _, mid := range o.bundle { // in the offer's order (RFC 9143 §7.3.1)
		taken := data >= 0 && o.media[data].mid == mid
		if taken || slices.ContainsFunc(chosen, func(s selection) bool { return o.media[s.media].mid == mid }) {
			mids = append(mids, mid)
		}
	}
	writeSession(line, p, mids)
	line("a=msid-semantic: WMS %s", p.stream)
	for i, m := range o.media {
		if i == data {
			writeData(line, m, p, setup)
			continue
		}
		j := slices.IndexFunc(chosen, func(s selection) bool { return s.media == i })
		if j < 0 {
			refuse(line, m)
			continue
		}
		writeMedia(line, m, chosen[j], p, p.lanes[j], setup)
	}
	return b.String()
}

// setup is our role in DTLS (RFC 4145 §4.1): the server's, unless the offer
// insists on it.
func (o *offer) setup() string {
	if o.passive {
		return "active"
	}
	return "passive"
}

// writeSession writes what stands before the m-lines; bundled are the mids of
// those that share a transport.
func writeSession(line func(string, ...any), p answerParams, bundled []string) {
	line("v=0")
	line("o=- %d %d IN IP4 127.0.0.1", p.sessionID, p.version)
	line("s=-")
	line("t=0 0")
	if len(bundled) > 0 {
		line("a=group:BUNDLE %s", strings.Join(bundled, " "))
	}
}

// name is the format as in a=rtpmap.
func (f *format) name() string {
	name := f.codec + "/" + strconv.Itoa(int(f.clockRate))
	if f.channels != "" {
		name += "/" + f.channels
	}
	return name
}

// refuse writes an m-line that is not taken (RFC 3264 §6).
func refuse(line func(string, ...any), m offeredMedia) {
	formats := "0"
	if m.kind == "application" {
		formats = "webrtc-datachannel"
	} else if len(m.formats) > 0 {
		formats = strconv.Itoa(int(m.formats[0].pt))
	}
	line("m=%s 0 %s %s", m.kind, m.proto, formats)
	line("c=IN IP4 0.0.0.0")
	line("a=inactive")
	if m.mid != "" {
		line("a=mid:%s", m.mid)
	}
	if len(m.formats) > 0 && m.formats[0].codec != "" {
		line("a=rtpmap:%d %s", m.formats[0].pt, m.formats[0].name()) // some read it even here
	}
}

func writeMedia(line func(string, ...any), m offeredMedia, s selection, p answerParams, l *lane, setup string) {
	formats := strconv.Itoa(int(s.pt))
	if l.rtxPT != 0 {
		formats += " " + strconv.Itoa(int(l.rtxPT))
	}
	if l.repairs.pt != 0 {
		formats += " " + strconv.Itoa(int(l.repairs.pt))
	}
	line("m=%s 9 %s %s", m.kind, m.proto, formats)
	line("c=IN IP4 0.0.0.0")
	if m.mid != "" {
		line("a=mid:%s", m.mid)
	}
	writeTransport(line, p, setup)
	line("a=sendonly")
	line("a=rtcp-mux")
	line("a=rtcp-rsize")
	line("a=rtpmap:%d %s", s.pt, s.name())
	if s.fmtp != "" {
		line("a=fmtp:%d %s", s.pt, s.fmtp)
	}
	for _, f := range []string{"nack", "nack pli", "ccm fir"} {
		if slices.Contains(s.feedback, f) {
			line("a=rtcp-fb:%d %s", s.pt, f)
		}
	}
	if l.number != nil {
		line("a=rtcp-fb:%d transport-cc", s.pt)
	}
	l.ids.answer(line)
	if l.rtxPT != 0 {
		line("a=rtpmap:%d rtx/%d", l.rtxPT, s.clockRate)
		line("a=fmtp:%d apt=%d", l.rtxPT, s.pt)
		line("a=ssrc-group:FID %d %d", l.ssrc, l.rtxSSRC)
	}
	l.answerRepairs(line, m)
	line("a=msid:%s %s-%s", p.stream, p.stream, m.kind)
	line("a=ssrc:%d cname:%s", l.ssrc, cname)
	if l.rtxPT != 0 {
		line("a=ssrc:%d cname:%s", l.rtxSSRC, cname)
	}
	if l.repairs.pt != 0 {
		line("a=ssrc:%d cname:%s", l.repairs.ssrc, cname)
	}
	writeCandidates(line, p)
}

// writeTransport writes the attributes of RFC 8839 and RFC 8122.
func writeTransport(line func(string, ...any), p answerParams, setup string) {
	line("a=ice-ufrag:%s", p.ufrag)
	line("a=ice-pwd:%s", p.pwd)
	line("a=ice-options:trickle")
	line("a=fingerprint:sha-256 %s", p.fingerprint)
	line("a=setup:%s", setup)
}

func writeCandidates(line func(string, ...any), p answerParams) {
	for _, c := range p.candidates {
		line("a=%s", c)
	}
	line("a=end-of-candidates")
}

// parseCandidate reads a remote candidate ("candidate:…", or with "a="). It
// is nil where there is none that the box can use: end-of-candidates, an mDNS
// name (the viewer's checks reach us anyway), or no viewer's address. Errors
// wrap ErrOffer.
func parseCandidate(text string) (ice.Candidate, error) {
	text = strings.TrimSpace(strings.TrimPrefix(text, "a="))
	if text == "" || text == "end-of-candidates" {
		return nil, nil
	}
	text = strings.TrimPrefix(text, "candidate:")
	if fields := strings.Fields(text); len(fields) > 4 && strings.HasSuffix(strings.ToLower(fields[4]), ".local") {
		return nil, nil
	}
	c, err := ice.UnmarshalCandidate(text)
	if err != nil {
		return nil, fmt.Errorf("%w: candidate: %w", ErrOffer, err)
	}
	addr, err := netip.ParseAddr(c.Address())
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || c.Port() == 0 {
		return nil, nil //nolint:nilnil // as documented
	}
	return c, nil
}

// addCandidate hands a remote candidate to the agent. Errors: ErrOffer,
// ErrGone.
func (l *link) addCandidate(text string) error {
	c, err := parseCandidate(text)
	if c == nil {
		return err
	}
	if l.remotes.Add(1) > maxCandidates {
		return nil // RFC 8445 §19.5.1: what is checked, and where, is bounded
	}
	if err := l.agent.AddRemoteCandidate(c); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}
