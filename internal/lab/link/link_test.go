package link

import (
	"context"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1000, 0)

// passed sends n packets a step apart and tells what became of them.
func passed(m *model, s Shape, n int, step time.Duration) (delays []time.Duration, runs []int, all [3]int) {
	run := 0
	for i := range n {
		now := start.Add(time.Duration(i) * step)
		at, f := m.pass(now, 1250, s)
		all[f]++
		if f == passes {
			delays = append(delays, at.Sub(now))
			if run > 0 {
				runs = append(runs, run)
			}
			run = 0
		} else {
			run++
		}
	}
	return delays, runs, all
}

func TestLossIsAsTold(t *testing.T) {
	_, _, all := passed(newModel(1), Shape{Loss: 0.05}, 100_000, time.Millisecond)
	if share := float64(all[lost]) / 1e5; math.Abs(share-0.05) > 0.005 || all[dropped] > 0 {
		t.Errorf("%v of 5 %% lost", share)
	}
	_, runs, all := passed(newModel(1), Shape{Burst: Burst{Enter: 0.005, Leave: 0.2}}, 100_000, time.Millisecond)
	total := 0
	for _, r := range runs {
		total += r
	}
	if mean := float64(total) / float64(len(runs)); math.Abs(mean-5) > 0.5 {
		t.Errorf("bursts of %.1f packets, want 5", mean)
	}
	if share, want := float64(all[lost])/1e5, 0.005/0.205; math.Abs(share-want) > 0.005 {
		t.Errorf("%v lost, want %v", share, want)
	}
}

// What is lost depends on the seed and on nothing else.
func TestSeedDecides(t *testing.T) {
	fates := func(seed uint64, s Shape) (out string) {
		m := newModel(seed)
		for i := range 300 {
			_, f := m.pass(start.Add(time.Duration(i)*time.Millisecond), 100, s)
			out += string('0' + byte(f))
		}
		return out
	}
	if fates(1, Shape{Loss: 0.3}) != fates(1, Shape{Loss: 0.3, Delay: time.Second, Jitter: time.Second}) {
		t.Error("one seed, two fates")
	}
	if fates(1, Shape{Loss: 0.3}) == fates(2, Shape{Loss: 0.3}) {
		t.Error("two seeds, one fate")
	}
}

func TestRateAndQueue(t *testing.T) {
	s := Shape{Rate: 1e6, Queue: 100 * time.Millisecond, Delay: 20 * time.Millisecond}
	// 1,250 bytes take 10 ms; they come every 5 ms: half of them must go.
	delays, _, all := passed(newModel(1), s, 1000, 5*time.Millisecond)
	if all[dropped] < 480 || all[dropped] > 500 {
		t.Errorf("%d of 1000 dropped", all[dropped])
	}
	if delays[0] != 30*time.Millisecond {
		t.Errorf("the first took %v, want 30 ms", delays[0])
	}
	for _, d := range delays {
		if d > s.Queue+30*time.Millisecond {
			t.Fatalf("a packet took %v", d)
		}
	}
	if delays, _, all = passed(newModel(1), s, 1000, 10*time.Millisecond); all[dropped] > 0 || delays[999] != delays[0] {
		t.Errorf("at the rate: %d dropped, the last took %v", all[dropped], delays[999])
	}
}

// Packets of a group travel together, groups differ, and none overtakes.
func TestJitter(t *testing.T) {
	m := newModel(1)
	var least, most time.Duration = time.Hour, 0
	var last time.Time
	for i := range 600 {
		now := start.Add(time.Duration(i/3) * 100 * time.Millisecond)
		at, _ := m.pass(now, 1000, Shape{Jitter: 80 * time.Millisecond})
		if at.Before(last) {
			t.Fatal("overtaken")
		}
		if i%3 > 0 && at != last {
			t.Fatal("a group was parted")
		}
		last = at
		least, most = min(least, at.Sub(now)), max(most, at.Sub(now))
	}
	if least > 5*time.Millisecond || most < 75*time.Millisecond || most > 80*time.Millisecond {
		t.Errorf("%v to %v", least, most)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// Both ways, in order, through real sockets; a narrow path holds packets back.
func TestPath(t *testing.T) {
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := Open(server.LocalAddr().(*net.UDPAddr).AddrPort(), loopback, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return p.Run(ctx) })
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	p.Shape(Shape{Rate: 1e6, Queue: time.Second, Delay: time.Millisecond}, Shape{})
	buf := make([]byte, 1500)
	for i := range 50 {
		_, _ = client.Write([]byte{byte(i)})
		n, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || n != 1 || buf[0] != byte(i) {
			t.Fatal(n, err)
		}
		_, _ = server.WriteToUDPAddrPort(make([]byte, 1000+i), from)
	}
	for i := range 50 {
		if n, err := client.Read(buf); err != nil || n != 1000+i {
			t.Fatal(n, err)
		}
	}
	p.Shape(Shape{Loss: 1}, Shape{})
	_, _ = client.Write(nil)
	if _, from, err := server.ReadFromUDPAddrPort(buf); err == nil {
		_, _ = server.WriteToUDPAddrPort(buf[:9], from)
	}
	deadline := time.Now().Add(20 * time.Second)
	for down, up := p.Counts(); down != (Counts{Passed: 50, Lost: 1}) || up != (Counts{Passed: 51}); down, up = p.Counts() {
		if time.Now().After(deadline) {
			t.Fatal(down, up)
		}
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Open(netip.AddrPortFrom(loopback, 9), netip.MustParseAddr("192.0.2.99"), 1); err == nil {
		t.Error("an address that is not ours was taken")
	}
}

const answer = "v=0\r\na=candidate:1 1 tcp 9 127.0.0.1 7 typ host tcptype passive\r\na=candidate:2 1 udp 5 127.0.0.1 4000 typ host\r\n" +
	"a=candidate:3 1 UDP 4 10.0.0.1 4000 typ host\r\na=end-of-candidates\r\n"

func TestThrough(t *testing.T) {
	if at, ok := Candidate(answer); !ok || at.String() != "127.0.0.1:4000" {
		t.Error(at, ok)
	}
	p, err := Open(netip.AddrPortFrom(loopback, 9), loopback, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() { _ = p.Run(ctx) }()
	want := "v=0\r\na=candidate:2 1 udp 5 127.0.0.1 " + strings.TrimPrefix(p.Addr().String(), "127.0.0.1:") + " typ host\r\na=end-of-candidates\r\n"
	if got := p.Through(answer); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzCandidate(f *testing.F) {
	f.Add(answer)
	f.Add("a=candidate:\n\na=candidate:1 1 udp 5 ::1 70000 typ host")
	f.Fuzz(func(t *testing.T, s string) {
		if at, ok := Candidate(s); ok && !at.IsValid() {
			t.Error(at)
		}
	})
}
