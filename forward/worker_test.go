package forward

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/rtp"
	"go.uber.org/goleak"
)

// audience is a stream with n viewers without a path.
func audience(t testing.TB, n int) (st *Stream, viewers []*Viewer) {
	t.Helper()
	first, r := bareViewer(t)
	st = first.stream
	for range n {
		v := &Viewer{link: link{sfu: st.sfu, since: testTime, cancel: func(error) {}}, stream: st, queue: newQueue(), quality: Auto}
		v.lanes = []*lane{newLane([]*ring{r}, 90000, videoFormat, testTime)}
		v.media, v.out = protector(t), srtpContext(t)
		viewers = append(viewers, v)
		if err := st.add(v); err != nil {
			t.Fatal(err)
		}
	}
	return st, viewers
}

// Viewers that change workers while frames flow get every frame once, and in
// order.
func TestViewersMoveBetweenWorkers(t *testing.T) {
	defer goleak.VerifyNone(t)
	const n, frames, packets = 200, 120, 2
	st, viewers := audience(t, n)
	ctx, cancel := context.WithCancel(context.Background())
	c := newCrew(ctx, st)
	defer func() { cancel(); c.end() }()
	c.muster(time.Now())
	c.resize(4)
	var served sync.WaitGroup
	served.Go(func() { // the first worker, at work while viewers are moved
		for ctx.Err() == nil {
			<-st.first.wake
			st.first.serve(time.Now())
		}
	})
	in := srtpContext(t)
	got := make([][]*rtp.Packet, n)
	caughtUp := func(frames int) { // a viewer who falls behind skips, as it should
		t.Helper()
		all := func() bool {
			late := false
			for i, v := range viewers {
				got[i] = append(got[i], opened(t, v, in)...)
				late = late || len(got[i]) < frames*packets
			}
			return !late
		}
		for limit := time.Now().Add(30 * time.Second); !all(); time.Sleep(time.Millisecond) {
			if st.signal(); time.Now().After(limit) {
				t.Fatal("not every frame came")
			}
		}
	}
	moved := 0
	for i := range frames {
		f := numberedFrame(i, packets)
		f.Keyframe = i == 0
		st.Frame(&f)
		if i%5 == 0 {
			caughtUp(i + 1)
		}
		order, to := rand.Perm(n), make([]int, n)
		mixed := make([]*Viewer, n)
		for j, at := range order {
			mixed[j], to[j] = viewers[at], rand.IntN(len(c.workers))
			if int32(to[j]) != mixed[j].worker.Load() {
				moved++
			}
		}
		c.deal(mixed, to)
		if i == frames/2 { // some end, others begin
			c.deal(mixed, make([]int, n))
			c.resize(2)
			c.resize(3)
		}
	}
	st.signal()
	caughtUp(frames)
	cancel()
	st.first.signal()
	served.Wait()
	for _, packetsOfOne := range got {
		checkWhole(t, packetsOfOne, frames, packets)
	}
	t.Logf("%d moves", moved)
}

// checkWhole checks that packets are frames 0 to n-1, each once and whole.
func checkWhole(t *testing.T, got []*rtp.Packet, n, packets int) {
	t.Helper()
	if len(got) != n*packets {
		t.Fatalf("%d packets, want %d", len(got), n*packets)
	}
	for i, p := range got {
		if i > 0 && (p.SequenceNumber != got[i-1].SequenceNumber+1 || p.Marker != (i%packets == packets-1)) {
			t.Fatalf("packet %d: number %d after %d, marker %v", i, p.SequenceNumber, got[i-1].SequenceNumber, p.Marker)
		}
		if f := binary.BigEndian.Uint32(p.Payload[1:]); f != uint32(i/packets) || p.Payload[5] != byte(i%packets) {
			t.Fatalf("packet %d is packet %d of frame %d", i, p.Payload[5], f)
		}
	}
}

// cpuTime is what the process has used, user and system.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWorkers measures what a packet costs in CPU time and how long a
// frame takes to its last viewer, each on a socket of its own, by workers.
func BenchmarkWorkers(b *testing.B) {
	for _, viewers := range []int{10, 20, 50, 100, 200} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("viewers=%d/workers=%d", viewers, workers), func(b *testing.B) { benchmarkWorkers(b, viewers, workers) })
		}
	}
}

func benchmarkWorkers(b *testing.B, n, workers int) {
	st, viewers := audience(b, n)
	for _, v := range viewers {
		e, to := socketPair(b, "127.0.0.1:0", "127.0.0.1:0")
		remote := addressOf(to)
		v.remote.Store(&remote)
		st.sfu.egress = e // one sends to all
	}
	ctx, cancel := context.WithCancel(b.Context())
	c := newCrew(ctx, st)
	c.muster(time.Now())
	c.resize(workers)
	c.share(make([]load, n), workers)
	var first sync.WaitGroup
	first.Go(func() {
		for ctx.Err() == nil {
			<-st.first.wake
			st.first.serve(time.Now())
		}
	})
	payload := make([]byte, capture.MaxPayload)
	payloads := make([][]byte, 9)
	for i := range payloads {
		payloads[i] = payload
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	b.ReportAllocs()
	b.ResetTimer()
	before, sent := cpuTime(b), st.sfu.counters.packets.Load()
	for i := range b.N {
		<-tick.C
		st.Frame(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads})
	}
	for st.sfu.counters.packets.Load() < sent+uint64(n*len(payloads)*b.N) && b.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	spent := cpuTime(b) - before
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n*len(payloads)*b.N), "cpu-ns/packet")
	d := st.sfu.delay.value()
	b.ReportMetric(d.Sum*1e6/float64(n*b.N), "delay-us")
	cancel()
	st.first.signal()
	first.Wait()
	c.end()
}

func TestCrewSize(t *testing.T) {
	for _, tt := range []struct {
		name      string
		work      float64 // of each of 10 viewers, in grains
		now, most int
		want      int
	}{
		{"nobody watches", 0, 1, 8, 1},
		{"they have left", 0, 3, 8, 1},
		{"few", .05, 1, 8, 1},
		{"just not enough for two", .199, 1, 8, 1},
		{"enough for two", .2, 1, 8, 2},
		{"two keep their work", .18, 2, 8, 2},
		{"two have too little", .13, 2, 8, 1},
		{"many at once", 2, 1, 8, 8},
		{"one core", 2, 1, 1, 1},
		{"cores were taken away", 2, 8, 2, 2},
	} {
		if got := crewSize(slices.Repeat([]load{{work: tt.work * grain}}, 10), tt.now, tt.most); got != tt.want {
			t.Errorf("%s: %d workers, want %d", tt.name, got, tt.want)
		}
	}
}

func TestShare(t *testing.T) {
	many := func(n int, l load) []load { return slices.Repeat([]load{l}, n) }
	for _, tt := range []struct {
		name  string
		loads []load
		n     int
		want  string // by worker: how many of each group
	}{
		{"alike", many(200, load{work: 400}), 2, "[100 0 0] [100 0 0]"},
		{"nothing known", many(200, load{}), 4, "[50 0 0] [50 0 0] [50 0 0] [50 0 0]"},
		{"nobody", nil, 2, "[0 0 0] [0 0 0]"},
		{"half are bad", slices.Concat(many(100, load{group: Poor, work: 400}), many(100, load{work: 400})), 2, "[100 0 0] [0 0 100]"},
		{"few are bad", slices.Concat(many(10, load{group: Poor, work: 400}), many(20, load{group: Fair, work: 400}), many(170, load{work: 400})), 2, "[100 0 0] [70 20 10]"},
		{"what is low costs less", slices.Concat(many(20, load{group: Poor, work: 100}), many(20, load{work: 400})), 2, "[12 0 0] [8 0 20]"},
		{"one costs more than all others", slices.Concat(many(1, load{work: 1e6}), many(9, load{group: Fair, work: 1})), 2, "[1 0 0] [0 9 0]"},
	} {
		order, to := share(tt.loads, tt.n)
		counts, work := make([][3]int, tt.n), make([]load, len(order))
		for place, i := range order {
			counts[to[i]][tt.loads[i].group]++
			work[place] = tt.loads[i]
			work[place].worker = to[i]
		}
		if got := fmt.Sprint(counts); got != "["+tt.want+"]" {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if tt.name != "one costs more than all others" && !settled(work, tt.n) {
			t.Errorf("%s: it would not last", tt.name)
		}
	}
}

// A viewer whose path gets worse changes its worker, and few others do.
func TestShareMovesFew(t *testing.T) {
	loads := make([]load, 200)
	for i := range loads {
		loads[i] = load{worker: i / 100, work: 400}
	}
	if !settled(loads, 2) {
		t.Error("even shares do not last")
	}
	loads[150].work *= 10 // within what is lopsided
	if !settled(loads, 2) {
		t.Error("a little more work moves viewers")
	}
	loads[7].group = Poor
	if settled(loads, 2) {
		t.Error("a bad link stays among the good")
	}
	_, to := share(loads, 2)
	moved := 0
	for i, l := range loads {
		if to[i] != l.worker {
			moved++
		}
	}
	if to[7] != 1 || moved > 8 {
		t.Errorf("worker %d; %d viewers moved", to[7], moved)
	}
}

// A stream has the workers that its viewers want: more when they are many,
// one when they have left.
func TestCrewFollowsTheWork(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	st, viewers := audience(t, 200)
	c := newCrew(t.Context(), st)
	defer c.end()
	now := c.counted
	second := func(work uint64) {
		for _, v := range viewers {
			v.mu.Lock()
			v.work += work
			v.counts.Packets += work
			v.mu.Unlock()
		}
		now = now.Add(time.Second)
		c.muster(now)
		c.balance(now)
	}
	second(400)
	s := st.Stats().Workers
	if len(s) != 2 || s[0].Viewers != 100 || s[1].Viewers != 100 || s[0].Packets != 40000 || s[1].Packets != 40000 {
		t.Fatalf("80,000 packets a second: %+v", s)
	}
	for i := range 20 { // the second worker's
		for range 10 {
			viewers[100+i].grade.take(.5, time.Second, time.Second)
		}
	}
	second(400)
	if s := st.Stats().Workers; len(s) != 2 || s[0].Viewers != 100 || viewers[119].worker.Load() != 1 || c.viewers[199].grade.group != Poor {
		t.Errorf("bad links: %+v", s)
	}
	for _, v := range viewers[10:] {
		st.drop(v)
	}
	viewers = viewers[:10]
	second(400)
	if s := st.Stats().Workers; len(s) != 1 || s[0].Viewers != 10 || len(st.workers) != 1 {
		t.Errorf("ten are left: %+v", s)
	}
	for _, v := range viewers {
		st.drop(v)
	}
	second(400)
	if s := st.Stats().Workers; len(s) != 1 || s[0] != (WorkerStats{}) || len(st.first.viewers) != 0 {
		t.Errorf("nobody is left: %+v", s)
	}
}

// One camera with many viewers has both cores at work, and one again when they
// have left.
func TestManyViewersHaveSeveralWorkers(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const n = 200
	st, viewers := audience(t, n)
	e, to := socketPair(t, "127.0.0.1:0", "127.0.0.1:0")
	st.sfu.egress = e
	remote := addressOf(to)
	for _, v := range viewers {
		v.remote.Store(&remote)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { st.run(ctx) })
	frame := 0
	flows := func(what string, enough func(w []WorkerStats) bool) {
		t.Helper()
		for limit := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			f := numberedFrame(frame, 9)
			st.Frame(&f)
			frame++
			if w := st.Stats().Workers; enough(w) {
				return
			} else if time.Now().After(limit) {
				t.Fatalf("not %s: %+v", what, w)
			}
		}
	}
	flows("two workers, evenly", func(w []WorkerStats) bool {
		return len(w) == 2 && w[0].Busy > 0 && w[1].Busy > 0 && w[0].Packets > 0 && w[1].Packets > 0 && w[0].Viewers > n/3 && w[1].Viewers > n/3
	})
	for _, v := range viewers[5:] {
		st.drop(v)
	}
	flows("one worker for few", func(w []WorkerStats) bool { return len(w) == 1 && w[0].Viewers == 5 })
}
