package data

import (
	"errors"
	"io"
	"sync"

	"github.com/pion/datachannel"
	"github.com/pion/sctp"
)

// accept takes the streams that the viewer opens until the association ends;
// it returns why.
func (c *Channels) accept(a *sctp.Association, group *sync.WaitGroup) error {
	for n := 0; ; n++ {
		stream, err := a.AcceptStream()
		switch {
		case err != nil:
			return err
		case n == streamsTaken: // it keeps each stream until the viewer closes its end
			return cut("more than %d channels were opened", streamsTaken)
		}
		group.Go(func() { c.channel(stream) })
	}
}

// channel serves one stream: its opening (RFC 8832), then what the viewer
// sends, which is read and ignored, until it is closed.
func (c *Channels) channel(stream *sctp.Stream) {
	defer stream.Close() //nolint:errcheck // the association may have ended before
	defer func() {
		if p := recover(); p != nil { // the library parses what the viewer sends
			c.cut("panic: %v", p)
		}
	}()
	d, err := datachannel.Server(stream, &datachannel.Config{LoggerFactory: c.o.PionLog})
	if err != nil {
		return
	}
	ch := &channel{DataChannel: d, stream: stream}
	if !c.opened(ch) {
		return // of a label that means nothing here
	}
	defer c.closed(ch)
	buf := make([]byte, MaxInbound)
	for {
		switch _, _, err := d.ReadDataChannel(buf); {
		case errors.Is(err, io.ErrShortBuffer):
			c.cut("a message of more than %d bytes", MaxInbound)
			return
		case err != nil:
			return
		}
	}
}

// opened takes a channel into use, in the place of one of the same label.
func (c *Channels) opened(ch *channel) bool {
	var before *channel
	ch.OnBufferedAmountLow(c.rouse)
	c.mu.Lock()
	switch ch.Label {
	case Meta:
		before, c.meta = c.meta, ch
		c.taken = c.written
		// A record is for the frame that is shown: late it is of no use, whatever the viewer's opening said.
		ch.stream.SetReliabilityParams(true, sctp.ReliabilityTypeRexmit, c.path.Load().detail.retransmissions())
		ch.SetBufferedAmountLowThreshold(metaBuffered / 2)
	case Events:
		before, c.events = c.events, ch
		c.queue = nil
		ch.stream.SetReliabilityParams(false, sctp.ReliabilityTypeReliable, 0)
		ch.SetBufferedAmountLowThreshold(eventsBuffered / 2)
	default:
		c.mu.Unlock()
		return false
	}
	c.open.Store(true)
	c.mu.Unlock()
	if before != nil {
		_ = before.Close()
	}
	if ch.Label == Events {
		c.o.Greet(c)
		c.mu.Lock()
		c.eventLocked(qualityEvent(c.o.Camera, c.quality, c.path.Load()))
		if c.layer >= 0 {
			c.eventLocked(layerEvent(c.o.Camera, -1, c.layer, ""))
		}
		c.mu.Unlock()
	}
	return true
}

func (c *Channels) closed(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meta == ch {
		c.meta, c.annotations = nil, nil
	}
	if c.events == ch {
		c.events, c.queue = nil, nil
	}
	c.open.Store(c.meta != nil || c.events != nil)
	c.rouse()
}
