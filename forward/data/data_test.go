package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/logging"
	"github.com/pion/sctp"
)

// quiet keeps pion silent.
var quiet = &logging.DefaultLoggerFactory{Writer: discard{}}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// rig is Channels and a viewer that talks to them over a wire in memory.
type rig struct {
	t        testing.TB
	c        *Channels
	counters Counters
	wire     *conn // the viewer's end
	lose     atomic.Pointer[func() bool]
	viewer   *sctp.Association
	ended    chan error
	cancel   context.CancelFunc
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, ended: make(chan error, 1)}
	r.c = New(Options{
		Camera: "dock", Counters: &r.counters, PionLog: quiet,
		Greet: func(c *Channels) { c.Event([]byte(`"hello"`)) },
		Send: func(p []byte) (int, error) {
			if lose := r.lose.Load(); lose != nil && (*lose)() {
				return 0, errors.New("no route to the viewer")
			}
			return r.wire.in.Write(p)
		},
	})
	r.wire = newConn(func(p []byte) (int, error) { r.c.Receive(p); return len(p), nil })
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.c.Run(ctx) }()
}

func (r *rig) connect() {
	r.t.Helper()
	r.run()
	var err error
	if r.viewer, err = sctp.ClientWithOptions(sctp.WithNetConn(r.wire), sctp.WithLoggerFactory(quiet)); err != nil {
		r.t.Fatal(err)
	}
}

// end stops both sides and gives what Run said.
func (r *rig) end() error {
	r.cancel()
	err := <-r.ended
	_ = r.wire.Close()
	if r.viewer != nil {
		_ = r.viewer.Close()
	}
	return err
}

// dial opens a channel as a browser does.
func (r *rig) dial(id uint16, label string) *datachannel.DataChannel {
	r.t.Helper()
	o := &datachannel.Config{Label: label, LoggerFactory: quiet}
	if label == Meta {
		o.ChannelType = datachannel.ChannelTypePartialReliableRexmitUnordered
	}
	d, err := datachannel.Dial(r.viewer, id, o)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// messages reads a channel until it ends.
type messages struct {
	mu     sync.Mutex
	texts  []string
	err    error
	pieces Assembler
}

func read(d *datachannel.DataChannel) *messages {
	m := &messages{}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, text, err := d.ReadDataChannel(buf)
			m.mu.Lock()
			if err != nil {
				m.err = err
				m.mu.Unlock()
				return
			}
			b := buf[:n]
			if !text {
				b = m.pieces.Add(b)
			}
			if b != nil {
				m.texts = append(m.texts, string(b))
			}
			m.mu.Unlock()
		}
	}()
	return m
}

func (m *messages) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.texts...)
}

func (m *messages) closed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

var start = time.Unix(1_700_000_000, 250_000_000)

// frameOf is frame i of 30 a second.
func frameOf(i int) Frame {
	return Frame{Captured: start.Add(time.Duration(i) * time.Second / 30), RTP: uint32(i)*3000 - 6000, Keyframe: i%30 == 0}
}

func TestChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect()
		r.c.Frame(frameOf(0)) // nobody listens
		meta, events, other := r.dial(1, Meta), r.dial(3, Events), r.dial(5, "other")
		records, told, none := read(meta), read(events), read(other)
		synctest.Wait()
		r.c.Quality("low")
		for i := range 40 {
			f := frameOf(i)
			if i >= 20 {
				f.Layer, f.Why = 1, "estimate"
			}
			r.c.Frame(f)
			time.Sleep(time.Second / 30)
		}
		r.c.Event([]byte(`{"news":1}`))
		time.Sleep(time.Second)
		if got := records.all(); len(got) != 40 {
			t.Fatalf("%d records: %v", len(got), got)
		}
		for i, text := range records.all() {
			rec, err := ParseRecord([]byte(text))
			want := frameOf(i)
			if err != nil || rec.Camera != "dock" || rec.Kind != "frame" || rec.RTP != want.RTP || rec.Keyframe != want.Keyframe || rec.Layer != i/20 ||
				rec.Captured().Sub(want.Captured).Abs() > time.Microsecond {
				t.Errorf("record %d is %s, captured %v, want %v (%v)", i, text, rec.Captured(), want, err)
			}
		}
		want := []string{
			`"hello"`,
			`{"jsonrpc":"2.0","method":"view.quality","params":{"camera":"dock","quality":"","meta":"all","loss":0,"rtt":0}}`,
			`{"jsonrpc":"2.0","method":"view.quality","params":{"camera":"dock","quality":"low","meta":"all","loss":0,"rtt":0}}`,
			`{"jsonrpc":"2.0","method":"view.layer","params":{"camera":"dock","from":-1,"to":0}}`,
			`{"jsonrpc":"2.0","method":"view.layer","params":{"camera":"dock","from":0,"to":1,"why":"estimate"}}`,
			`{"news":1}`,
		}
		if got := told.all(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("events are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if !none.closed() || records.closed() || told.closed() {
			t.Errorf("a channel of another label is closed: %v; meta is: %v, events is: %v", none.closed(), records.closed(), told.closed())
		}
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if r.counters.Records.Load() != 40 || r.counters.Events.Load() != 6 || r.counters.Behind.Load()+r.counters.Thinned.Load()+r.counters.Cuts.Load() != 0 {
			t.Errorf("counted %d records, %d events, %d behind, %d thinned", r.counters.Records.Load(), r.counters.Events.Load(), r.counters.Behind.Load(), r.counters.Thinned.Load())
		}
	})
}

// TestAnnotations: each comes with the time of the frame that it is about,
// before that frame was sent or after, short or long.
func TestAnnotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect()
		records := read(r.dial(1, Meta))
		synctest.Wait()
		long := `"` + strings.Repeat("grid", 2000) + `"`
		annotate := func(i int, off time.Duration, note string) {
			a, err := NewAnnotation(frameOf(i).Captured.Add(off), "motion", json.RawMessage(note))
			if err != nil {
				t.Fatal(err)
			}
			r.c.Annotate(a)
		}
		annotate(5, 0, `{"early":true}`)
		for i := range 20 {
			r.c.Frame(frameOf(i))
			time.Sleep(time.Second / 30)
		}
		annotate(7, 3*time.Millisecond, long)
		annotate(30, 0, `"of a frame that does not come"`)
		time.Sleep(time.Second)
		var got []string
		for _, text := range records.all() {
			if rec, err := ParseRecord([]byte(text)); err != nil {
				t.Error(err)
			} else if rec.Kind == "motion" {
				got = append(got, fmt.Sprintf("%d %s", rec.RTP, rec.Data))
			}
		}
		want := []string{fmt.Sprintf("%d %s", frameOf(5).RTP, `{"early":true}`), fmt.Sprintf("%d %s", frameOf(7).RTP, long)}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("annotations %.300q, want %.300q", got, want)
		}
		for range annotationsKept + 4 {
			annotate(99, 0, `1`)
		}
		if n := r.counters.Behind.Load(); n != 5 {
			t.Errorf("%d annotations were dropped, want the 5 oldest", n)
		}
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for _, bad := range []struct{ kind, data string }{{"frame", "1"}, {"", "1"}, {"a b", "1"}, {"x", "{"}, {"x", ""}, {"x", `"` + strings.Repeat("x", MaxEvent) + `"`}} {
		if _, err := NewAnnotation(start, bad.kind, json.RawMessage(bad.data)); err == nil {
			t.Errorf("kind %q with %.20s was taken", bad.kind, bad.data)
		}
	}
}

// TestBadPath: on a path that loses packets there are fewer records, and all
// again when it is good.
func TestBadPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect()
		records, told := read(r.dial(1, Meta)), read(r.dial(3, Events))
		synctest.Wait()
		i := 0
		play := func(frames int, loss float64) int {
			before := len(records.all())
			for range frames {
				f := frameOf(i)
				f.Loss = loss
				i++
				r.c.Frame(f)
				time.Sleep(time.Second / 30)
			}
			return len(records.all()) - before
		}
		for _, c := range []struct {
			loss        float64
			frames      int
			least, most int
		}{
			{0, 60, 60, 60},
			{.08, 120, 28, 36},
			{.3, 60, 2, 2},
			{0, 300, 40, 50}, // calm for 5 s: keyframes; then thinned
			{0, 60, 55, 60},  // and then all
		} {
			if n := play(c.frames, c.loss); n < c.least || n > c.most {
				t.Errorf("loss %v: %d records of %d frames, want %d to %d", c.loss, n, c.frames, c.least, c.most)
			}
		}
		var details []string
		for _, text := range told.all() {
			var m struct {
				Method string
				Params struct{ Meta string }
			}
			if err := json.Unmarshal([]byte(text), &m); err == nil && m.Method == "view.quality" {
				details = append(details, m.Params.Meta)
			}
		}
		if got := strings.Join(details, " "); got != "all thinned keyframes thinned all" {
			t.Errorf("told of %s", got)
		}
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestPathComesBack: a path that was away takes a few records with it, and
// no event.
func TestPathComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect()
		records, told := read(r.dial(1, Meta)), read(r.dial(3, Events))
		synctest.Wait()
		away := func() bool { return true }
		r.lose.Store(&away)
		r.c.Event([]byte(`"meanwhile"`))
		for i := range 150 {
			r.c.Frame(frameOf(i))
			time.Sleep(time.Second / 30)
		}
		r.lose.Store(nil)
		time.Sleep(10 * time.Second) // SCTP doubles its patience with each repetition
		before := len(records.all())
		for i := range 30 {
			r.c.Frame(frameOf(150 + i))
			time.Sleep(time.Second / 30)
		}
		time.Sleep(time.Second)
		if n := len(records.all()) - before; n != 30 {
			t.Errorf("%d records of 30 frames after the path came back", n)
		}
		if got := told.all(); !slices.Contains(got, `"meanwhile"`) {
			t.Errorf("events %q lack what happened meanwhile", got)
		}
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestCuts: who misbehaves loses its channels, and the box no memory.
func TestCuts(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(r *rig)
		want string
	}{
		"opens too many": {func(r *rig) {
			for i := range 40 {
				if _, err := datachannel.Dial(r.viewer, uint16(2*i+1), &datachannel.Config{Label: "x", LoggerFactory: quiet}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, "channels were opened"},
		"says too much": {func(r *rig) {
			d := r.dial(1, Meta)
			_, _ = d.Write(make([]byte, MaxInbound+1))
		}, "a message of more than"},
		"floods": {func(r *rig) {
			for range packetsASecond + 1 {
				r.c.Receive([]byte{1})
			}
		}, "packets a second"},
		"takes no events": {func(r *rig) {
			r.dial(1, Events)
			synctest.Wait()
			gone := func() bool { return true }
			r.lose.Store(&gone)
			for range 100 {
				r.c.Event(make([]byte, MaxEvent))
				time.Sleep(time.Millisecond)
			}
		}, "events wait"},
		"takes no records": {func(r *rig) {
			r.dial(1, Meta)
			synctest.Wait()
			gone := func() bool { return true }
			r.lose.Store(&gone)
			for i := range 40 * 30 {
				f := frameOf(i)
				r.c.Frame(f)
				time.Sleep(time.Second / 30)
				r.c.mu.Lock()
				n := r.c.meta
				r.c.mu.Unlock()
				if n != nil && n.BufferedAmount() > metaBuffered+framesKept*MaxMessage {
					r.t.Fatalf("%d bytes are buffered", n.BufferedAmount())
				}
			}
		}, "does not take"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.connect()
				c.do(r)
				time.Sleep(2 * time.Second)
				if err := r.end(); !errors.Is(err, ErrCut) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Run: %v, want %q", err, c.want)
				}
				if r.counters.Cuts.Load() != 1 {
					t.Errorf("%d cuts were counted", r.counters.Cuts.Load())
				}
				r.c.Frame(frameOf(1)) // whoever comes late does no harm
				r.c.Event([]byte("1"))
				r.c.Quality("x")
				r.c.Receive([]byte{1})
			})
		})
	}
}

// TestLifeEndsInEveryPhase: nothing is left behind whenever it ends.
func TestLifeEndsInEveryPhase(t *testing.T) {
	for name, do := range map[string]func(*rig){
		"before the first packet": func(r *rig) { r.run() },
		"after nonsense":          func(r *rig) { r.run(); r.c.Receive(bytes.Repeat([]byte{7}, 100)) },
		"with the association":    func(r *rig) { r.connect() },
		"with a half-open channel": func(r *rig) {
			r.connect()
			s, err := r.viewer.OpenStream(1, sctp.PayloadTypeWebRTCDCEP)
			if err == nil {
				_, err = s.Write([]byte{3, 0, 0, 0})
			}
			if err != nil {
				r.t.Error(err)
			}
		},
		"with a channel opened again": func(r *rig) { r.connect(); r.dial(1, Meta); r.dial(3, Meta); synctest.Wait() },
		"after the viewer's abort":    func(r *rig) { r.connect(); r.dial(1, Meta); synctest.Wait(); r.viewer.Abort("enough") },
		"after a channel was closed": func(r *rig) {
			r.connect()
			d := r.dial(1, Meta)
			synctest.Wait()
			_ = d.Close()
			synctest.Wait()
			if r.c.open.Load() {
				r.t.Error("the channel is still open")
			}
			r.c.Frame(frameOf(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which fails where a goroutine stays
				r := newRig(t)
				do(r)
				synctest.Wait()
				if err := r.end(); err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestFramesAllocateNothing(t *testing.T) {
	r := newRig(t)
	r.c.meta = &channel{} // Run does not: nobody takes
	r.c.open.Store(true)
	r.c.layer = 0
	f := frameOf(1)
	if n := testing.AllocsPerRun(1000, func() { r.c.Frame(f) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	s := newSender("dock")
	s.buf = appendFrame(s.buf, s.camera, f)
	if n := testing.AllocsPerRun(1000, func() { s.buf = appendFrame(s.buf[:0], s.camera, f) }); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
	if len(s.buf) > 160 {
		t.Errorf("a record has %d bytes: %s", len(s.buf), s.buf)
	}
}
