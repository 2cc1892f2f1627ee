package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
)

var testTime = time.Unix(1_000_000, 0)

// line runs packets, each a millisecond after the one before, through a
// reorder; "t" lets the time pass that a missing packet is waited for. It
// gives what came out.
func line(t *testing.T, in string) string {
	t.Helper()
	var out []string
	r := newReorder(holdRepair, func(p *rtp.Packet, _ time.Time) error {
		if p.Timestamp != uint32(p.SequenceNumber)+7 || len(p.Payload) != 2 || p.Payload[0] != byte(p.SequenceNumber) {
			t.Errorf("packet %d has the time %d and the payload %v", p.SequenceNumber, p.Timestamp, p.Payload)
		}
		out = append(out, fmt.Sprint(p.SequenceNumber))
		return nil
	})
	now := testTime
	for word := range strings.FieldsSeq(in) {
		now = now.Add(time.Millisecond)
		if word == "t" {
			now = now.Add(holdRepair)
			_ = r.expire(now)
			continue
		}
		again := strings.HasSuffix(word, "r")
		var seq uint16
		_, _ = fmt.Sscan(strings.TrimSuffix(word, "r"), &seq)
		payload := []byte{byte(seq), 1}
		_ = r.push(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: uint32(seq) + 7}, Payload: payload}, again, now)
		payload[0]++ // it keeps none of the caller's memory
	}
	return strings.Join(out, " ")
}

func TestReorder(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"in order":                  {"5 6 7", "5 6 7"},
		"wraps":                     {"65534 65535 0 1", "65534 65535 0 1"},
		"swapped":                   {"5 7 6 8", "5 6 7 8"},
		"swapped at the wrap":       {"65534 0 65535 1", "65534 65535 0 1"},
		"repeated":                  {"5 5 6 6 7", "5 6 7"},
		"waiting, repeated":         {"5 7 7 6", "5 6 7"},
		"one lost":                  {"5 7 8 t 9", "5 7 8 9"},
		"lost and late":             {"5 7 t 6 8", "5 7 8"},
		"two holes":                 {"5 7 9 t 10", "5 7 9 10"},
		"the first hole is filled":  {"5 7 9 6 8", "5 6 7 8 9"},
		"repaired by RTX":           {"5 7 6r 8", "5 6 7 8"},
		"one stray packet":          {"5 6 30000 7", "5 6 7"},
		"two strays apart":          {"5 6 30000 40000 7", "5 6 7"},
		"another beginning":         {"5 6 30000 30001 30002", "5 6 30001 30002"},
		"a beginning behind":        {"30000 30001 5 6 7", "30000 30001 6 7"},
		"old packets as RTX":        {"30000 30001 5r 6r 7r 30002", "30000 30001 30002"},
		"a jump with packets held":  {"5 7 8 30000 30001", "5 7 8 30001"},
		"the first is late":         {"6 5 7", "6 7"},
		"nothing comes after":       {"5 t t", "5"},
		"a hole as wide as it goes": {"5 516 t 517", "5 516 517"},
	} {
		if got := line(t, c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever comes, packets come out in order, none twice, and all that came
// before the reorder had to give up.
func TestReorderAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		seqs := make([]uint16, 300)
		start := uint16(r.Uint32())
		for i := range seqs {
			seqs[i] = start + uint16(i)
		}
		for i := 1; i < len(seqs); i++ { // the first stays the first
			j := min(len(seqs)-1, i+r.IntN(20))
			seqs[i], seqs[j] = seqs[j], seqs[i]
		}
		var out []uint16
		o := newReorder(holdRepair, func(p *rtp.Packet, _ time.Time) error {
			out = append(out, p.SequenceNumber)
			return nil
		})
		for _, s := range seqs {
			_ = o.push(&rtp.Packet{Header: rtp.Header{SequenceNumber: s}, Payload: []byte{1}}, false, testTime)
		}
		if len(out) != len(seqs) || o.holes != 0 || o.lost != 0 {
			t.Fatalf("%d of %d packets, %d holes", len(out), len(seqs), o.holes)
		}
		if !slices.IsSortedFunc(out, func(a, b uint16) int { return int(int16(a - b)) }) {
			t.Fatal("out of order")
		}
	}
}

// A missing packet is asked for soon, again after a round trip, not for ever,
// and not once it has come.
func TestReorderAsks(t *testing.T) {
	r := newReorder(holdRepair, func(*rtp.Packet, time.Time) error { return nil })
	push := func(seq uint16, at time.Duration) {
		_ = r.push(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq}}, false, testTime.Add(at))
	}
	due := func(at time.Duration) []uint16 { return slices.Clone(r.due(testTime.Add(at))) }
	push(1, 0)
	push(4, 0)
	if got := due(askAfter / 2); got != nil {
		t.Errorf("asked at once for %v", got)
	}
	if got := due(10 * time.Millisecond); !slices.Equal(got, []uint16{2, 3}) {
		t.Errorf("asked for %v", got)
	}
	if got := due(20 * time.Millisecond); len(got) != 0 {
		t.Errorf("asked again within a round trip for %v", got)
	}
	push(2, 30*time.Millisecond)
	if r.rtt != 20*time.Millisecond {
		t.Errorf("round trip of %v", r.rtt)
	}
	times := 0
	for at := 50 * time.Millisecond; at < time.Second; at += 10 * time.Millisecond {
		got := due(at)
		if len(got) > 0 && !slices.Equal(got, []uint16{3}) {
			t.Fatalf("asked for %v", got)
		}
		times += len(got)
	}
	if times != askMost-1 {
		t.Errorf("asked %d times more", times)
	}
}

func TestReception(t *testing.T) {
	var r reception
	if _, ok := r.block(1, testTime); ok {
		t.Error("a report of nothing")
	}
	at := testTime
	for i := range 100 {
		at = at.Add(20 * time.Millisecond)
		if i%10 == 5 {
			continue // lost
		}
		r.take(&rtp.Packet{Header: rtp.Header{SequenceNumber: uint16(65500 + i), Timestamp: uint32(i * 1800)}}, at, 90000)
	}
	r.sender(0x1122334455667788, at)
	b, ok := r.block(9, at.Add(time.Second/2))
	if !ok || b.SSRC != 9 || b.TotalLost != 10 || b.FractionLost < 24 || b.FractionLost > 26 || b.LastSequenceNumber != 2<<16|63 || b.LastSenderReport != 0x33445566 || b.Delay != 32768 || b.Jitter > 90 {
		t.Errorf("%+v", b)
	}
	if b, _ := r.block(9, at); b.FractionLost != 0 || b.TotalLost != 10 {
		t.Errorf("a second report without packets: %+v", b)
	}
}

// Layers whose RTP times begin anywhere come to have one time, and it never
// goes back.
func TestTimeline(t *testing.T) {
	line := timeline{began: testTime}
	a, b := &place{}, &place{}
	const startA, startB = 4_000_000_000, 77
	var last [2]uint32
	for i := range uint32(300) { // 25 a second
		at := testTime.Add(time.Duration(i) * 40 * time.Millisecond)
		x := a.on(&line, startA+i*3600, at.Add(5*time.Millisecond))
		y := b.on(&line, startB+i*3600, at.Add(90*time.Millisecond)) // the slower way
		if i > 0 && (int32(x-last[0]) <= 0 || int32(y-last[1]) <= 0) {
			t.Fatalf("frame %d: %d after %d, %d after %d", i, x, last[0], y, last[1])
		}
		last = [2]uint32{x, y}
		if i == 50 {
			seen := at.Add(-time.Hour) // by the publisher's clock
			rtpTime := uint32(startA)
			a.told(&line, mapping{true, seen, rtpTime + i*3600})
			b.told(&line, mapping{true, seen, startB + i*3600})
		}
	}
	if last[0] != last[1] {
		t.Errorf("in the end %d and %d", last[0], last[1])
	}
}

func TestFromNTP(t *testing.T) {
	for _, at := range []time.Time{time.Unix(1_700_000_000, 250_000_000), time.Unix(2_200_000_000, 500_000_000)} {
		ntp := uint64(at.Unix()+2208988800)<<32 | uint64(at.Nanosecond())<<32/1e9
		if got := fromNTP(ntp); got.Sub(at).Abs() > time.Microsecond {
			t.Errorf("%v, want %v", got, at)
		}
	}
}
