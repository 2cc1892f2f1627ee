package turn

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestLimiterRefills(t *testing.T) {
	l, now := newLimiter(), time.Unix(1e9, 0)
	a := netip.MustParseAddr("192.0.2.1")
	count := func() (n int) {
		for l.ready(a, now) {
			if !l.take(a, now) {
				t.Fatal("ready, but not to be had")
			}
			n++
		}
		return n
	}
	if n := count(); n != replyBurst {
		t.Errorf("%d at once", n)
	}
	now = now.Add(time.Second)
	if n := count(); n != replyRate {
		t.Errorf("%d in a second", n)
	}
	now = now.Add(-time.Hour)
	if n := count(); n != 0 {
		t.Errorf("%d when the clock went back", n)
	}
	now = now.Add(2 * time.Hour)
	if n := count(); n != replyBurst {
		t.Errorf("%d after an hour", n)
	}
}

func TestLimiterKnowsHosts(t *testing.T) {
	l, now := newLimiter(), time.Unix(1e9, 0)
	for range replyBurst {
		l.take(netip.MustParseAddr("2001:db8::1"), now)
	}
	for addr, want := range map[string]bool{
		"2001:db8::2":       false, // the same host, for all anyone knows
		"2001:db8::ffff:1":  false,
		"2001:db8:0:1::1":   true,
		"192.0.2.1":         true,
		"::ffff:192.0.2.1":  true,
		"fe80::1%something": true,
	} {
		if got := l.take(netip.MustParseAddr(addr), now); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l, now := newLimiter(), time.Unix(1e9, 0)
	address := func(i int) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)|10<<24)
		return netip.AddrFrom4(b)
	}
	refused := 0
	for i := range 3 * maxAddresses {
		if !l.ready(address(i), now) || !l.take(address(i), now) {
			refused++
		}
	}
	if len(l.buckets) != maxAddresses {
		t.Errorf("%d addresses kept", len(l.buckets))
	}
	if want := 2*maxAddresses - replyBurst; refused != want {
		t.Errorf("%d strangers refused, want %d", refused, want)
	}
	now = now.Add(time.Minute)
	if !l.take(address(5*maxAddresses), now) || len(l.buckets) != 1 {
		t.Errorf("idle addresses are not forgotten: %d", len(l.buckets))
	}
}
