package uplink

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"edged/uplink/wire"
)

func window(minute int64, cameras int) wire.Window {
	w := wire.Window{From: 60_000 * minute, To: 60_000 * (minute + 1), Seconds: 60, Forward: &wire.Forward{Packets: uint64(minute)}}
	for i := range cameras {
		w.Cameras = append(w.Cameras, wire.Camera{
			ID: fmt.Sprintf("camera-%08x", uint32(i)*2654435761), State: "live",
			Frames: uint64(i) * 7919 * 104729, Bytes: uint64(i) * 15485863 * 7, Bitrate: float64(i) * 32452843,
		})
	}
	return w
}

// unpack reads a statistics message as a console does.
func unpack(t *testing.T, b []byte) wire.Stats {
	t.Helper()
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	} else if len(b) > wire.GzipOver {
		t.Errorf("%d bytes without gzip", len(b))
	}
	var s wire.Stats
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// drained takes everything out of an outbox.
func drained(t *testing.T, o *outbox) []wire.Stats {
	t.Helper()
	var all []wire.Stats
	for {
		b, seq, ok, err := o.next(9)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if len(b) > wire.MaxStats {
			t.Errorf("message of %d bytes", len(b))
		}
		s := unpack(t, b)
		if s.Seq != seq {
			t.Errorf("number %d in message %d", s.Seq, seq)
		}
		all = append(all, s)
		o.done(seq)
	}
	if n, size := o.size(); n != 0 || size != 0 || o.windows != 0 {
		t.Errorf("an empty outbox has %d messages, %d bytes, %d windows", n, size, o.windows)
	}
	return all
}

func TestOutboxBatches(t *testing.T) {
	o := newOutbox("s", "b", 5, 60)
	for m := range int64(12) {
		if err := o.add(window(m, 2), wire.Revision{Epoch: 1, Rev: uint64(m)}, "synced"); err != nil {
			t.Fatal(err)
		}
	}
	if n, size := o.size(); n != 2 || size == 0 {
		t.Errorf("%d messages, %d bytes, want 2", n, size)
	}
	if err := o.seal(); err != nil {
		t.Fatal(err)
	}
	all := drained(t, o)
	if len(all) != 3 {
		t.Fatalf("%d messages, want 3", len(all))
	}
	for i, s := range all {
		want := wire.Stats{V: 1, Stream: "s", Boot: "b", Seq: uint64(i + 1), Conn: 9, Clock: "synced"}
		want.Config = wire.Revision{Epoch: 1, Rev: uint64(min(5*i+4, 11))}
		for m := 5 * i; m < min(5*i+5, 12); m++ {
			want.Windows = append(want.Windows, window(int64(m), 2))
		}
		if g, w := text(t, s), text(t, want); g != w {
			t.Errorf("message %d\n%s\nwant\n%s", i, g, w)
		}
	}
}

func TestOutboxSendsAgainUntilAcknowledged(t *testing.T) {
	o := newOutbox("s", "b", 1, 60)
	for m := range int64(2) {
		if err := o.add(window(m, 1), wire.Revision{}, "none"); err != nil {
			t.Fatal(err)
		}
	}
	first, seq, _, _ := o.next(1)
	again, seq2, _, _ := o.next(2)
	a, b := unpack(t, first), unpack(t, again)
	if seq != 1 || seq2 != 1 || a.Conn != 1 || b.Conn != 2 || a.Windows[0].From != b.Windows[0].From {
		t.Errorf("first %+v, again %+v", a, b)
	}
	o.done(7) // an acknowledgement of something else
	o.done(1)
	o.done(1) // twice
	if rest := drained(t, o); len(rest) != 1 || rest[0].Seq != 2 {
		t.Errorf("left: %+v", rest)
	}
}

func TestOutboxFull(t *testing.T) {
	o := newOutbox("s", "b", 2, 6)
	for m := range int64(12) {
		if err := o.add(window(m, 1), wire.Revision{}, "none"); err != nil {
			t.Fatal(err)
		}
	}
	all := drained(t, o)
	if len(all) != 4 {
		t.Fatalf("%d messages, want a gap and three batches", len(all))
	}
	gap := all[0]
	if gap.Gap == nil || *gap.Gap != (wire.Gap{From: 0, To: 6 * 60_000, Reason: "full", Windows: 6}) || len(gap.Windows) != 0 || gap.Seq != 3 {
		t.Errorf("gap %s", text(t, gap))
	}
	for i, s := range all[1:] {
		if s.Seq != uint64(4+i) || s.Windows[0].From != int64(60_000*(6+2*i)) || s.Gap != nil {
			t.Errorf("message %s", text(t, s))
		}
	}
}

// A batch was received, its acknowledgement was not, and meanwhile it made
// room: the acknowledgement that comes late takes the gap away.
func TestOutboxFullWhileUnderWay(t *testing.T) {
	o := newOutbox("s", "b", 1, 2)
	add := func(m int64) {
		if err := o.add(window(m, 1), wire.Revision{}, "none"); err != nil {
			t.Fatal(err)
		}
	}
	add(0)
	_, seq, _, _ := o.next(1)
	add(1)
	add(2)
	o.done(seq)
	if rest := drained(t, o); len(rest) != 2 || rest[0].Gap != nil {
		t.Errorf("left: %s", text(t, rest))
	}
}

func TestOutboxSplits(t *testing.T) {
	o := newOutbox("s", "b", 2, 60)
	const cameras = 900 // far more than a message holds
	for m := range int64(2) {
		if err := o.add(window(m, cameras), wire.Revision{}, "none"); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	firsts := 0
	all := drained(t, o)
	for i, s := range all {
		if s.Seq != uint64(i+1) {
			t.Errorf("message %d has number %d", i, s.Seq)
		}
		for _, w := range s.Windows {
			if w.Forward != nil {
				firsts++
			}
			if w.Part == 0 {
				t.Error("a part without its number")
			}
			for _, c := range w.Cameras {
				seen[fmt.Sprint(w.From, c.ID)] = true
			}
		}
	}
	if len(all) < 4 || len(seen) != 2*cameras || firsts != 2 {
		t.Errorf("%d messages with %d cameras and %d first parts", len(all), len(seen), firsts)
	}
}

// All kinds together are to stay under 1 MB a day: a box with eight cameras
// and as many viewers, one window a minute, five a message.
func TestDailyBudget(t *testing.T) {
	r := newRecorder(time.Minute)
	o := newOutbox(newStream(), "0f8fad5b-d9cb-469f-a165-70867728950e", 5, 60)
	rng := rand.New(rand.NewPCG(1, 2))
	at, s := epoch, Sample{}
	for id := range 8 {
		s.Cameras = append(s.Cameras, CameraSample{ID: fmt.Sprintf("camera-%d", id), State: "live"})
	}
	s.Forward.Join = Histogram{Bounds: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10}, Counts: make([]uint64, 9)}
	s.Forward.Delay = Histogram{Bounds: []float64{.0001, .001, .01, .1}, Counts: make([]uint64, 5)}
	noise := func() uint64 { return rng.Uint64N(100_000) }
	for range 5*12 + 1 {
		s.Cameras = slices.Clone(s.Cameras)
		for i := range s.Cameras {
			s.Cameras[i].Frames += 150
			s.Cameras[i].Bytes += noise()
			s.Cameras[i].Keyframes += noise() % 3
			s.Cameras[i].Viewers = int(noise() % 5)
		}
		f := &s.Forward
		f.Packets, f.Bytes, f.NACKs, f.RTX = f.Packets+noise(), f.Bytes+noise(), f.NACKs+noise(), f.RTX+noise()
		f.Join.Counts, f.Delay.Counts = slices.Clone(f.Join.Counts), slices.Clone(f.Delay.Counts)
		f.Join.Counts[noise()%9]++
		f.Delay.Counts[noise()%5] += noise()
		f.RTT, f.Loss = nil, nil
		for range 8 {
			f.RTT = append(f.RTT, time.Duration(noise())*time.Microsecond)
			f.Loss = append(f.Loss, float64(noise())/1e6)
		}
		s.TURN.RelayedIn, s.TURN.RelayedOut = s.TURN.RelayedIn+noise(), s.TURN.RelayedOut+noise()
		s.Host = HostSample{HasCPU: true, CPU: s.Host.CPU + time.Duration(noise()), RSS: noise() << 10, Available: noise() << 10, HasTemperature: true, Temperature: float64(noise()) / 1e3}
		if w, ok := r.add(at, s); ok {
			if err := o.add(w, wire.Revision{Epoch: 1, Rev: 42}, "synced"); err != nil {
				t.Fatal(err)
			}
		}
		at = at.Add(5 * time.Second)
	}
	n, size := o.size()
	const overhead = 120 // topic, MQTT and PUBACK, TCP and IP headers of a message
	day := 24*60/5*(size+overhead) + 24*4*(wire.MaxPresence+overhead)
	t.Logf("a message of five windows has %d bytes; a day %d kB", size, day/1000)
	if n != 1 || day > 1_000_000 {
		t.Errorf("%d messages, %d bytes a day", n, day)
	}
}
