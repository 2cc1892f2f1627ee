package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/uplink/wire"
)

// reportEvery is the least time between two reports of the configuration.
const reportEvery = 2 * time.Second

// Kinds of message, as counted in Stats.Published.
const (
	kindPresence = "presence"
	kindConfig   = "config"
	kindStats    = "stats"
)

// link keeps a connection to one of the servers until ctx is done.
func (u *Uplink) link(ctx context.Context) {
	if u.cfg.Password != "" {
		for _, v := range u.servers {
			if !v.secure() {
				u.log.Warn("the password is sent in the clear", "server", v.String())
			}
		}
	}
	newPace(len(u.servers)).supervise(ctx, u.kick, u.try, func(o outcome, wait time.Duration) {
		u.change(func(s *Stats) {
			s.NextTry = time.Now().Add(wait)
			s.LastError = o.err.Error()
		})
		u.log.Warn("no connection to the console", "err", o.err, "lived", o.lived.Round(time.Second), "next", wait.Round(time.Millisecond))
	})
}

// try makes one connection and serves it to its end.
func (u *Uplink) try(ctx context.Context, i int) outcome {
	v := u.servers[i]
	n := u.number()
	u.change(func(s *Stats) { s.Server, s.Conn, s.NextTry = v.String(), n, time.Time{} })
	running := u.box.Config()
	s, err := u.open(ctx, v, n, running)
	if err != nil {
		return outcome{err: fmt.Errorf("%s: %w", v, err), refused: refused(err)}
	}
	began := time.Now()
	u.change(func(st *Stats) {
		st.Connected, st.Since, st.LastError = true, began, ""
		st.Connects++
	})
	u.log.Info("connected to the console", "server", v.String(), "conn", n)
	err = u.serve(ctx, s, n, running)
	if ctx.Err() != nil {
		u.goodbye(s, n)
	} else {
		s.cut()
	}
	s.end()
	u.change(func(st *Stats) { st.Connected, st.Since = false, time.Now() })
	return outcome{err: fmt.Errorf("%s: %w", v, err), lived: time.Since(began)}
}

// refused tells a server that knows us and says no from one that is away.
func refused(err error) bool {
	for _, no := range []error{
		packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised,
		packets.ErrorRefusedIDRejected, packets.ErrorRefusedBadProtocolVersion, errGrant,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // a TLS alert, such as "bad certificate"
}

// number gives the number of the next connection. One that surely reached no
// broker is used again, so that attempts cost no storage.
func (u *Uplink) number() uint64 {
	if u.unused {
		return u.conn
	}
	n, err := u.box.NextConn()
	if err != nil {
		n = u.conn + 1 // rises at least within this process's life
		u.log.Error("connection number", "err", err, "conn", n)
	}
	u.conn, u.unused = n, true
	return n
}

// open connects, subscribes and publishes presence and configuration.
func (u *Uplink) open(ctx context.Context, v server, n uint64, running Running) (*session, error) {
	will, err := json.Marshal(u.presence(wire.Off, wire.ReasonLost, n))
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	s, err := u.greet(ctx, v, will)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return s.subscribe(ctx, u.root+wire.FilterDown) },
		func() error { return u.publishPresence(ctx, s, wire.On, "", n) },
		func() error { return u.publishConfig(ctx, s, running, n) },
	} {
		if err := step(); err != nil {
			if ctx.Err() != nil {
				u.goodbye(s, n)
			}
			s.cut()
			s.end()
			return nil, err
		}
	}
	return s, nil
}

func (u *Uplink) greet(ctx context.Context, v server, will []byte) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, u.limits.connect)
	defer cancel()
	s := newSession(v, greeting{
		id: u.box.ID, username: u.cfg.Username, password: string(u.cfg.Password),
		willTopic: u.root + wire.TopicPresence, will: will,
	}, u.limits, func() (net.Conn, error) { return dial(ctx, v, &u.cfg) })
	err := s.connect(ctx)
	// A broker that refused with CONNACK keeps no Will; one that did not
	// answer may have taken the CONNECT, and its Will must not be mistaken
	// for that of a later connection.
	u.unused = err != nil && (!s.spoke() || refused(err))
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// serve publishes what is due until the connection or ctx ends; reported is
// the configuration that the console knows of.
func (u *Uplink) serve(ctx context.Context, s *session, n uint64, reported Running) error {
	presence := time.NewTicker(u.limits.presence)
	defer presence.Stop()
	at := time.Now()
	news := notTaken{u: u, s: s}
	for {
		if err := u.drain(ctx, s, n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.dead:
			return s.err
		case <-u.kick: // the connection will show by itself whether it survived
		case <-presence.C:
			if err := u.publishPresence(ctx, s, wire.On, "", n); err != nil {
				return err
			}
		case a := <-s.inbox:
			news.take(a)
		case <-u.sampled:
			news.count(0)
			news.say()
			now := u.box.Config()
			if now == reported || time.Since(at) < reportEvery {
				continue
			}
			if err := u.publishConfig(ctx, s, now, n); err != nil {
				return err
			}
			reported, at = now, time.Now()
		}
	}
}

// drain publishes the outbox in order, deleting what is acknowledged.
func (u *Uplink) drain(ctx context.Context, s *session, n uint64) error {
	for {
		payload, seq, ok, err := u.outbox.next(n)
		if err != nil || !ok {
			return err
		}
		if err := s.publish(ctx, u.root+wire.TopicStats, false, payload); err != nil {
			return err
		}
		u.outbox.done(seq)
		u.published(kindStats)
	}
}

// goodbye sends what is ready, then the "off" that a clean stop owes, and
// waits for their acknowledgement; where that fails, the Will says it.
func (u *Uplink) goodbye(s *session, n uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), u.limits.goodbye)
	defer cancel()
	if w, ok := u.recorder.cut(); ok {
		u.keep(w)
	}
	if err := u.outbox.seal(); err != nil {
		u.log.Error("statistics window lost", "err", err)
	}
	half, cancelHalf := context.WithTimeout(ctx, u.limits.goodbye/2)
	err := u.drain(half, s, n)
	cancelHalf()
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		err = u.publishPresence(ctx, s, wire.Off, wire.ReasonStop, n)
	}
	if err != nil {
		u.log.Warn("no goodbye to the console", "err", err)
		return
	}
	s.leave()
}

func (u *Uplink) presence(state, reason string, n uint64) wire.Presence {
	return wire.Presence{
		V: wire.Version, State: state, Reason: reason, Conn: n, Boot: u.box.Boot, Version: u.box.Version,
		Config: u.box.Config().revision(), T: time.Now().UnixMilli(), Clock: clockState(),
	}
}

func (u *Uplink) publishPresence(ctx context.Context, s *session, state, reason string, n uint64) error {
	return u.publishJSON(ctx, s, kindPresence, wire.TopicPresence, u.presence(state, reason, n))
}

func (u *Uplink) publishConfig(ctx context.Context, s *session, r Running, n uint64) error {
	running := wire.Revision{Epoch: r.Epoch, Rev: r.Rev, Hash: r.Hash}
	return u.publishJSON(ctx, s, kindConfig, wire.TopicConfig, wire.Reported{
		V: wire.Version, Good: running, Running: running, Source: r.Source, Conn: n,
	})
}

// publishJSON publishes a retained state.
func (u *Uplink) publishJSON(ctx context.Context, s *session, kind, topic string, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if err := s.publish(ctx, u.root+topic, true, payload); err != nil {
		return err
	}
	u.published(kind)
	return nil
}

func (u *Uplink) published(kind string) { u.change(func(s *Stats) { s.Published[kind]++ }) }

// notTaken counts messages that this version has no use for, and says so at
// most once a second.
type notTaken struct {
	u      *Uplink
	s      *session
	said   time.Time
	unsaid uint64
	last   arrival
}

func (t *notTaken) take(a arrival) {
	t.last = a
	t.count(1)
	t.say()
}

// count counts n messages, and those that did not fit the inbox.
func (t *notTaken) count(n uint64) {
	n += t.s.missed.Swap(0)
	t.unsaid += n
	t.u.change(func(s *Stats) { s.NotTaken += n })
}

// say logs what was not said yet, unless that was less than a second ago.
func (t *notTaken) say() {
	if t.unsaid == 0 || time.Since(t.said) < time.Second {
		return
	}
	topic := t.last.topic[:min(len(t.last.topic), 128)]
	t.u.log.Warn("messages not taken by this version", "count", t.unsaid, "topic", topic, "bytes", t.last.bytes)
	t.said, t.unsaid = time.Now(), 0
}
