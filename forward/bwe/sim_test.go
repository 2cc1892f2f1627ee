package bwe

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
)

const (
	lowLayer  = 500e3
	highLayer = 2.5e6
)

// path is what a simulated viewer's path does to packets.
type path struct {
	rate         func(t time.Duration) float64 // bits/s
	base, jitter time.Duration                 // one way, there and back; jitter is uniform in 0…2·jitter
	loss         float64
	feedbackLoss float64
	limit        float64       // bytes of queue, drop-tail
	every        time.Duration // between feedbacks
	skew         float64       // of the viewer's clock
	origin       time.Duration // of the viewer's clock
	jump         func(t time.Duration) time.Duration
	police       float64                    // bytes: a token bucket of this depth drops what is above rate, and nothing queues
	bucket       float64                    // bytes that may pass at once after idleness, in front of the queue
	silent       func(t time.Duration) bool // feedback is lost
	reports      bool                       // receiver reports instead of transport-wide feedback
}

// source is what is sent.
type source struct {
	layers []float64 // bits/s, ascending
	want   float64   // 0: no probing
	fps    int
	gop    time.Duration
	key    float64 // a keyframe is so many times a frame
	paced  bool    // at 2.5 times the estimate
	poll   time.Duration
}

func camera(layers ...float64) source {
	return source{layers: layers, want: layers[len(layers)-1], fps: 30, gop: 2 * time.Second, key: 5, poll: 5 * time.Millisecond}
}

func constant(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// link is the bottleneck, which several simulations may share.
type link struct {
	queue  []simPacket
	queued float64
	credit float64
	tokens float64
}

type simPacket struct {
	owner *simulation
	seq   uint16
	size  int
}

// event is something that arrives: a packet at the viewer, or feedback at the sender.
type event struct {
	at       time.Duration
	n        int // order of equal times
	seq      uint16
	feedback []byte
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// sample is the state every ten milliseconds.
type sample struct {
	at       time.Duration
	estimate float64
	layer    int
	queue    time.Duration
	delayed  bool
}

type simulation struct {
	t        *testing.T
	e        *Estimator
	path     path
	source   source
	rand     *rand.Rand
	recorder *twcc.Recorder

	now   time.Duration
	epoch time.Time
	*link
	arrivals  events
	n         int
	layer     int
	nextKey   time.Duration
	nextFrame time.Duration
	frames    int
	outbox    []int // packet sizes that wait for the pacer
	pace      float64
	samples   []sample
	sent      float64 // bytes of media
	padding   float64 // bytes of probes
	switches  int
	pause     func(time.Duration) bool

	expected, missing int // since the last receiver report
}

func simulate(t *testing.T, c Config, p path, s source) *simulation {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	e.Want(s.want)
	if p.every == 0 {
		p.every = 100 * time.Millisecond
	}
	if p.limit == 0 {
		p.limit = 150e3
	}
	if p.origin == 0 {
		p.origin = 12345 * time.Second
	}
	return &simulation{
		t: t, e: e, path: p, source: s, rand: rand.New(rand.NewPCG(1, 2)), recorder: twcc.NewRecorder(1),
		epoch: time.Unix(1e9, 0), link: &link{},
	}
}

const tick = time.Millisecond

// run goes on for d of simulated time.
func (s *simulation) run(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.step(true)
	}
}

// shared puts several simulations behind the first one's bottleneck.
func shared(all []*simulation, d time.Duration) {
	for _, s := range all[1:] {
		s.link = all[0].link
	}
	for end := all[0].now + d; all[0].now < end; {
		for i, s := range all {
			s.step(i == 0)
		}
	}
}

// step goes on for a tick.
func (s *simulation) step(serve bool) {
	s.produce()
	s.release()
	if s.now%s.source.poll == 0 {
		s.probe()
	}
	if serve {
		s.serve()
	}
	s.deliver()
	if s.now%s.path.every == 0 {
		s.report()
	}
	if s.now%(10*time.Millisecond) == 0 {
		s.samples = append(s.samples, sample{
			at: s.now, estimate: s.e.Estimate(), layer: s.layer, delayed: s.e.Delayed(),
			queue: time.Duration(s.queued * 8 / s.path.rate(s.now) * float64(time.Second)),
		})
	}
	s.now += tick
}

// choose takes the highest layer that the estimate covers; it leaves one only when it is short by 5 %.
func (s *simulation) choose() {
	layer := 0
	for i, r := range s.source.layers {
		if s.e.Estimate() >= r || i <= s.layer && s.e.Estimate() >= 0.95*r {
			layer = i
		}
	}
	if layer != s.layer {
		s.layer, s.nextKey = layer, s.now
		s.switches++
	}
}

// produce makes the next frame when it is due.
func (s *simulation) produce() {
	if s.now < s.nextFrame || s.pause != nil && s.pause(s.now) {
		return
	}
	s.nextFrame = s.now + time.Second/time.Duration(s.source.fps)
	s.choose()
	perGop := s.source.gop.Seconds() * float64(s.source.fps)
	frame := s.source.layers[s.layer] / 8 / float64(s.source.fps) * perGop / (perGop - 1 + s.source.key)
	if s.now >= s.nextKey {
		frame *= s.source.key
		s.nextKey = s.now + s.source.gop
	}
	size := int(frame * (0.85 + 0.3*s.rand.Float64()))
	n := (size + 1199) / 1200
	for range n {
		s.outbox = append(s.outbox, size/n)
	}
	s.frames++
}

// release sends what the pacer lets go.
func (s *simulation) release() {
	s.pace = min(s.pace+2.5*s.e.Estimate()/8*tick.Seconds(), 2400)
	for len(s.outbox) > 0 && (!s.source.paced || s.pace > 0) {
		s.pace -= float64(s.outbox[0])
		s.sent += float64(s.outbox[0])
		s.send(s.outbox[0], Media)
		s.outbox = s.outbox[1:]
	}
}

func (s *simulation) probe() {
	bytes, _, ok := s.e.Probe(s.at(s.now))
	for ok && bytes > 0 {
		n := min(bytes, 1200)
		s.padding += float64(n)
		s.send(n, Padding)
		bytes -= n
	}
}

func (s *simulation) at(t time.Duration) time.Time { return s.epoch.Add(t) }

func (s *simulation) send(size int, kind Kind) {
	seq := s.e.Sent(s.at(s.now), size, kind)
	s.expected++
	if s.rand.Float64() < s.path.loss || s.queued+float64(size) > s.path.limit || !s.police(float64(size)) {
		s.missing++
		return
	}
	s.queue = append(s.queue, simPacket{owner: s, seq: seq, size: size})
	s.queued += float64(size)
}

// police lets size bytes pass if the token bucket has them.
func (s *simulation) police(size float64) bool {
	if s.path.police == 0 {
		return true
	}
	if s.tokens < size {
		return false
	}
	s.tokens -= size
	return true
}

// serve lets the bottleneck work for a tick.
func (s *simulation) serve() {
	perTick := s.path.rate(s.now) / 8 * tick.Seconds()
	if s.path.police > 0 {
		s.tokens = min(s.tokens+perTick, s.path.police)
		perTick = 1e9
	}
	s.credit += perTick
	for len(s.queue) > 0 && s.credit >= float64(s.queue[0].size) {
		p := s.queue[0]
		s.queue = s.queue[1:]
		s.credit -= float64(p.size)
		s.queued -= float64(p.size)
		done := s.now + tick - time.Duration(min(s.credit/perTick, 1)*float64(tick))
		p.owner.push(event{at: done + p.owner.path.base + p.owner.wobble(), seq: p.seq})
	}
	if len(s.queue) == 0 {
		s.credit = min(s.credit, max(perTick, s.path.bucket))
	}
}

func (s *simulation) wobble() time.Duration {
	return time.Duration(2 * s.rand.Float64() * float64(s.path.jitter))
}

func (s *simulation) push(e event) {
	s.n++
	e.n = s.n
	heap.Push(&s.arrivals, e)
}

func (s *simulation) deliver() {
	for len(s.arrivals) > 0 && s.arrivals[0].at <= s.now {
		e := heap.Pop(&s.arrivals).(event)
		if e.feedback == nil {
			clock := time.Duration(float64(e.at)*(1+s.path.skew)) + s.path.origin
			if s.path.jump != nil {
				clock += s.path.jump(e.at)
			}
			s.recorder.Record(1, e.seq, clock.Microseconds())
		} else if err := s.e.FeedbackBytes(s.at(s.now), e.feedback); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *simulation) report() {
	if s.path.reports {
		if s.now%time.Second == 0 && s.expected > 0 {
			rtt := 2*s.path.base + time.Duration(s.queued*8/s.path.rate(s.now)*float64(time.Second))
			s.e.Reception(s.at(s.now), float64(s.missing)/float64(s.expected), rtt)
			s.expected, s.missing = 0, 0
		}
		return
	}
	for _, p := range s.recorder.BuildFeedbackPacket() {
		b, err := p.Marshal()
		if err != nil {
			s.t.Fatal(err)
		}
		if s.rand.Float64() >= s.path.feedbackLoss && (s.path.silent == nil || !s.path.silent(s.now)) {
			s.push(event{at: s.now + s.path.base, feedback: b})
		}
	}
}

// between is the least and greatest estimate from one time to another.
func (s *simulation) between(from, to time.Duration) (least, most float64) {
	least = math.Inf(1)
	for _, x := range s.samples {
		if from <= x.at && x.at < to {
			least, most = min(least, x.estimate), max(most, x.estimate)
		}
	}
	return least, most
}

// share is the time on a layer from one time on.
func (s *simulation) share(layer int, from time.Duration) float64 {
	var on, all float64
	for _, x := range s.samples {
		if x.at >= from {
			all++
			if x.layer == layer {
				on++
			}
		}
	}
	return on / all
}

// when is the first time from which f holds.
func (s *simulation) when(from time.Duration, f func(sample) bool) (time.Duration, bool) {
	for _, x := range s.samples {
		if x.at >= from && f(x) {
			return x.at - from, true
		}
	}
	return 0, false
}
