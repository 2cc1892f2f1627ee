package forward

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"edged/capture"
	"edged/forward/ingest"

	"github.com/pion/sdp/v3"
)

// Header extensions that a publisher sends.
const (
	midURI = "urn:ietf:params:rtp-hdrext:sdes:mid"                    // RFC 9143 §15
	ridURI = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"          // RFC 8852 §4.3
	rrdURI = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" // RFC 8852 §4.4
)

const maxRID = 32 // bytes

// publication is what is taken of a publisher's offer.
type publication struct {
	*offer
	lines []publishedLine // by m-line
}

// publishedLine is one m-line of a publisher.
type publishedLine struct {
	sends bool
	ids   map[string]uint8 // of header extensions, by URI
	rids  []string         // of simulcast, in the offer's order

	taken  bool
	idle   bool   // taken, but nothing shall be sent on it
	format format // that it is taken in
}

// publishable are the codecs that a publisher may send, with their clocks.
var publishable = []struct {
	kind      capture.Kind
	codec     capture.Codec
	clockRate uint32
}{
	{capture.Video, capture.H264, 90000}, {capture.Video, capture.H265, 90000}, {capture.Video, capture.VP8, 90000},
	{capture.Video, capture.VP9, 90000}, {capture.Video, capture.AV1, 90000},
	{capture.Audio, capture.Opus, 48000}, {capture.Audio, capture.PCMU, 8000}, {capture.Audio, capture.PCMA, 8000},
}

// takePublication chooses what is taken of an offer: of each kind the first
// m-line, in the first format that can be forwarded.
func takePublication(text string, o *offer, sound bool) (*publication, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("%w: SDP: %w", ErrOffer, err)
	}
	p := &publication{offer: o}
	for i, m := range d.MediaDescriptions {
		p.lines = append(p.lines, parsePublished(m, o.media[i]))
	}
	video, offers := p.choose(capture.Video)
	if !video && offers {
		return nil, p.codecError()
	}
	heard, _ := p.choose(capture.Audio)
	if !heard && !video {
		return nil, p.codecError()
	}
	p.oneTransport()
	for i, m := range p.media {
		p.lines[i].idle = capture.Kind(m.kind) == capture.Audio && !sound && video
	}
	return p, nil
}

// choose takes the first m-line of a kind that sends a known codec; offers
// says that there is one that sends at all.
func (p *publication) choose(kind capture.Kind) (taken, offers bool) {
	for i, m := range p.media {
		l := &p.lines[i]
		if capture.Kind(m.kind) != kind || m.rejected || !l.sends || !strings.Contains(m.proto, "SAVPF") {
			continue
		}
		offers = true
		for _, f := range m.formats {
			if _, ok := codecOf(kind, f); ok {
				l.taken, l.format = true, f
				return true, true
			}
		}
	}
	return false, offers
}

func (p *publication) drop(kind capture.Kind) {
	for i, m := range p.media {
		if capture.Kind(m.kind) == kind {
			p.lines[i].taken = false
		}
	}
}

// oneTransport leaves what the offer bundles (RFC 9143 §7.3), or else the
// picture alone: there is one transport.
func (p *publication) oneTransport() {
	apart, video := 0, false
	for i, l := range p.lines {
		if !l.taken {
			continue
		}
		video = video || p.media[i].kind == string(capture.Video)
		if !slices.Contains(p.bundle, p.media[i].mid) {
			apart++
		}
	}
	if apart > 0 && video {
		p.drop(capture.Audio)
	}
}

// codecOf is what a format is to the cameras.
func codecOf(kind capture.Kind, f format) (capture.Codec, bool) {
	for _, c := range publishable {
		if c.kind == kind && strings.EqualFold(f.codec, string(c.codec)) && f.clockRate == c.clockRate {
			return c.codec, true
		}
	}
	return "", false
}

func (p *publication) codecError() error {
	e := &CodecError{Publisher: []string{}}
	for _, c := range publishable {
		e.Camera = append(e.Camera, string(c.codec))
	}
	for i, m := range p.media {
		for _, f := range m.formats {
			if p.lines[i].sends && !m.rejected && f.codec != "" && !strings.EqualFold(f.codec, "rtx") && !slices.Contains(e.Publisher, f.codec) {
				e.Publisher = append(e.Publisher, f.codec)
			}
		}
	}
	if len(e.Publisher) == 0 {
		e.Publisher = append(e.Publisher, "no media")
	}
	return e
}

// parsePublished reads what only a publisher's m-line has.
func parsePublished(m *sdp.MediaDescription, o offeredMedia) publishedLine {
	l := publishedLine{sends: true, ids: map[string]uint8{}}
	var sent []string // rids
	simulcast := ""
	for _, a := range m.Attributes {
		switch a.Key {
		case "recvonly", "inactive":
			l.sends = false
		case "extmap":
			l.extension(a.Value)
		case "rid": // RFC 8851 §4
			if f := strings.Fields(a.Value); len(f) >= 2 && f[1] == "send" && isRID(f[0]) {
				sent = append(sent, f[0])
			}
		case "simulcast": // RFC 8853 §5.1
			simulcast = a.Value
		}
	}
	if o.kind == string(capture.Video) && l.ids[ridURI] != 0 {
		l.rids = simulcastRIDs(simulcast, sent)
	}
	return l
}

// isRID tells an identifier of RFC 8851 §4: it goes into the answer.
func isRID(s string) bool {
	return len(s) <= maxRID && s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_')
	})
}

// extension takes an a=extmap (RFC 8285 §5) of what the publisher would send.
func (l *publishedLine) extension(value string) {
	id, rest, _ := strings.Cut(value, " ")
	id, direction, _ := strings.Cut(id, "/")
	n, err := strconv.ParseUint(id, 10, 8)
	if err != nil || n < 1 || n == 15 || direction == "recvonly" || direction == "inactive" {
		return
	}
	uri, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	switch uri {
	case numberURI, midURI, ridURI, rrdURI:
		l.ids[uri] = uint8(n)
	}
}

// simulcastRIDs lists the first alternatives of the streams that are sent, as
// many as a camera may have layers.
func simulcastRIDs(value string, sent []string) (rids []string) {
	fields := strings.Fields(value)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] != "send" {
			continue
		}
		for alternatives := range strings.SplitSeq(fields[i+1], ";") {
			rid, _, _ := strings.Cut(alternatives, ",")
			rid = strings.TrimPrefix(rid, "~")
			if slices.Contains(sent, rid) && !slices.Contains(rids, rid) && len(rids) < capture.MaxLayers {
				rids = append(rids, rid)
			}
		}
	}
	if len(rids) < 2 {
		return nil
	}
	return rids
}

// options are what the session has to know of it.
func (p *publication) options() ingest.Options {
	o := ingest.Options{Formats: map[uint8]ingest.Format{}}
	for i, l := range p.lines {
		if !l.taken || l.idle {
			continue
		}
		kind := capture.Kind(p.media[i].kind)
		codec, _ := codecOf(kind, l.format)
		f := ingest.Format{Kind: kind, Codec: codec, ClockRate: l.format.clockRate, NACK: slices.Contains(l.format.feedback, "nack")}
		if kind == capture.Audio && param(l.format.fmtp, "sprop-stereo") == "1" {
			f.Fmtp = "sprop-stereo=1" // RFC 7587 §6.1
		}
		o.Formats[l.format.pt] = f
		if kind == capture.Video {
			if l.repeats() {
				o.Formats[l.format.rtx] = ingest.Format{Kind: kind, ClockRate: l.format.clockRate}
			}
			o.RIDs = l.rids
			o.Extensions.RID, o.Extensions.RepairedRID = l.ids[ridURI], l.ids[rrdURI]
		}
		if l.numbered() {
			o.Extensions.Number = l.ids[numberURI]
		}
	}
	return o
}

// numbered tells whether packets are to have transport-wide numbers.
func (l *publishedLine) numbered() bool {
	return l.ids[numberURI] != 0 && slices.Contains(l.format.feedback, "transport-cc")
}

// repeats tells whether lost packets are to come as RTX.
func (l *publishedLine) repeats() bool { return l.format.hasRTX && l.format.rtx != l.format.pt }

// answer writes the SDP answer: what is taken is received, the rest refused.
func (p *publication) answer(a answerParams) string {
	var b strings.Builder
	line := func(format string, v ...any) { fmt.Fprintf(&b, format+"\r\n", v...) }
	var mids []string
	for i, m := range p.media {
		if p.lines[i].taken && slices.Contains(p.bundle, m.mid) {
			mids = append(mids, m.mid)
		}
	}
	writeSession(line, a, mids)
	for i, m := range p.media {
		if !p.lines[i].taken {
			refuse(line, m)
			continue
		}
		p.lines[i].write(line, m, a, p.setup())
	}
	return b.String()
}

func (l *publishedLine) write(line func(string, ...any), m offeredMedia, a answerParams, setup string) {
	f := l.format
	formats := strconv.Itoa(int(f.pt))
	rtx := m.kind == string(capture.Video) && l.repeats()
	if rtx {
		formats += " " + strconv.Itoa(int(f.rtx))
	}
	line("m=%s 9 %s %s", m.kind, m.proto, formats)
	line("c=IN IP4 0.0.0.0")
	if m.mid != "" {
		line("a=mid:%s", m.mid)
	}
	writeTransport(line, a, setup)
	if l.idle {
		line("a=inactive") // not port 0: GStreamer 1.22 loses the whole bundle by that
	} else {
		line("a=recvonly")
	}
	line("a=rtcp-mux")
	line("a=rtcp-rsize")
	name := f.codec + "/" + strconv.Itoa(int(f.clockRate))
	if f.channels != "" {
		name += "/" + f.channels
	}
	line("a=rtpmap:%d %s", f.pt, name)
	if f.fmtp != "" {
		line("a=fmtp:%d %s", f.pt, f.fmtp)
	}
	for _, fb := range []string{"nack", "nack pli"} {
		if slices.Contains(f.feedback, fb) {
			line("a=rtcp-fb:%d %s", f.pt, fb)
		}
	}
	if l.numbered() {
		line("a=rtcp-fb:%d transport-cc", f.pt)
		line("a=extmap:%d %s", l.ids[numberURI], numberURI)
	}
	for _, uri := range []string{midURI, ridURI, rrdURI} {
		if id := l.ids[uri]; id != 0 && (uri == midURI || len(l.rids) > 0) {
			line("a=extmap:%d %s", id, uri)
		}
	}
	if rtx {
		line("a=rtpmap:%d rtx/%d", f.rtx, f.clockRate)
		line("a=fmtp:%d apt=%d", f.rtx, f.pt)
	}
	for _, rid := range l.rids {
		line("a=rid:%s recv", rid)
	}
	if len(l.rids) > 0 {
		line("a=simulcast:recv %s", strings.Join(l.rids, ";"))
	}
	writeCandidates(line, a)
}
