package forward_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edged/forward"
)

// refused joins and wants to be refused by a bound.
func refused(t *testing.T, s *forward.SFU, st *forward.Stream, offer, bound string) *forward.FullError {
	t.Helper()
	_, _, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: offer})
	var full *forward.FullError
	if !errors.As(err, &full) || !errors.Is(err, forward.ErrFull) || full.Bound != bound || !strings.Contains(err.Error(), "webrtc.m") || full.Retry < time.Second {
		t.Fatalf("%v, want it refused for %s", err, bound)
	}
	return full
}

// What the uplink takes is shared by those who watch; who leaves makes room.
func TestUplinkIsBounded(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.MaxBitrate = 1.4e6 })
	st, _ := pulse(t, s, "dock", 2) // 528 kbit/s of payload
	cert := certificate(t)
	first, second := newPeer(t, cert), newPeer(t, cert)
	first.watch(s, st, 40) // its rate is known by then
	second.watch(s, st, 1)
	eventually(t, "both booked", func() bool { return s.Booked() > 1e6 })
	third := newPeer(t, cert)
	full := refused(t, s, st, third.offer(true), "bitrate")
	if !strings.Contains(full.Detail, "Mbit/s more needed, of at most 1.40 Mbit/s") {
		t.Error(full.Detail)
	}
	first.live(10)
	second.live(10)
	first.viewer.Close("makes room")
	<-first.viewer.Done()
	fourth := newPeer(t, cert)
	fourth.watch(s, st, 10)
	second.viewer.Close("leaves")
	fourth.viewer.Close("leaves")
	<-second.viewer.Done()
	<-fourth.viewer.Done()
	eventually(t, "nothing booked", func() bool { return s.Booked() < 1 && s.Booked() > -1 })
	if r := s.Stats(); r.Refused["bitrate"] != 1 || r.Joins["dock\x00full"] != 1 || r.Joins["dock\x00ok"] != 3 {
		t.Errorf("%+v %+v", r.Refused, r.Joins)
	}
}

func TestMemoryIsKeptFree(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.MinMemory = 32 << 20 })
	var free atomic.Int64
	s.SetMemory(free.Load)
	st, _ := pulse(t, s, "dock", 2)
	cert := certificate(t)
	free.Store(33 << 20)
	first := newPeer(t, cert)
	first.watch(s, st, 1)
	free.Store(20 << 20)
	second := newPeer(t, cert)
	if full := refused(t, s, st, second.offer(true), "memory"); !strings.Contains(full.Detail, "20.0 MiB") {
		t.Error(full.Detail)
	}
	first.live(5) // those who watch go on
	free.Store(-1)
	third := newPeer(t, cert)
	third.watch(s, st, 1) // what cannot be read keeps nobody out
}

func TestBusyBoxRefuses(t *testing.T) {
	s := startSFU(t, func(c *forward.Config) { c.MaxCPU = 90 })
	st, _ := pulse(t, s, "dock", 2)
	cert := certificate(t)
	first := newPeer(t, cert)
	first.watch(s, st, 1)
	offer := newPeer(t, cert).offer(true)
	eventually(t, "a refusal", func() bool { // the box measures now and then that it is not busy
		s.SetLoad(.99, 250*time.Millisecond)
		v, _, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: offer})
		if err == nil {
			v.Close("it was let in")
			<-v.Done()
		}
		var full *forward.FullError
		return errors.As(err, &full) && full.Bound == "cpu" && strings.Contains(full.Detail, "99 % of the CPU in use and frames up to 250ms late")
	})
	first.live(5)
	eventually(t, "a viewer of a box that is busy, but on time", func() bool {
		s.SetLoad(.99, 0)
		v, _, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: offer})
		if err == nil {
			v.Close("it was let in")
			<-v.Done()
		}
		return err == nil
	})
}
