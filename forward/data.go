package forward

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"edged/forward/data"

	"github.com/pion/sdp/v3"
)

// sctpPort is the box's (RFC 8841 §5); it names nothing outside of the DTLS
// association.
const sctpPort = 5000

// offersData tells whether an m-line offers data channels that the box can
// serve (RFC 8841 §§4-6).
func offersData(m *sdp.MediaDescription) bool {
	proto := strings.Join(m.MediaName.Protos, "/")
	if m.MediaName.Media != "application" || proto != "UDP/DTLS/SCTP" && proto != "TCP/DTLS/SCTP" || !slices.Equal(m.MediaName.Formats, []string{"webrtc-datachannel"}) {
		return false
	}
	port, _ := m.Attribute("sctp-port")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return false
	}
	if text, ok := m.Attribute("max-message-size"); ok {
		n, err := strconv.ParseUint(text, 10, 64)
		return err == nil && (n == 0 || n >= data.MaxEvent) // RFC 8841 §6.1: 0 is any size
	}
	return true
}

// dataLine is the m-line whose data channels are served: the first, where it
// shares the one transport; -1 where there is none.
func (o *offer) dataLine(chosen []selection) int {
	bundled := func(i int) bool { return slices.Contains(o.bundle, o.media[i].mid) }
	i := slices.IndexFunc(o.media, func(m offeredMedia) bool { return m.data && !m.rejected })
	if i < 0 || !bundled(i) || slices.ContainsFunc(chosen, func(s selection) bool { return !bundled(s.media) }) {
		return -1
	}
	return i
}

// writeData accepts the m-line of the data channels.
func writeData(line func(string, ...any), m offeredMedia, p answerParams, setup string) {
	line("m=application 9 %s webrtc-datachannel", m.proto)
	line("c=IN IP4 0.0.0.0")
	line("a=mid:%s", m.mid)
	writeTransport(line, p, setup)
	line("a=sctp-port:%d", sctpPort)
	line("a=max-message-size:%d", data.MaxInbound)
	writeCandidates(line, p)
}

// takeData gives what takes the viewer's SCTP packets: nothing is made for
// data channels before the first of them. group waits for what is started.
func (v *Viewer) takeData(ctx context.Context, group *sync.WaitGroup, s *secured) func(packet []byte) {
	if v.offer.dataLine(v.chosen) < 0 {
		return func([]byte) {}
	}
	var c *data.Channels
	return func(packet []byte) {
		if c == nil {
			c = data.New(data.Options{
				Camera: v.stream.id, Send: s.conn.Write, Greet: v.stream.news.greet,
				Counters: &v.sfu.data, PionLog: v.sfu.pionLog,
			})
			v.mu.Lock()
			c.Quality(string(v.quality))
			v.data.Store(c)
			v.mu.Unlock()
			group.Go(func() {
				if err := c.Run(ctx); err != nil {
					v.log.Info("viewer lost its data channels", "err", err)
				}
			})
		}
		c.Receive(packet)
	}
}

// sent notes a frame of a lane that was sent, for the data channels; v.mu is
// held.
func (v *Viewer) sent(l *lane, f frame) {
	c := v.data.Load()
	if c == nil || l.ring.audio {
		return
	}
	c.Frame(data.Frame{
		Captured: f.captured, RTP: l.lastTime, Layer: l.layer, Keyframe: f.keyframe,
		Why: l.why, Loss: v.counts.Loss, RTT: v.counts.RTT,
	})
}

// why says for what reason a lane leaves its layer.
func (v *Viewer) why(l *lane) string {
	switch {
	case v.quality != Auto:
		return "asked"
	case l.held:
		return "uplink"
	case l.rates[l.want] == 0:
		return "dead"
	}
	return "estimate"
}

// news is what the viewers' `events` channels tell of the camera.
type news struct {
	mu     sync.Mutex // held while a message is queued, so that the newest stays the last
	latest []byte
}

func (n *news) greet(c *data.Channels) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.latest != nil {
		c.Event(n.latest)
	}
}

// Announce tells the camera's state, one JSON text, to each viewer that has
// the `events` channel, and to those that open it later until another is
// announced. It does not block and keeps message.
func (st *Stream) Announce(message []byte) error {
	if len(message) > data.MaxEvent {
		return fmt.Errorf("event of %d bytes, at most %d are sent", len(message), data.MaxEvent)
	}
	st.news.mu.Lock()
	defer st.news.mu.Unlock()
	st.news.latest = message
	for _, v := range st.snapshot() {
		if c := v.data.Load(); c != nil {
			c.Event(message)
		}
	}
	return nil
}

// Annotate tells what is known of the scene at one moment to each viewer that
// has the `meta` channel, with the time of the frame nearest to it; where
// that frame is still to be sent, after it. kind is a word of a-z, 0-9, - and
// _; note is JSON of at most 16 KiB, and is copied. Annotations are for what
// is seen: on a bad path they are left out. It does not block and may be
// called from any goroutine; it costs little where nobody listens.
func (st *Stream) Annotate(captured time.Time, kind string, note json.RawMessage) error {
	a, err := data.NewAnnotation(captured, kind, note)
	if err != nil {
		return err
	}
	for _, v := range st.snapshot() {
		if c := v.data.Load(); c != nil {
			c.Annotate(a)
		}
	}
	return nil
}

// dataStats adds what the data channels have done.
func (s *Stats) dataStats(c *data.Counters) {
	s.Data = map[string]uint64{data.Meta: c.Records.Load(), data.Events: c.Events.Load()}
	s.DataDropped = map[string]uint64{"thinned": c.Thinned.Load(), "behind": c.Behind.Load()}
	s.DataCuts = c.Cuts.Load()
}
