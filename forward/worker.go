package forward

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// worker brings each frame to a share of a stream's viewers. The first worker
// of a stream is the stream's own goroutine; further ones run while there is
// enough to do for them.
type worker struct {
	wake chan struct{} // a frame or a request is there; capacity 1
	stop context.CancelFunc

	round   sync.Mutex // held for a round: viewers change workers between rounds
	viewers []*Viewer  // in the order of service
	out     batch      // scratch
	slow    paced      // those of viewers to whom a part of a frame is still to be sent

	busy atomic.Int64 // nanoseconds spent in rounds
}

func newWorker() *worker {
	return &worker{wake: make(chan struct{}, 1), stop: func() {}, slow: newPaced()}
}

// signal has the worker do a round soon. It never waits.
func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run serves until ctx is done.
func (w *worker) run(ctx context.Context) {
	next := time.NewTimer(waitPoll)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-next.C:
		case <-w.slow.timer.C:
			w.servePaced(time.Now())
			continue
		}
		if w.serve(time.Now()) {
			next.Reset(waitPoll)
		}
	}
}

// serve does a round: each viewer is sent what is due. It reports whether a
// lane waits for a keyframe.
func (w *worker) serve(now time.Time) (waiting bool) {
	w.round.Lock()
	defer w.round.Unlock()
	w.slow.begin()
	for _, v := range w.viewers {
		waits, partial := v.pump(&w.out, now)
		waiting = waiting || waits
		if partial {
			w.slow.add(v)
		}
	}
	w.out.flush()
	w.busy.Add(int64(time.Since(now)))
	return waiting
}

// servePaced does a round of those only to whom a part of a frame is still to
// be sent.
func (w *worker) servePaced(now time.Time) {
	w.round.Lock()
	defer w.round.Unlock()
	for _, v := range w.slow.begin() {
		if _, partial := v.pump(&w.out, now); partial {
			w.slow.add(v)
		}
	}
	w.out.flush()
	w.busy.Add(int64(time.Since(now)))
}

// crew is a stream's workers and who serves whom. It belongs to the stream's
// goroutine, which alone moves viewers between workers.
type crew struct {
	stream  *Stream
	ctx     context.Context
	group   sync.WaitGroup // all but the first
	workers []*worker
	viewers []*Viewer // that are served, as of the last muster
	joined  uint64    // the stream's count of changes to its viewers, then

	counted time.Time // when loads were taken last
	spent   []int64   // by worker: busy, then
}

func newCrew(ctx context.Context, st *Stream) *crew {
	return &crew{stream: st, ctx: ctx, workers: []*worker{st.first}, counted: time.Now()}
}

// muster gives viewers that have joined to the worker with the fewest, and
// lets those go that have left. It returns all that there are.
func (c *crew) muster(now time.Time) []*Viewer {
	viewers, joined := c.stream.roll()
	if joined == c.joined {
		return viewers
	}
	old := make(map[*Viewer]bool, len(c.viewers))
	for _, v := range c.viewers {
		old[v] = true
	}
	to := make([]int, len(viewers))
	number := make([]int, len(c.workers))
	for i, v := range viewers {
		if to[i] = -1; old[v] {
			to[i] = int(v.worker.Load())
			number[to[i]]++
		}
	}
	for i := range to {
		if to[i] < 0 {
			to[i] = slices.Index(number, slices.Min(number))
			number[to[i]]++
		}
	}
	c.joined = joined
	c.deal(viewers, to)
	if len(viewers) == 0 {
		c.balance(now)
	}
	return viewers
}

// deal gives viewer i to worker to[i], who serves them in the order given. No
// round runs meanwhile, so that no viewer ever has two workers, or none while
// a frame goes out.
func (c *crew) deal(viewers []*Viewer, to []int) {
	lists := make([][]*Viewer, len(c.workers))
	for i, v := range viewers {
		lists[to[i]] = append(lists[to[i]], v)
		v.worker.Store(int32(to[i]))
	}
	for _, w := range c.workers {
		w.round.Lock()
	}
	for i, w := range c.workers {
		w.viewers = lists[i]
		w.slow.begin() // the round that follows finds them again
		w.round.Unlock()
	}
	c.viewers = viewers
	for _, w := range c.workers {
		w.signal() // who has just come may be due
	}
}

// balance takes stock: it has as many workers as the work wants, and moves
// viewers where the work is spread unevenly. It is called once in a while.
func (c *crew) balance(now time.Time) {
	since := now.Sub(c.counted)
	if since <= 0 {
		return
	}
	loads := c.loads(since)
	n := crewSize(loads, len(c.workers), runtime.GOMAXPROCS(0))
	if n != len(c.workers) || !settled(loads, n) {
		c.resize(max(n, len(c.workers)))
		c.share(loads, n)
		c.resize(n)
	}
	c.account(since)
	c.counted = now
}

// loads measures what each viewer has cost since the last time.
func (c *crew) loads(since time.Duration) []load {
	loads := make([]load, len(c.viewers))
	for i, v := range c.viewers {
		work, packets, group := v.worked()
		loads[i] = load{worker: int(v.worker.Load()), group: group, work: float64(work-v.before.work) / since.Seconds()}
		v.lately = float64(packets-v.before.packets) / since.Seconds()
		v.before.work, v.before.packets = work, packets
	}
	return loads
}

// share deals all viewers anew to n workers.
func (c *crew) share(loads []load, n int) {
	order, to := share(loads, n)
	viewers, places := make([]*Viewer, len(order)), make([]int, len(order))
	for i, at := range order {
		viewers[i], places[i] = c.viewers[at], to[at]
	}
	c.deal(viewers, places)
}

// resize begins workers, or ends those that serve nobody any more.
func (c *crew) resize(n int) {
	if n == len(c.workers) {
		return
	}
	for _, w := range c.workers[min(n, len(c.workers)):] {
		w.stop()
	}
	workers := slices.Clone(c.workers[:min(n, len(c.workers))])
	for len(workers) < n {
		w := newWorker()
		var ctx context.Context
		ctx, w.stop = context.WithCancel(c.ctx)
		workers = append(workers, w)
		c.group.Go(func() { w.run(ctx) })
	}
	c.workers = workers
	c.stream.employ(workers)
}

// account tells the stream's statistics what the workers did.
func (c *crew) account(since time.Duration) {
	stats := make([]WorkerStats, len(c.workers))
	for _, v := range c.viewers {
		s := &stats[v.worker.Load()]
		s.Viewers++
		s.Packets += v.lately
	}
	spent := make([]int64, len(c.workers))
	for i, w := range c.workers {
		spent[i] = w.busy.Load()
		before := int64(0)
		if i < len(c.spent) {
			before = c.spent[i]
		}
		stats[i].Busy = min(1, time.Duration(spent[i]-before).Seconds()/since.Seconds())
	}
	c.spent = spent
	c.stream.accounted(stats)
}

// end ends the further workers.
func (c *crew) end() {
	c.resize(1)
	c.group.Wait()
}

// load is what serving one viewer takes.
type load struct {
	worker int // that serves it now
	group  Group
	work   float64 // units a second
}

const (
	// A unit of work is about what a packet costs; to send a frame's packets
	// costs some units besides.
	frameWork = 4

	// grain is the work, in units a second, that is worth a worker of its own:
	// that of some 25 viewers of 2.5 Mbit/s at 30 frames a second. With fewer
	// a second core hardly shortens the way of a frame.
	grain = 10000

	shrink   = 0.7 // a worker goes when the work would be this share of what the rest are worth
	lopsided = 1.2 // times the mean: the work that one worker may have
)

// crewSize says how many workers a stream should have that has some now; most
// is how many can run at once.
func crewSize(loads []load, now, most int) int {
	total := 0.0
	for _, l := range loads {
		total += l.work
	}
	if up := int(total / grain); up > now {
		return max(1, min(up, most))
	}
	if down := int(total / (grain * shrink)); down < now {
		return max(1, min(down, most))
	}
	return max(1, min(now, most))
}

// settled tells whether n workers may keep whom they serve: the viewers stand
// in the order of service, and nobody has much more to do than others.
func settled(loads []load, n int) bool {
	byGroup := func(a, b load) int { return cmp.Compare(a.group, b.group) }
	byWorker := func(a, b load) int { return cmp.Compare(a.worker, b.worker) }
	if !slices.IsSortedFunc(loads, byGroup) || !slices.IsSortedFunc(loads, byWorker) {
		return false
	}
	work, total := make([]float64, n), 0.0
	for _, l := range loads {
		work[l.worker] += l.work
		total += l.work
	}
	return slices.Max(work) <= lopsided*total/float64(n)
}

// share spreads viewers over n workers: those of a group have one worker as
// far as that is even, so that what a bad link needs besides delays few who
// have good ones. Few change their worker. order is the order of service, to
// the worker of each viewer.
func share(loads []load, n int) (order, to []int) {
	order, to = make([]int, len(loads)), make([]int, len(loads))
	total := 0.0
	for i, l := range loads {
		order[i] = i
		total += l.work
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(loads[a].group, loads[b].group), cmp.Compare(loads[a].worker, loads[b].worker))
	})
	before := 0.0
	for rank, i := range order {
		middle := (before + loads[i].work/2) / total
		if total == 0 { // nothing is known of what they cost
			middle = (float64(rank) + .5) / float64(len(order))
		}
		to[i] = min(int(middle*float64(n)), n-1)
		before += loads[i].work
	}
	return order, to
}
