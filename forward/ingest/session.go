package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

// What a publisher may do, and how long it is waited for.
const (
	MaxPackets = 20_000      // packets a second
	MaxBitrate = 100_000_000 // bits a second
	maxSources = 64          // SSRCs in a session's life

	queueLength = 1024 // packets
	packetSize  = 1500 // bytes

	tickEvery    = 10 * time.Millisecond
	reportEvery  = time.Second
	numbersEvery = 50 * time.Millisecond // transport-wide feedback
	numbersMost  = 200                   // packets of one such feedback
	quietAfter   = 2 * time.Second       // without pictures, the camera waits
	silentAfter  = 30 * time.Second      // without a frame, the session ends
)

// Format is one payload type of a session.
type Format struct {
	Kind      capture.Kind
	Codec     capture.Codec // empty: RTX (RFC 4588) of the one format of its kind
	ClockRate uint32        // Hz
	Fmtp      string        // of sound: what a viewer's decoder must accept
	NACK      bool          // lost packets may be asked for
}

// Extensions are the ids of header extensions (RFC 8285); 0: not negotiated.
type Extensions struct {
	Number      uint8 // transport-wide sequence number
	RID         uint8 // RFC 8852
	RepairedRID uint8 // RFC 8852
}

// Options say what was negotiated with a publisher.
type Options struct {
	Formats    map[uint8]Format // by payload type: of each kind one codec
	Extensions Extensions
	RIDs       []string          // of the pictures' encodings (RFC 8853), none where there is one
	Send       func(rtcp []byte) // sends a compound packet; from one goroutine
	Fail       func(error)       // ends the transport; it does not wait, and may be called again
	Log        *slog.Logger
}

// Session is what one publisher sends. RTP, RTCP and End may be called from
// any goroutine and never wait.
type Session struct {
	o    Options
	ssrc uint32 // of our reports
	in   chan *datagram
	wake chan struct{}
	done chan struct{}
	end  sync.Once

	wanted    [capture.MaxLayers]atomic.Bool // keyframes, by layer
	overflown atomic.Uint64                  // packets for which the queue had no room

	// Owned by the goroutine of run.
	sink      capture.Sink
	clocks    receive.Clocks
	timeline  timeline
	pictures  []*encoding // by RID, or the one
	sound     *encoding   // nil: none negotiated
	sources   map[uint32]source
	layers    layers
	numbers   *twcc.Recorder
	numbered  int // packets since the last feedback
	began     time.Time
	lastFrame time.Time // that counts as a sign of life
	quiet     bool      // the sink has been told
	second    meter
	due       struct{ report, numbers time.Time }
	packets   rtp.Packet // scratch
}

// source is what is known of an SSRC: whose packets it has.
type source struct {
	of  *encoding // nil: nobody's yet
	rtx bool
}

// meter bounds what comes in a second.
type meter struct {
	began          time.Time
	packets, bytes int
}

// datagram is a packet that waits for the session's goroutine.
type datagram struct {
	at   time.Time
	rtcp bool
	size int
	data [packetSize]byte
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

// NewSession makes a session; its media is taken once a source has it.
func NewSession(o Options) *Session {
	s := &Session{
		o: o, ssrc: rand.Uint32() | 1, in: make(chan *datagram, queueLength), wake: make(chan struct{}, 1), done: make(chan struct{}),
		sources: map[uint32]source{},
	}
	s.numbers = twcc.NewRecorder(s.ssrc)
	for _, f := range o.Formats {
		switch {
		case f.Codec == "":
		case f.Kind == capture.Audio:
			s.sound = newEncoding(s, f, "")
		default:
			rids := o.RIDs
			if len(rids) == 0 {
				rids = []string{""}
			}
			for _, rid := range rids[:min(len(rids), capture.MaxLayers)] {
				s.pictures = append(s.pictures, newEncoding(s, f, rid))
			}
		}
	}
	return s
}

// RTP takes a packet that arrived at a time. It does not retain p.
func (s *Session) RTP(p []byte, at time.Time) { s.put(p, at, false) }

// RTCP takes a compound packet likewise.
func (s *Session) RTCP(p []byte, at time.Time) { s.put(p, at, true) }

func (s *Session) put(p []byte, at time.Time, isRTCP bool) {
	if len(p) > packetSize {
		return
	}
	d := datagrams.Get().(*datagram)
	d.at, d.rtcp, d.size = at, isRTCP, copy(d.data[:], p)
	select {
	case s.in <- d:
	default:
		s.overflown.Add(1)
		datagrams.Put(d)
	}
}

// End says that the transport has ended: nothing comes any more.
func (s *Session) End() { s.end.Do(func() { close(s.done) }) }

func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// fail ends the session and its transport.
func (s *Session) fail(why error) {
	s.End()
	s.o.Fail(why)
}

func (s *Session) wantKeyframe(layer int) {
	if layer < 0 || layer >= len(s.wanted) {
		return
	}
	s.wanted[layer].Store(true)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run hands frames to the sink until the session ends, or ctx is done, and
// says why there are no more.
func (s *Session) run(ctx context.Context, sink capture.Sink) error {
	s.sink, s.began = sink, time.Now()
	s.timeline.began, s.lastFrame, s.quiet = s.began, s.began, true
	wait(sink, capture.Errorf(capture.CodeStalled, "the publisher has not sent a picture yet"))
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	defer func() { s.o.Log.Debug("publisher's media over", "loss", s.String()) }()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return capture.Errorf(capture.CodeNoPublisher, "the publisher has left")
		case d := <-s.in:
			err = s.datagram(d)
			datagrams.Put(d)
		case <-s.wake:
			s.keyframes(time.Now())
		case now := <-tick.C:
			err = s.tick(now)
		}
		if err != nil {
			s.fail(err)
			return err
		}
	}
}

func (s *Session) datagram(d *datagram) error {
	if d.rtcp {
		s.rtcp(d.data[:d.size], d.at)
		return nil
	}
	if err := s.second.count(d.size, d.at); err != nil {
		return err
	}
	return s.packet(d.data[:d.size], d.at)
}

// count says when a publisher sends more than anybody needs.
func (m *meter) count(size int, now time.Time) error {
	if now.Sub(m.began) >= time.Second {
		*m = meter{began: now}
	}
	m.packets++
	m.bytes += size
	switch {
	case m.packets > MaxPackets:
		return capture.Errorf(capture.CodeProtocol, "the publisher sends more than %d packets a second", MaxPackets)
	case m.bytes*8 > MaxBitrate:
		return capture.Errorf(capture.CodeProtocol, "the publisher sends more than %d Mbit/s", MaxBitrate/1_000_000)
	}
	return nil
}

// packet takes one packet of RTP. What makes no sense is left out; an error
// ends the session.
func (s *Session) packet(b []byte, at time.Time) error {
	p := &s.packets
	if err := p.Unmarshal(b); err != nil {
		return nil //nolint:nilerr // foreign bytes
	}
	f, ok := s.o.Formats[p.PayloadType]
	if !ok {
		return nil
	}
	from, err := s.sourceOf(p, f)
	if err != nil {
		return err
	}
	if err := s.number(p, at); err != nil {
		return err
	}
	if from.of == nil {
		return nil
	}
	if from.rtx {
		if !from.of.repaired(p) {
			return nil
		}
	} else {
		from.of.report.take(p, at, f.ClockRate)
	}
	return from.of.order.push(p, from.rtx, at)
}

// sourceOf finds the encoding that a packet belongs to (RFC 8852, RFC 4588
// §8.3): by its SSRC, once a header extension or the lack of a choice has said
// whose that is.
func (s *Session) sourceOf(p *rtp.Packet, f Format) (source, error) {
	from, known := s.sources[p.SSRC]
	if from.of != nil && from.rtx == (f.Codec == "") && from.of.format.Kind == f.Kind {
		return from, nil
	}
	if !known && len(s.sources) >= maxSources {
		return from, capture.Errorf(capture.CodeProtocol, "the publisher uses more than %d SSRCs", maxSources)
	}
	from = source{of: s.owner(p, f), rtx: f.Codec == ""}
	s.sources[p.SSRC] = from
	if from.of != nil {
		from.of.adopt(p.SSRC, from.rtx)
	}
	return from, nil
}

func (s *Session) owner(p *rtp.Packet, f Format) *encoding {
	if f.Kind == capture.Audio {
		if f.Codec == "" {
			return nil // sound is not sent again by RTX
		}
		return s.sound
	}
	if len(s.o.RIDs) == 0 && len(s.pictures) == 1 {
		return s.pictures[0]
	}
	id := s.o.Extensions.RID
	if f.Codec == "" {
		id = s.o.Extensions.RepairedRID
	}
	if id == 0 {
		return nil
	}
	rid := string(p.GetExtension(id))
	for _, e := range s.pictures {
		if rid != "" && e.rid == rid {
			return e
		}
	}
	return nil
}

// number notes a packet for the transport-wide feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
func (s *Session) number(p *rtp.Packet, at time.Time) error {
	if s.o.Extensions.Number == 0 {
		return nil
	}
	b := p.GetExtension(s.o.Extensions.Number)
	if len(b) != 2 {
		return nil
	}
	s.numbers.Record(p.SSRC, binary.BigEndian.Uint16(b), at.Sub(s.began).Microseconds())
	if s.numbered++; s.numbered >= numbersMost {
		s.sendNumbers(at)
	}
	return nil
}

func (s *Session) sendNumbers(now time.Time) {
	s.due.numbers, s.numbered = now.Add(numbersEvery), 0
	for _, p := range s.numbers.BuildFeedbackPacket() {
		s.send(p)
	}
}

// send sends RTCP, reduced in size where it is one packet (RFC 5506).
func (s *Session) send(packets ...rtcp.Packet) {
	b, err := rtcp.Marshal(packets)
	if err != nil {
		s.o.Log.Debug("publisher's feedback", "err", err)
		return
	}
	s.o.Send(b)
}

// rtcp takes a compound packet. Only sender reports are of use; the others
// are never unpacked, for a small one can be made to take hundreds of MiB.
func (s *Session) rtcp(b []byte, now time.Time) {
	const head, info = 4, 28 // bytes of a report without blocks (RFC 3550 §6.4.1)
	for len(b) >= head {
		size := head * (int(binary.BigEndian.Uint16(b[2:])) + 1)
		if size > len(b) {
			return
		}
		if b[0]>>6 == 2 && rtcp.PacketType(b[1]) == rtcp.TypeSenderReport && size >= info {
			s.senderReport(binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]), now)
		}
		b = b[size:]
	}
}

func (s *Session) senderReport(ssrc uint32, ntp uint64, rtpTime uint32, now time.Time) {
	from, ok := s.sources[ssrc]
	if !ok || from.of == nil || from.rtx {
		return
	}
	e := from.of
	e.report.sender(ntp, now)
	e.told = mapping{known: true, at: fromNTP(ntp), rtpTime: rtpTime}
	if e.format.Kind == capture.Video {
		e.place.told(&s.timeline, e.told)
	}
}

// fromNTP is the time of a 64-bit timestamp (RFC 5905 §6), of the era that
// began in 1900, or after 2036 of the next.
func fromNTP(ntp uint64) time.Time {
	const toUnix, era = 2208988800, 1 << 32
	seconds := int64(ntp >> 32)
	if seconds < 1<<31 {
		seconds += era
	}
	return time.Unix(seconds-toUnix, int64(ntp&0xffffffff*1e9>>32))
}

// tick does what is due by time.
func (s *Session) tick(now time.Time) error {
	for _, e := range s.encodings() {
		if err := e.order.expire(now); err != nil {
			return err
		}
		e.ask(now)
	}
	s.keyframes(now)
	if s.numbered > 0 && now.After(s.due.numbers) {
		s.sendNumbers(now)
	}
	if now.After(s.due.report) {
		s.due.report = now.Add(reportEvery)
		s.sendReport(now)
		s.missLayers(now)
	}
	s.describe(now)
	return s.listen(now)
}

// listen notices that no pictures come.
func (s *Session) listen(now time.Time) error {
	since := now.Sub(s.lastFrame)
	if since > silentAfter {
		return capture.Errorf(capture.CodeStalled, "the publisher has sent no picture for %v", silentAfter)
	}
	if since > quietAfter && !s.quiet {
		s.quiet = true
		wait(s.sink, capture.Errorf(capture.CodeStalled, "the publisher sends no pictures"))
	}
	return nil
}

// encodings lists all that were negotiated.
func (s *Session) encodings() []*encoding {
	if s.sound == nil {
		return s.pictures
	}
	return append(s.pictures[:len(s.pictures):len(s.pictures)], s.sound)
}

// sendReport sends a receiver report (RFC 3550 §6.4.2).
func (s *Session) sendReport(now time.Time) {
	rr := &rtcp.ReceiverReport{SSRC: s.ssrc}
	for _, e := range s.encodings() {
		if r, ok := e.report.block(e.ssrc, now); ok {
			rr.Reports = append(rr.Reports, r)
		}
	}
	s.send(rr, rtcp.NewCNAMESourceDescription(s.ssrc, "edged"))
}

// errGone ends the transport of a publisher whose camera goes.
var errGone = errors.New("the camera no longer takes a publisher")

// String says what was lost, for the log.
func (s *Session) String() string {
	var missing, dropped uint64
	text := ""
	for _, e := range s.encodings() {
		missing += e.order.lost
		dropped += e.order.repeated
		text += fmt.Sprintf("%s %s; ", e.format.Codec, e.units.String())
	}
	return fmt.Sprintf("%s%d packets lost, %d repeated or late, %d overflown", text, missing, dropped, s.overflown.Load())
}
