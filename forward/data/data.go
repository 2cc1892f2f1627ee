// Package data is the data channels of one viewer: `meta`, a record for each
// frame that is forwarded to it, sent once and never waited for; and `events`,
// what happens to the camera and to the view, reliable and in order.
//
// The viewer opens the channels (RFC 8832). SCTP and its parser are pion's;
// what reaches them has been held against RFC 9260's framing before, and is
// bounded. A viewer that misbehaves loses its channels, never its picture.
package data

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/sctp"
)

// The labels of the channels.
const (
	Meta   = "meta"
	Events = "events"
)

// What one viewer may have and cause at most.
const (
	framesKept      = 64       // frames whose record waits, or that an annotation may be about
	annotationsKept = 16       // annotations that wait for their frame
	eventsKept      = 64       // events that wait
	metaBuffered    = 16 << 10 // bytes in SCTP's hands, not yet with the viewer
	eventsBuffered  = 64 << 10
	streamsTaken    = 16  // streams opened in the association's life
	packetsASecond  = 500 // from the viewer: it has little more to send than acknowledgements
	receiveBuffer   = 32 << 10
	outboundMTU     = 1191 // as browsers have it: 1200 with the DTLS record is less than any path's
	stuckLimit      = 15 * time.Second
	dismissal       = time.Second // for the viewer to close its end of a channel

	// MaxInbound is the most bytes that a message of the viewer may have;
	// messages are read and ignored.
	MaxInbound = 1024
	// MaxEvent is the most bytes of an event, and of an annotation's data.
	MaxEvent = 16 << 10
)

// Counters count over all viewers; safe for use from any goroutine.
type Counters struct {
	Records atomic.Uint64 // sent on meta
	Events  atomic.Uint64 // sent on events
	Thinned atomic.Uint64 // records left out because of the path or the picture rate
	Behind  atomic.Uint64 // records and annotations left out because the viewer does not take them
	Cuts    atomic.Uint64 // viewers that lost their channels
}

// Options are what Channels need; all are required.
type Options struct {
	Camera   string
	Send     func(packet []byte) (int, error) // takes an SCTP packet to the viewer; may block
	Greet    func(*Channels)                  // called when events was opened, to queue the present state
	Counters *Counters
	PionLog  logging.LoggerFactory
}

// Channels are the data channels of one viewer. Run serves them; the other
// methods never block and may be called from any goroutine.
type Channels struct {
	o    Options
	conn *conn
	wake chan struct{} // there is something to send; capacity 1
	open atomic.Bool   // a channel is

	count  int   // of packets within second; owned by Receive
	second int64 // Unix

	mu          sync.Mutex
	cancel      context.CancelCauseFunc // of Run; nil before
	meta        *channel                // nil: not open
	events      *channel
	frames      [framesKept]Frame // by number modulo framesKept
	written     uint64            // frames noted
	taken       uint64            // frames whose record was dealt with
	annotations []*Annotation
	queue       [][]byte // events
	layer       int      // of the frame noted last; -1: none
	quality     string   // that the viewer asked for

	path   atomic.Pointer[path] // as of the detail in force
	sender sender               // owned by serve
}

// New makes the channels of a viewer; nothing happens before Run.
func New(o Options) *Channels {
	c := &Channels{o: o, conn: newConn(o.Send), wake: make(chan struct{}, 1), layer: -1, sender: newSender(o.Camera)}
	c.path.Store(&path{})
	return c
}

// ErrCut is in the chain of what Run returns when the viewer's channels were
// taken from it.
var ErrCut = errors.New("cut off")

func cut(format string, a ...any) error {
	return fmt.Errorf("data channels: %w: %s", ErrCut, fmt.Sprintf(format, a...))
}

// Run serves the association until the viewer has left (its context is done) or
// ends it; then it returns nil. It blocks, owns what it starts, and is called once.
func (c *Channels) Run(viewer context.Context) error {
	ctx, cancel := context.WithCancelCause(viewer)
	defer cancel(nil)
	defer c.close()
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	ends := context.AfterFunc(ctx, func() { _ = c.conn.Close() }) // the handshake waits for the viewer
	association, err := sctp.ServerWithOptions(
		sctp.WithNetConn(c.conn), sctp.WithLoggerFactory(c.o.PionLog), sctp.WithName(c.o.Camera), sctp.WithMTU(outboundMTU),
		sctp.WithMaxReceiveBufferSize(receiveBuffer), sctp.WithMaxMessageSize(MaxEvent), sctp.WithMaxReassemblyQueueEntries(framesKept),
		sctp.WithEnableInterleaving(false),
	)
	ends()
	if err == nil {
		var group sync.WaitGroup
		group.Go(func() { cancel(c.accept(association, &group)) })
		c.serve(ctx)
		if err = context.Cause(ctx); errors.Is(err, ErrCut) {
			c.dismiss(viewer)
		}
		_ = association.Close() // wakes who reads or accepts
		group.Wait()
	} else if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, ErrCut) {
		c.o.Counters.Cuts.Add(1)
		return err
	}
	return nil
}

// dismiss closes the channels and gives the viewer a moment to agree. An
// ABORT would be quicker, but some viewers take it for the end of all.
func (c *Channels) dismiss(viewer context.Context) {
	late := time.NewTimer(dismissal)
	defer late.Stop()
	c.mu.Lock()
	open := []*channel{c.meta, c.events}
	c.mu.Unlock()
	for _, ch := range open {
		if ch != nil {
			_ = ch.Close() // the association may have ended
		}
	}
	for c.open.Load() {
		select {
		case <-c.wake:
		case <-late.C:
			return
		case <-viewer.Done():
			return
		}
	}
}

// close makes everything after it fall on the floor.
func (c *Channels) close() {
	_ = c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meta, c.events, c.annotations, c.queue = nil, nil, nil, nil
	c.open.Store(false)
}

// Receive takes an SCTP packet of the viewer; it is not kept. It is called
// from one goroutine at a time.
func (c *Channels) Receive(packet []byte) {
	if now := time.Now().Unix(); now != c.second {
		c.second, c.count = now, 0
	}
	if c.count++; c.count > packetsASecond {
		c.cut("more than %d packets a second", packetsASecond)
		return
	}
	if wellFormed(packet) {
		_, _ = c.conn.in.Write(packet) // a full buffer drops, SCTP repeats
	}
}

func (c *Channels) cut(format string, a ...any) {
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(cut(format, a...))
	}
}

// Frame notes a frame that was sent to the viewer.
func (c *Channels) Frame(f Frame) {
	if !c.open.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Layer != c.layer {
		c.eventLocked(layerEvent(c.o.Camera, c.layer, f.Layer, f.Why))
		c.layer = f.Layer
	}
	if c.meta == nil {
		return
	}
	c.frames[c.written%framesKept] = f
	c.written++
	if c.written-c.taken > framesKept {
		c.taken++
		c.o.Counters.Behind.Add(1)
	}
	c.rouse()
}

// Annotate queues what somebody knows of a frame; a is shared and not
// changed. Where the viewer has not opened meta nothing happens.
func (c *Channels) Annotate(a *Annotation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meta == nil {
		return
	}
	if len(c.annotations) == annotationsKept {
		c.annotations = c.annotations[1:]
		c.o.Counters.Behind.Add(1)
	}
	c.annotations = append(c.annotations, a)
	c.rouse()
}

// Event queues an event, which is shared and not changed. Where the viewer
// has not opened events nothing happens.
func (c *Channels) Event(message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eventLocked(message)
}

// Quality notes what the viewer asked for.
func (c *Channels) Quality(q string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quality != q {
		c.quality = q
		c.eventLocked(qualityEvent(c.o.Camera, q, c.path.Load()))
	}
}

func (c *Channels) eventLocked(message []byte) {
	if c.events == nil {
		return
	}
	if len(c.queue) == eventsKept {
		c.cancel(cut("%d events wait", eventsKept))
		return
	}
	c.queue = append(c.queue, message)
	c.rouse()
}

func (c *Channels) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
