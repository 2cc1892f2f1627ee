package forward_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/forward/data"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// heard is what a viewer's data channels have brought.
type heard struct {
	mu      sync.Mutex
	pieces  data.Assembler
	records []data.Record
	events  []string
	closed  map[string]bool
}

// listen opens the channels, before the offer is made.
func (c *client) listen() *heard {
	c.t.Helper()
	h := &heard{closed: map[string]bool{}}
	ordered, none := false, uint16(0)
	c.channel(h, data.Meta, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &none}, func(m webrtc.DataChannelMessage) {
		if !m.IsString {
			if m.Data = h.pieces.Add(m.Data); m.Data == nil {
				return
			}
		}
		r, err := data.ParseRecord(m.Data)
		if err != nil {
			c.t.Errorf("%v: %s", err, m.Data)
		}
		h.records = append(h.records, r)
	})
	c.channel(h, data.Events, nil, func(m webrtc.DataChannelMessage) { h.events = append(h.events, string(m.Data)) })
	return h
}

func (c *client) channel(h *heard, label string, o *webrtc.DataChannelInit, take func(webrtc.DataChannelMessage)) *webrtc.DataChannel {
	c.t.Helper()
	d, err := c.pc.CreateDataChannel(label, o)
	if err != nil {
		c.t.Fatal(err)
	}
	d.OnMessage(func(m webrtc.DataChannelMessage) {
		h.mu.Lock()
		defer h.mu.Unlock()
		take(m)
	})
	d.OnClose(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.closed[label] = true
	})
	return d
}

// wait polls for a condition on what was heard.
func (h *heard) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return ok()
	})
}

func (h *heard) event(part string) func() bool {
	return func() bool {
		return slices.ContainsFunc(h.events, func(e string) bool { return strings.Contains(e, part) })
	}
}

// scenes is a camera of two layers whose capture times are known.
type scenes struct {
	mu       sync.Mutex
	captured map[uint32]time.Time // by frame number
}

func (c *scenes) at(number uint32) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.captured[number]
}

func twoLayers(t *testing.T, s *forward.SFU) (*forward.Stream, *scenes) {
	c := &scenes{captured: map[uint32]time.Time{}}
	var wanted [2]atomic.Bool
	st := s.AddStream("dock", func(layer int) { wanted[layer].Store(true) })
	low := h264Track
	low.Layer = 1
	st.Describe([]capture.Track{h264Track, low})
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for i := 0; ; i++ {
			now := time.Now().Add(-40 * time.Millisecond)
			c.mu.Lock()
			c.captured[uint32(i)] = now
			c.mu.Unlock()
			for track := range 2 {
				f := numbered(i, 3-track, i%30 == 0 || wanted[track].Swap(false))
				f.Track, f.Captured = track, now
				st.Frame(f)
			}
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(over); <-ended })
	return st, c
}

// TestDataChannels: a viewer hears of each frame what it needs to place it in
// time, of the camera and of its own layer.
func TestDataChannels(t *testing.T) {
	s := startSFU(t, nil)
	st, camera := twoLayers(t, s)
	if err := st.Announce([]byte(`{"state":"before"}`)); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, clientOptions{})
	h := c.listen()
	c.join(s, st)
	h.wait(t, "records", func() bool { return len(h.records) >= 20 })
	h.wait(t, "the state", h.event("before"))
	h.wait(t, "the layer", h.event(`"from":-1,"to":0}`))

	c.viewer.SetQuality(forward.Low)
	h.wait(t, "the quality", h.event(`"quality":"low"`))
	h.wait(t, "the lower layer", h.event(`"from":0,"to":1,"why":"asked"}`))
	grid := `"` + strings.Repeat("x", 5000) + `"`
	if err := st.Annotate(time.Now(), "motion", json.RawMessage(grid)); err != nil {
		t.Fatal(err)
	}
	if err := st.Announce([]byte(`{"state":"after"}`)); err != nil {
		t.Fatal(err)
	}
	h.wait(t, "the change", h.event("after"))
	motion := func(r data.Record) bool { return r.Kind == "motion" }
	h.wait(t, "the annotation", func() bool { return slices.ContainsFunc(h.records, motion) })

	// every record is of a frame that came, with its time
	numbers := map[uint32]uint32{}
	c.wait("packets", func(packets []*rtp.Packet) bool {
		for _, p := range packets {
			numbers[p.Timestamp] = frameNumber(p)
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	layers, keyframes := map[int]bool{}, 0
	for i, r := range h.records[:len(h.records)-2] { // the packets of the newest may be on their way
		number, ok := numbers[r.RTP]
		if !ok {
			t.Errorf("record %d: no packet has time %d", i, r.RTP)
			continue
		}
		off := r.Captured().Sub(camera.at(number)).Abs()
		if limit := time.Microsecond; !motion(r) && off > limit || motion(r) && (off > 200*time.Millisecond || string(r.Data) != grid) {
			t.Errorf("record %d, of frame %d: captured %v off: %.100v", i, number, off, r)
		}
		layers[r.Layer] = true
		if r.Keyframe {
			keyframes++
		}
	}
	if len(layers) != 2 || keyframes == 0 {
		t.Errorf("records of layers %v, %d keyframes", layers, keyframes)
	}
	if n := s.Stats(); n.Data["meta"] < 20 || n.Data["events"] < 5 || n.DataCuts != 0 {
		t.Errorf("counted %v, %d cuts", n.Data, n.DataCuts)
	}
}

// TestBadDataKeepsThePicture: whoever abuses the data channels loses them,
// and nothing else.
func TestBadDataKeepsThePicture(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := twoLayers(t, s)
	c := newClient(t, clientOptions{})
	h := c.listen()
	c.join(s, st)
	h.wait(t, "records", func() bool { return len(h.records) > 3 })
	for i := range 30 {
		c.channel(h, fmt.Sprint("extra", i), nil, func(webrtc.DataChannelMessage) {})
	}
	eventually(t, "the cut", func() bool { return s.Stats().DataCuts == 1 })
	h.wait(t, "closed channels", func() bool { return h.closed[data.Meta] && h.closed[data.Events] })
	c.mu.Lock()
	n := 0
	for _, p := range c.packets {
		if p.Marker {
			n++
		}
	}
	c.mu.Unlock()
	c.wait("frames", frames(n+20))
}

// TestLossThinsTheRecords: what the viewer's receiver reports say decides how
// many records it gets.
func TestLossThinsTheRecords(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := twoLayers(t, s)
	c := newClient(t, clientOptions{drop: func(p *rtp.Packet) bool { return p.SequenceNumber%8 == 0 }})
	h := c.listen()
	c.join(s, st)
	h.wait(t, "fewer records", h.event(`"meta":"thinned"`))
	eventually(t, "records left out", func() bool { return s.Stats().DataDropped["thinned"] > 10 })
}

// TestViewersWithDataLeave: nothing stays of them, however they leave.
func TestViewersWithDataLeave(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := twoLayers(t, s)
	udp, tcp := webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4
	for _, one := range []struct {
		network webrtc.NetworkType
		leave   func(c *client)
	}{
		{udp, func(c *client) { c.viewer.Close("enough") }},
		{tcp, func(c *client) { c.viewer.Close("enough") }},
		{udp, func(c *client) { _ = c.pc.GracefulClose() }},
		{tcp, func(c *client) { _ = c.pc.GracefulClose() }},
		{udp, func(c *client) { s.RemoveStream("dock", "gone") }},
	} {
		c := newClient(t, clientOptions{networks: []webrtc.NetworkType{one.network}})
		h := c.listen()
		c.join(s, st)
		h.wait(t, "records", func() bool { return len(h.records) > 3 })
		one.leave(c)
		<-c.viewer.Done()
	}
	if err := st.Announce(make([]byte, data.MaxEvent+1)); err == nil {
		t.Error("an event of any size is taken")
	}
}

// TestDataThatNobodyAskedFor: what comes over DTLS from a viewer that offered
// no data channels is nobody's.
func TestDataThatNobodyAskedFor(t *testing.T) {
	s := startSFU(t, nil)
	st, _ := pulse(t, s, "dock", 2)
	p := newPeer(t, certificate(t))
	p.watch(s, st, 1)
	before := runtime.NumGoroutine()
	for i := range 1000 {
		if _, err := p.dtls.Write(make([]byte, 1+i)); err != nil {
			t.Fatal(err)
		}
	}
	p.live(10)
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if n := s.Stats(); n.DataCuts != 0 || p.viewer.Reason() != "" {
		t.Errorf("%d cuts, viewer: %q", n.DataCuts, p.viewer.Reason())
	}
}
