package forward

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edged/forward/bwe"
	"edged/forward/data"
	"edged/forward/protect"

	"github.com/pion/srtp/v3"
)

const (
	connectLimit   = 20 * time.Second // offer → first connected pair
	handshakeLimit = 10 * time.Second // DTLS
	farewellLimit  = time.Second      // for the last words of a viewer that has ended
	dtlsQueue      = 64               // datagrams that wait for the DTLS stack
	receiveMTU     = 1500
)

// ViewerOptions says how a viewer joins.
type ViewerOptions struct {
	Offer   string       // SDP
	Subject string       // who, for the log and the topology; never a label of a metric
	Log     *slog.Logger // nil: the SFU's
}

// Viewer is one viewer of one stream: an ICE agent, a DTLS handshake, and a
// lane for each track. Its methods may be called from any goroutine.
type Viewer struct {
	link
	stream *Stream
	chosen []selection

	queue  *queue                        // what goes through the agent
	data   atomic.Pointer[data.Channels] // nil until the viewer uses them
	unsent atomic.Uint64                 // packets, of those counted, that the kernel did not take

	worker atomic.Int32                   // that serves it; the stream's goroutine moves it
	before struct{ work, packets uint64 } // the stream's goroutine: what was counted last
	lately float64                        // the same: packets a second, then

	mu        sync.Mutex // held for building one frame; orders what is sent
	lanes     []*lane
	media     *protect.Protector // of RTP; nil before the handshake has ended
	out       *srtp.Context      // of RTCP
	counts    ViewerStats        // the counters, path and reception part
	quality   Quality
	bandwidth *bwe.Estimator // what the path takes; nil: not measured
	heard     bool           // feedback of it came
	at        time.Time      // when the packets that are being built leave
	kind      bwe.Kind       // what they are for
	partial   bool           // a part of a frame is still to be sent
	rate      rateMeter
	work      uint64 // units that it has cost its worker
	grade     grader // of the path
	repair    repair
	playout   playout
	budget    tokens
}

// run is the viewer's goroutine: it logs the reason once.
func (v *Viewer) run(ctx context.Context) {
	v.end(v.runInner(ctx))
	v.log.Info("viewer left", "reason", v.Reason(), "after", time.Since(v.since).Round(time.Millisecond))
}

// end settles the reason: err, unless there was one before.
func (v *Viewer) end(err error) {
	v.settle(err)
	v.mu.Lock()
	v.bookLayers()
	v.mu.Unlock()
	v.sfu.forget(v)
	_ = v.share.Close()
	close(v.done)
}

// runInner is the viewer's life in a straight line; it always ends with an
// error that says why. Whatever ends the viewer cancels ctx with the reason.
func (v *Viewer) runInner(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer v.agent.GracefulClose() //nolint:errcheck // ends read; nothing is left to do about an error
	// Over TCP a peer that does not read blocks every write, the farewell too.
	cut := time.AfterFunc(math.MaxInt64, func() { _ = v.agent.Close() })
	defer cut.Stop()
	defer context.AfterFunc(ctx, func() { cut.Reset(farewellLimit) })()
	conn, err := v.connect(ctx)
	if err != nil {
		return err
	}
	defer v.dtls.Close()
	group.Go(func() { v.cancel(v.read(conn)) })

	secure, err := v.handshake(ctx, conn, v.dtls)
	if err != nil {
		return err
	}
	defer secure.close() // tells the viewer, while the path still stands
	v.mu.Lock()
	v.media, v.out = secure.media, secure.out
	v.counts.Profile = secure.media.Profile().String()
	v.mu.Unlock()
	v.in.open(secure.in)
	group.Go(func() { v.queue.run(ctx, conn) })
	if err := v.stream.add(v); err != nil {
		v.cancel(err)
		return err
	}
	defer v.stream.drop(v)
	v.log.Info("viewer connected", "path", v.path(), "srtp", secure.media.Profile(), "after", time.Since(v.since).Round(time.Millisecond))
	said := make(chan struct{})
	context.AfterFunc(ctx, func() { secure.close(); close(said) }) // ends wait
	v.cancel(secure.wait(v.takeData(ctx, &group, secure)))
	<-said
	return context.Cause(ctx)
}

// pump sends every frame that is due; it never waits for the viewer. It
// reports whether a lane waits for a keyframe, and whether there is a part of a
// frame to be sent soon, before the next comes.
func (v *Viewer) pump(b *batch, now time.Time) (waiting, partial bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partial = false
	if v.quality == Off {
		return false, false
	}
	v.chooseLayers(now)
	v.at, v.kind = now, bwe.Media
	v.repeat(b, now)
	for _, l := range v.lanes {
		for v.pumpOne(l, b, now) {
		}
		waiting = waiting || l.waiting && !l.ring.audio
	}
	v.reportNew(now)
	v.probe(b, now)
	return waiting, v.partial
}

// pumpOne sends one frame of a lane, or a part of it. It reports whether there may be more.
func (v *Viewer) pumpOne(l *lane, b *batch, now time.Time) bool {
	remote := v.remote.Load()
	if remote == nil && !v.queue.room(now) {
		return false // the lane stays where it is, and skips when it is too far behind
	}
	if l.follow() {
		v.stream.wantKeyframe(l.rings[l.want])
	}
	if l.wantsKey(now) {
		v.stream.wantKeyframe(l.ring)
	}
	v.begin(b)
	waited, left, begun := l.waiting, l.left, l.part > 0
	rate, most := v.paceRate(l, remote, now)
	l.ring.mu.RLock()
	f, skipped, ok := l.pick(now)
	end := f.count
	if ok && rate > 0 {
		end = l.pace(f, now, rate, most)
	}
	if ok && end > l.part {
		if f.keyframe && l.part == 0 {
			l.tookKey(f, now)
		}
		l.buildTo(f, end, b)
	}
	l.ring.mu.RUnlock()
	v.countRepairs(l)
	if l.left > left {
		v.counts.Thinned += l.left - left
		v.sfu.counters.drop(dropNarrow, l.left-left)
	}
	if skipped > 0 {
		v.counts.Skipped += skipped
		v.sfu.counters.drop(dropBehind, skipped)
	}
	if !ok {
		if l.waiting {
			v.askFor(l, !waited, now)
		}
		return false
	}
	if !v.seal(b) {
		return false
	}
	if packets, _ := b.built(); packets > 0 {
		// What a joining viewer is caught up with is old, not late; and what
		// is sent in parts is late for the path, not for the box.
		var arrived time.Time
		if rate == 0 && f.number > l.burst {
			arrived = f.arrived
		}
		v.send(remote, b, arrived)
		if !begun {
			v.sent(l, f)
		}
	}
	if end < f.count {
		v.partial = true
		return false
	}
	if v.counts.Join == 0 && f.keyframe && l == v.leading() {
		v.counts.Join = time.Since(v.since)
		v.sfu.joinTime.observe(v.counts.Join)
	}
	return true
}

// askFor asks for the keyframe that a lane waits for: when the wait begins,
// and again while it lasts.
func (v *Viewer) askFor(l *lane, begins bool, now time.Time) {
	if !begins && now.Sub(l.since) < keyframePause && l.started || !l.mayKey(now) {
		return
	}
	v.stream.wantKeyframe(l.ring)
}

// send puts what was built in a batch on the wire, with the batch's flush;
// v.mu is held, so that frames stay in order. A frame's arrival is counted for
// its delay; the zero time is for what is not counted.
func (v *Viewer) send(remote *netip.AddrPort, b *batch, arrived time.Time) {
	packets, bytes := b.built()
	v.work += frameWork + uint64(packets)
	v.counts.Packets += uint64(packets)
	v.counts.Bytes += uint64(bytes)
	v.rate.add(bytes)
	v.sfu.counters.bytes.Add(uint64(bytes))
	if remote != nil {
		b.post(v.sfu.egress, parcel{to: *remote, viewer: v, arrived: arrived})
		return
	}
	v.queue.put(b, v.at)
	v.taken(packets, packets)
	if !arrived.IsZero() {
		v.sfu.delay.observe(time.Since(arrived))
	}
}

// taken is called when the kernel, or the queue, has taken some packets of all
// that were sent together.
func (v *Viewer) taken(packets, of int) {
	v.sfu.counters.packets.Add(uint64(packets))
	if lost := of - packets; lost > 0 {
		v.unsent.Add(uint64(lost))
		v.sfu.counters.drop(dropSocket, 1)
	}
}

// worked is what the viewer has cost since it joined, and its group.
func (v *Viewer) worked() (work, packets uint64, g Group) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.work, v.counts.Packets, v.grade.group
}

// skip counts frames that have waited too long for the path; broken: the lanes
// must go on at a keyframe.
func (v *Viewer) skip(frames int, broken bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.lanes {
		if broken {
			l.abandon(v.at)
		}
	}
	v.counts.Skipped += uint64(frames)
	v.sfu.counters.drop(dropBehind, uint64(frames))
}

// begin starts a parcel of RTP packets that seal will protect. v.mu is held.
func (v *Viewer) begin(b *batch) {
	b.begin()
	b.tag = v.media.Profile().TagSize()
}

// seal protects the RTP packets built in a batch (RFC 3711, RFC 7714); where it
// cannot, it closes the viewer. v.mu is held.
func (v *Viewer) seal(b *batch) bool {
	if err := v.media.Seal(b.parcel()); err != nil {
		v.Close("SRTP: " + err.Error())
		return false
	}
	return true
}

// Stats is the viewer's part of the statistics.
func (v *Viewer) Stats() ViewerStats {
	path, remote := v.path(), v.remoteAddr()
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.counts
	s.Packets -= v.unsent.Load()
	s.ID, s.Subject, s.Since, s.Path, s.Remote = v.id[:6], v.subject, v.since, path, remote
	s.State = "connecting"
	if s.Join > 0 {
		s.State = "live"
	}
	if v.reason.Load() != nil {
		s.State = "closed"
	}
	s.Quality, s.Layer = v.quality, -1
	for i, l := range v.lanes {
		if l.ring.audio {
			s.Sound = v.chosen[i].codec
			continue
		}
		s.Codec = v.chosen[i].codec
		if l.started {
			s.Layer = l.layer
		}
	}
	s.Score, s.Group, s.Worker = v.grade.score(), v.grade.group, int(v.worker.Load())
	s.Estimate = v.estimate()
	s.Queued = v.queue.wait(time.Now())
	s.Bitrate = v.rate.bitsPerSecond(time.Now())
	return s
}
