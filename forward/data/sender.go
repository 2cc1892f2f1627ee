package data

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/sctp"
)

// channel is an open data channel.
type channel struct {
	*datachannel.DataChannel
	stream *sctp.Stream
	full   time.Time // since when SCTP holds all that it may; zero: it does not. Owned by serve.
}

// room tells whether more may be given to SCTP.
func (c *channel) room(limit uint64, now time.Time) bool {
	if c.BufferedAmount() < limit {
		c.full = time.Time{}
		return true
	}
	if c.full.IsZero() {
		c.full = now
	}
	return false
}

// path is what was measured when the detail was chosen.
type path struct {
	detail detail
	loss   float64
	rtt    time.Duration
}

// sender makes records.
type sender struct {
	camera  []byte // JSON
	adapter adapter
	picker  picker
	id      uint32 // of the next record in fragments
	buf     []byte
	frames  []Frame // scratch
}

func newSender(camera string) sender {
	name, _ := json.Marshal(camera) // a string always has JSON
	return sender{camera: name}
}

// serve sends until ctx is done.
func (c *Channels) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		now := time.Now()
		c.mu.Lock()
		meta, events := c.meta, c.events
		c.mu.Unlock()
		if meta != nil {
			c.serveMeta(meta, now)
		}
		if events != nil {
			c.serveEvents(events, now)
		}
	}
}

// serveEvents sends events while SCTP takes them; the rest waits.
func (c *Channels) serveEvents(ch *channel, now time.Time) {
	for ch.room(eventsBuffered, now) {
		c.mu.Lock()
		if len(c.queue) == 0 || c.events != ch {
			c.mu.Unlock()
			return
		}
		message := c.queue[0]
		c.queue[0], c.queue = nil, c.queue[1:]
		c.mu.Unlock()
		if _, err := ch.WriteDataChannel(message, true); err != nil {
			return // the channel is being closed
		}
		c.o.Counters.Events.Add(1)
	}
}

// serveMeta sends the records that wait while SCTP takes them; what comes
// meanwhile takes the place of the oldest.
func (c *Channels) serveMeta(ch *channel, now time.Time) {
	if !ch.room(metaBuffered, now) {
		if now.Sub(ch.full) > stuckLimit {
			c.cut("the viewer does not take what is sent")
		}
		return
	}
	s := &c.sender
	s.frames = s.frames[:0]
	c.mu.Lock()
	for ; c.taken < c.written; c.taken++ {
		s.frames = append(s.frames, c.frames[c.taken%framesKept])
	}
	var ready []*Annotation
	var of []uint32
	waiting := c.annotations[:0]
	for _, a := range c.annotations {
		if rtp, ok := c.frameAtLocked(a.captured); ok {
			ready, of = append(ready, a), append(of, rtp)
		} else {
			waiting = append(waiting, a)
		}
	}
	clear(c.annotations[len(waiting):])
	c.annotations = waiting
	c.mu.Unlock()
	for _, f := range s.frames {
		c.adapt(ch, f, now)
		if !s.picker.wants(s.adapter.now, f) {
			c.o.Counters.Thinned.Add(1)
			continue
		}
		s.buf = appendFrame(s.buf[:0], s.camera, f)
		c.write(ch, s.buf)
	}
	for i, a := range ready {
		if s.adapter.now == keyframes {
			c.o.Counters.Thinned.Add(1)
			continue
		}
		s.buf = appendAnnotation(s.buf[:0], s.camera, a, of[i])
		c.write(ch, s.buf)
	}
}

// atLeast is how much of a frame's time may be lost in a producer's clock.
const atLeast = time.Millisecond

// frameAtLocked is the RTP time of the frame nearest to a moment; ok is false
// while none so new was sent.
func (c *Channels) frameAtLocked(captured time.Time) (rtp uint32, ok bool) {
	if c.written == 0 || c.frames[(c.written-1)%framesKept].Captured.Before(captured.Add(-atLeast)) {
		return 0, false
	}
	best := time.Duration(-1)
	for i := range min(c.written, framesKept) {
		f := &c.frames[(c.written-1-i)%framesKept]
		if d := f.Captured.Sub(captured).Abs(); best < 0 || d < best {
			best, rtp = d, f.RTP
		}
	}
	return rtp, true
}

// adapt lets the detail follow the path.
func (c *Channels) adapt(ch *channel, f Frame, now time.Time) {
	s := &c.sender
	before := s.adapter.now
	d := s.adapter.next(now, f.Loss, f.RTT)
	if d == before {
		return
	}
	c.path.Store(&path{d, f.Loss, f.RTT})
	ch.stream.SetReliabilityParams(true, sctp.ReliabilityTypeRexmit, d.retransmissions())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eventLocked(qualityEvent(c.o.Camera, c.quality, c.path.Load()))
}

// write sends a record, in fragments where it is long.
func (c *Channels) write(ch *channel, record []byte) {
	if len(record) <= MaxMessage {
		_, _ = ch.WriteDataChannel(record, true) // fails where the channel is being closed
	} else {
		for _, p := range fragments(c.sender.id, record) {
			_, _ = ch.WriteDataChannel(p, false)
		}
		c.sender.id++
	}
	c.o.Counters.Records.Add(1)
}
