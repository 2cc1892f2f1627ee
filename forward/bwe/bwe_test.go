package bwe

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	for _, c := range []Config{
		{}, {Min: 1, Start: 2}, {Min: 3, Start: 2, Max: 4}, {Min: 1, Start: 5, Max: 4}, {Min: -1, Start: 1, Max: 2},
		{Min: math.NaN(), Start: 1, Max: 2}, {Min: 1, Start: math.NaN(), Max: 2}, {Min: 1, Start: 1, Max: math.Inf(1)},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v passed", c)
		}
	}
	e, err := New(Config{Min: 1, Start: 1, Max: 1})
	if err != nil || e.Estimate() != 1 {
		t.Errorf("%v, %v", e, err)
	}
}

func TestSentNumbersAndWraps(t *testing.T) {
	e := estimator(t)
	for i := range 1<<16 + 10 {
		if seq := e.Sent(start.Add(time.Duration(i)*time.Millisecond), 1200, Media); seq != uint16(i) {
			t.Fatalf("packet %d has number %d", i, seq)
		}
	}
}

func TestHistoryGrowsWithinBounds(t *testing.T) {
	var h history
	h.init()
	at := func(i int) time.Duration { return time.Second + time.Duration(i)*100*time.Microsecond }
	for i := range 10000 { // 10,000 packets/s, none of them told of
		h.add(at(i), 0, i%1000, 0)
		if n := h.next - h.oldest; n > int64(len(h.records)) || len(h.records) > historyMost {
			t.Fatalf("%d packets in %d records", n, len(h.records))
		}
	}
	if len(h.records) != historyMost {
		t.Errorf("%d records, want all of %d", len(h.records), historyMost)
	}
	for s := h.oldest; s < h.next; s++ {
		if got := h.at(s).size; got != uint16(s%1000) {
			t.Fatalf("packet %d has size %d", s, got)
		}
	}
	var calm history
	calm.init()
	for i := range 10000 {
		calm.add(at(i), 0, 1, 0)
		calm.at(int64(i)).state = received
	}
	if len(calm.records) != historyLeast {
		t.Errorf("grew to %d though everything was told of", len(calm.records))
	}
}

func TestHistoryAgeWraps(t *testing.T) {
	var h history
	h.init()
	wrap := time.Duration(1<<32) * time.Microsecond
	h.add(wrap-time.Second, 0, 1, 0)
	if got := h.age(h.at(0), wrap+2*time.Second); got != 3*time.Second {
		t.Errorf("age %v, want 3 s", got)
	}
}

func TestHistoryExtend(t *testing.T) {
	h := history{next: 3 << 16}
	for seq, want := range map[uint16]int64{
		0xffff: 3<<16 - 1, 0xfff0: 3<<16 - 16, 0: 3 << 16, 5: 3<<16 + 5, 0x8000: 2<<16 + 0x8000, 0x7000: 3<<16 + 0x7000,
	} {
		if got := h.extend(seq); got != want {
			t.Errorf("%#x → %#x, want %#x", seq, got, want)
		}
	}
}

func TestThroughput(t *testing.T) {
	var p throughput
	if _, ok := p.since(0, 0); ok {
		t.Error("a rate of nothing")
	}
	// 1 Mbit/s in packets of 1250 bytes every 10 ms, then 2 Mbit/s
	now := time.Duration(0)
	for range 50 {
		now += 10 * time.Millisecond
		p.add(now, 1250)
	}
	change := now
	for range 50 {
		now += 10 * time.Millisecond
		p.add(now, 2500)
	}
	for _, tt := range []struct {
		since time.Duration
		want  float64
	}{{0, 1.5e6}, {change, 2e6}, {now - 100*time.Millisecond, 2e6}} {
		got, ok := p.since(tt.since, 50*time.Millisecond)
		if !ok || math.Abs(got-tt.want) > 0.02*tt.want {
			t.Errorf("since %v: %.0f (%v), want %.0f", tt.since, got, ok, tt.want)
		}
	}
	if _, ok := p.since(now-20*time.Millisecond, 100*time.Millisecond); ok {
		t.Error("a rate of too short a time")
	}
	if got := p.most(0, 100*time.Millisecond, 0); math.Abs(got-2e6) > 1 {
		t.Errorf("at most %.0f, want 2 Mbit/s", got)
	}
	p.add(now-time.Hour, 1) // the clock went back
	if p.n != 1 {
		t.Errorf("%d spells after the clock went back", p.n)
	}
}

func TestThroughputReordered(t *testing.T) {
	var p throughput
	for _, at := range []time.Duration{10, 30, 25, 12, 50} {
		p.add(at*time.Millisecond, 1000)
	}
	if got, ok := p.since(0, 0); !ok || got != 4000*8/0.04 {
		t.Errorf("%.0f, %v", got, ok)
	}
}

func TestLowest(t *testing.T) {
	l := lowest{span: time.Second}
	if _, ok := l.value(); ok {
		t.Error("the least of nothing")
	}
	for _, tt := range []struct{ at, v, want time.Duration }{
		{0, 5, 5}, {500, 3, 3}, {900, 9, 3}, {1100, 7, 3}, {1900, 8, 3}, {2100, 9, 7}, {3200, 8, 8}, {9000, 20, 20}, {10, 30, 30},
	} {
		l.add(tt.at*time.Millisecond, tt.v)
		if got, _ := l.value(); got != tt.want {
			t.Errorf("at %d ms: %d, want %d", tt.at, got, tt.want)
		}
	}
}

// feedTrend gives the trend n groups, 33 ms apart, each later by step than the one before.
func feedTrend(tr *trend, n int, step func(i int) time.Duration) (uses []use) {
	at, delay := time.Second, time.Duration(0)
	for i := range n {
		d := step(i)
		at += 33*time.Millisecond + d
		delay += d
		tr.add(gap{arrive: at, delay: delay, excess: d})
		uses = append(uses, tr.use)
	}
	return uses
}

func TestTrend(t *testing.T) {
	for _, tt := range []struct {
		name string
		step func(i int) time.Duration
		want use // at the end
	}{
		{"flat", func(int) time.Duration { return 0 }, normal},
		{"a queue grows", func(int) time.Duration { return 5 * time.Millisecond }, over},
		{"a queue drains", func(int) time.Duration { return -5 * time.Millisecond }, under},
		{"up and down", func(i int) time.Duration { return time.Duration(1-2*(i%2)) * 3 * time.Millisecond }, normal},
	} {
		var tr trend
		tr.reset()
		uses := feedTrend(&tr, 40, tt.step)
		if got := uses[len(uses)-1]; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestTrendThresholdAdapts(t *testing.T) {
	var tr trend
	tr.reset()
	feedTrend(&tr, 200, func(int) time.Duration { return 0 })
	if tr.threshold != thresholdLeast {
		t.Errorf("threshold %v after calm", tr.threshold)
	}
	most := 0.0
	feedTrend(&tr, 200, func(i int) time.Duration {
		most = max(most, tr.threshold)
		return time.Duration(1-2*(i/25%2)) * 1500 * time.Microsecond
	})
	if most < 1.2*thresholdLeast {
		t.Errorf("threshold at most %v with swings", most)
	}
}

func TestTrendBusy(t *testing.T) {
	var tr trend
	tr.reset()
	at, want, delay := time.Second, time.Duration(0), 20*time.Millisecond
	for i := range 15 {
		at += 40 * time.Millisecond
		if i >= 10 {
			delay += 50 * time.Millisecond
		} else {
			want = at
		}
		tr.add(gap{arrive: at, delay: delay})
	}
	if got := tr.busy(); got != want {
		t.Errorf("busy since %v, want %v", got, want)
	}
}

func TestGroups(t *testing.T) {
	const ms = time.Millisecond
	var g group
	for i, tt := range []struct {
		sent, arrive, queued time.Duration
		want                 gap
		ok                   bool
	}{
		{sent: 100 * ms, arrive: 120 * ms, queued: 1 * ms},
		{sent: 102 * ms, arrive: 121 * ms, queued: 2 * ms}, // the same burst
		{sent: 133 * ms, arrive: 160 * ms, queued: 1 * ms}, // closes the first; no pair yet
		{sent: 134 * ms, arrive: 158 * ms, queued: 3 * ms}, // overtook
		{sent: 101 * ms, arrive: 170 * ms},                 // reported late
		{sent: 166 * ms, arrive: 186 * ms, queued: 2 * ms, ok: true,
			// arrived 39 ms later, sent 32 ms later, 1 ms of it explained
			want: gap{arrive: 160 * ms, delay: 26 * ms, excess: 6 * ms}},
		{sent: 200 * ms, arrive: 187 * ms}, // held up with the one before: one burst
		{sent: 300 * ms, arrive: 320 * ms, ok: true, want: gap{arrive: 187 * ms, delay: -13 * ms, excess: (27 - 66 + 3) * ms}},
	} {
		got, ok := g.add(tt.sent, tt.arrive, tt.queued)
		if got != tt.want || ok != tt.ok {
			t.Errorf("packet %d: %+v %v, want %+v %v", i, got, ok, tt.want, tt.ok)
		}
	}
}

func TestLossIsGentle(t *testing.T) {
	for _, tt := range []struct {
		share       float64
		windows     int
		least, most float64
	}{
		{0.02, 20, 1e6, 1e6}, {0.10, 20, 1e6, 1e6}, {0.30, 1, 1e6, 1e6}, {0.25, 6, 0.7e6, 0.95e6},
		{0.5, 1, 0.4e6, 0.4e6}, {0.9, 1, 0.5e6, 0.5e6},
	} {
		e := estimator(t)
		for i := range tt.windows {
			e.lossy(time.Duration(i+1)*time.Second, tt.share, 0.4e6)
		}
		if r := e.Estimate(); r < tt.least || r > tt.most {
			t.Errorf("%v lost: %.0f, want %.0f to %.0f", tt.share, r, tt.least, tt.most)
		}
	}
}

// One bad window is not held against those after it.
func TestLossInARow(t *testing.T) {
	e := estimator(t)
	e.lossy(time.Second, 0.6, 0.7e6)
	cut := e.rate
	if cut >= 1e6 {
		t.Errorf("%.0f after a window without its most", cut)
	}
	for i := range 10 {
		e.lossy(time.Duration(2+i)*time.Second, 0, 0.7e6)
	}
	if e.rate != cut || e.loss.excess > 0 {
		t.Errorf("%.0f → %.0f, %v in excess, though no more was lost", cut, e.rate, e.loss.excess)
	}
}

// Lost is told of each packet once, and of none that came.
func TestLostIsTold(t *testing.T) {
	var lost []uint16
	c := standard
	c.Lost = func(seq uint16) { lost = append(lost, seq) }
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	send(e, 8)
	for range 2 {
		// four packets by two bits each: received, not received twice, received
		if err := e.FeedbackBytes(start.Add(time.Second), closed(append(head(0, 4, 0), 0xd0, 0x40, 1, 1))); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(lost, []uint16{1, 2}) {
		t.Errorf("told of %v", lost)
	}
}

// TestLossThatStays is not held against the rate for long.
func TestLossThatStays(t *testing.T) {
	e := estimator(t)
	for i := range 100 {
		e.lossy(time.Duration(i)*time.Second, 0.15, 100e3)
	}
	if r := e.Estimate(); r < 0.5e6 {
		t.Errorf("%.0f after 100 s of 15 %% loss", r)
	}
	if l := e.Loss(); math.Abs(l-0.15) > 0.001 {
		t.Errorf("loss %v", l)
	}
	before := e.rate
	for i := range 3 {
		e.lossy(time.Duration(101+i)*time.Second, 0.45, 100e3)
	}
	if e.rate >= before*0.9 {
		t.Errorf("%.0f → %.0f when the loss rose", before, e.rate)
	}
}

func TestREMB(t *testing.T) {
	e := estimator(t)
	e.Sent(start, 1000, Media)
	e.REMB(start, 300e3)
	if r := e.Estimate(); r != 300e3 {
		t.Errorf("%.0f under a bound of 300 kbit/s", r)
	}
	e.REMB(start, 1)
	if r := e.Estimate(); r != standard.Min {
		t.Errorf("%.0f, want the minimum", r)
	}
	e.Sent(start.Add(rembFor+time.Second), 1000, Media)
	if r := e.Estimate(); r <= 300e3 {
		t.Errorf("%.0f after the bound ran out", r)
	}
}

// TestReceptionIsSecond: a viewer with transport-wide feedback is not judged by reports.
func TestReceptionIsSecond(t *testing.T) {
	e := estimator(t)
	send(e, 8)
	if err := e.FeedbackBytes(start.Add(time.Second), closed(append(head(0, 4, 0), 0x20, 4, 4, 1, 1, 1))); err != nil {
		t.Fatal(err)
	}
	before := e.Estimate()
	for i := range 5 {
		e.Reception(start.Add(time.Second+time.Duration(i)*400*time.Millisecond), 1, time.Minute)
	}
	if r := e.Estimate(); r != before {
		t.Errorf("%.0f → %.0f", before, r)
	}
}

// TestProbeRestrains: when probes are asked for, and when not.
func TestProbeRestrains(t *testing.T) {
	lan := func(t *testing.T, want float64) *simulation {
		src := camera(lowLayer)
		src.want = 0
		s := simulate(t, standard, path{base: time.Millisecond, rate: constant(1e9)}, src)
		s.run(5 * time.Second)
		s.e.Want(want)
		return s
	}
	for _, tt := range []struct {
		name   string
		change func(*simulation)
		want   float64
		ok     bool
	}{
		{"wanted", func(*simulation) {}, 5e6, true},
		{"not wanted", func(*simulation) {}, 0, false},
		{"less than the estimate wanted", func(*simulation) {}, 300e3, false},
		{"over-used", func(s *simulation) { s.e.delayed = true }, 5e6, false},
		{"bounded by the receiver", func(s *simulation) { s.e.REMB(s.at(s.now), 400e3) }, 5e6, false},
		{"bounded by the receiver to more", func(s *simulation) { s.e.REMB(s.at(s.now), 1.1e6) }, 5e6, true},
		{"no budget", func(s *simulation) { s.e.probe.budget = 0 }, 5e6, false},
		{"idle", func(s *simulation) { s.now += idleAfter + time.Second }, 5e6, false},
		{"just cut", func(s *simulation) { s.e.cutTo(s.e.now, 400e3) }, 5e6, false},
		{"some time after a cut", func(s *simulation) { s.e.cutTo(s.e.now, 400e3); s.now += holdFor }, 5e6, true},
	} {
		s := lan(t, tt.want)
		tt.change(s)
		n, rate, ok := s.e.Probe(s.at(s.now))
		if ok != tt.ok || ok && (n <= 0 || rate <= s.e.Estimate() || rate > probeFactor*s.e.Estimate()) {
			t.Errorf("%s: %d bytes at %.0f, %v", tt.name, n, rate, ok)
		}
	}
	if _, _, ok := estimator(t).Probe(start); ok {
		t.Error("a probe before the viewer was heard of")
	}
}

func TestProbeBacksOff(t *testing.T) {
	var p probe
	p.patience = backoffMost
	now := time.Duration(0)
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		p.fail(now)
		if p.backoff != want*time.Second || p.next > now+p.backoff || p.next < now+p.backoff*6/10 {
			t.Errorf("backoff %v until %v, want %d s", p.backoff, p.next, want)
		}
		now = p.next
	}
	p.succeed(now, 1e6)
	p.regret(now + time.Second)
	if p.longer != 1 || p.backoff != backoffMost*3/2 {
		t.Errorf("over-use after a success: %d, %v", p.longer, p.backoff)
	}
	p.succeed(now, 1e6)
	p.regret(now + regretFor)
	if p.longer != 1 {
		t.Error("over-use long after a success is no regret")
	}
}

// TestProbePaces: a probe's bytes come in small bursts that make its rate.
func TestProbePaces(t *testing.T) {
	s := simulate(t, standard, path{base: near, rate: constant(1e9)}, camera(lowLayer))
	s.source.want = 0
	s.e.Want(0)
	s.run(3 * time.Second)
	s.e.Want(10e6)
	now, sum, bursts := s.now, 0, 0
	var rate float64
	for ; now < s.now+200*time.Millisecond; now += 5 * time.Millisecond {
		n, r, ok := s.e.Probe(s.at(now))
		if !ok {
			continue
		}
		if rate = r; float64(n) > rate/8*0.011 {
			t.Errorf("%d bytes at once at %.0f bit/s", n, rate)
		}
		sum += n
		bursts++
		s.e.Sent(s.at(now), n, Padding)
	}
	want := rate / 8 * (probeSpan + probeBurst).Seconds()
	if rate == 0 || math.Abs(float64(sum)-want) > 0.05*want+fullPacket/4 || bursts < 5 {
		t.Errorf("%d bytes in %d bursts, want %.0f", sum, bursts, want)
	}
}

// TestClockJumpRestarts: times from before and after a jump are not compared.
func TestClockJumpRestarts(t *testing.T) {
	for name, by := range map[string]time.Duration{"on": time.Hour, "back": -time.Hour, "on a little": 2 * time.Second} {
		e := estimator(t)
		arrive := func(i int, jump time.Duration) {
			sent := time.Minute + time.Duration(i)*33*time.Millisecond
			e.arrived(&record{size: 1000}, 50*time.Millisecond, sent, sent+20*time.Millisecond+jump)
		}
		for i := range 40 {
			arrive(i, 0)
		}
		if e.trend.n == 0 {
			t.Fatal("no trend before the jump")
		}
		arrive(40, by)
		if e.trend.n != 0 || e.Queue() != 0 {
			t.Errorf("%s: %d groups in the trend, queue %v", name, e.trend.n, e.Queue())
		}
	}
}

// A path that falls to a fraction of what is sent shows it within the first
// frames, of which too few arrive for a trend; and what is on the way says when
// its queue will be empty.
func TestFallIsSeenWithinAFrame(t *testing.T) {
	const fall = 10 * time.Second
	s := simulate(t, standard, path{base: near, limit: 1e9, rate: func(t time.Duration) float64 {
		if t < fall {
			return 10e6
		}
		return 300e3
	}}, camera(highLayer))
	s.source.want = 0
	s.run(fall)
	if s.e.Full(s.at(s.now)) || s.e.Narrow(s.at(s.now)) || s.e.Backlog() > 150*time.Millisecond {
		t.Errorf("wide: full %v, narrow %v, backlog %v", s.e.Full(s.at(s.now)), s.e.Narrow(s.at(s.now)), s.e.Backlog())
	}
	s.run(500 * time.Millisecond)
	if e := s.e.Estimate(); e > 400e3 {
		t.Errorf("%.0f bit/s half a second after the fall", e)
	}
	s.run(100 * time.Millisecond)
	drains := time.Duration(s.queued * 8 / 300e3 * float64(time.Second))
	if got := s.e.Backlog(); got < drains/2 || got > drains*3/2 || !s.e.Full(s.at(s.now)) || !s.e.Narrow(s.at(s.now)) {
		t.Errorf("the queue drains in %v, said %v; full %v", drains, got, s.e.Full(s.at(s.now)))
	}
	s.pause = func(time.Duration) bool { return true }
	s.run(drains + time.Second)
	if got := s.e.Backlog(); got > 150*time.Millisecond {
		t.Errorf("the queue is empty, said %v", got)
	}
}
