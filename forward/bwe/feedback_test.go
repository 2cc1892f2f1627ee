package bwe

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

var start = time.Unix(1e9, 0)

func estimator(t testing.TB) *Estimator {
	t.Helper()
	e, err := New(standard)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// head is a feedback of count packets from base, without chunks.
func head(base, count uint16, ref uint32) []byte {
	b := []byte{0x80 | rtcp.FormatTCC, uint8(rtcp.TypeTransportSpecificFeedback), 0, 0, 0, 0, 0, 1, 0, 0, 0, 2}
	b = binary.BigEndian.AppendUint16(b, base)
	b = binary.BigEndian.AppendUint16(b, count)
	return append(b, byte(ref>>16), byte(ref>>8), byte(ref), 7)
}

// close pads a feedback to words and writes its length.
func closed(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	return b
}

// states are the states of the packets sent.
func states(e *Estimator) (s []uint8) {
	for i := e.history.oldest; i < e.history.next; i++ {
		s = append(s, e.history.at(i).state)
	}
	return s
}

func send(e *Estimator, n int) {
	for i := range n {
		e.Sent(start.Add(time.Duration(i)*time.Millisecond), 1000, Media)
	}
}

func TestFeedbackSymbols(t *testing.T) {
	const u, r, l = unknown, received, lost
	for _, tt := range []struct {
		name   string
		packet []byte
		want   []uint8
	}{
		{"a run", append(head(0, 3, 0), 0x20, 3, 0, 4, 4), []uint8{r, r, r, u, u, u, u, u}},
		{"a run of lost", append(head(1, 2, 0), 0x00, 2), []uint8{passed, l, l, u, u, u, u, u}},
		{"a run with large deltas", append(head(0, 2, 0), 0x40, 2, 0, 4, 0xff, 0xf0), []uint8{r, r, u, u, u, u, u, u}},
		{"one bit each", append(head(0, 4, 0), 0xa8|0x80, 0, 4, 4), []uint8{r, l, r, l, u, u, u, u}},
		{"two bits each", append(head(0, 4, 0), 0xc0|1<<4|0<<2|2, 1<<6, 4, 0, 9, 4), []uint8{r, l, r, r, u, u, u, u}},
		{"without delta", append(head(0, 2, 0), 0x60, 2), []uint8{r, r, u, u, u, u, u, u}},
		{"a run of none", append(head(0, 1, 0), 0x20, 0, 0x20, 1, 4), []uint8{r, u, u, u, u, u, u, u}},
		{"more than was sent", append(append(head(6, 300, 0), 0x20|300>>8, 300&0xff), make([]byte, 300)...), []uint8{passed, passed, passed, passed, passed, passed, r, r}},
		{"none that was sent", append(head(8, 1, 0), 0x20, 1, 4), []uint8{u, u, u, u, u, u, u, u}},
		{"long before", append(head(65000, 1, 0), 0x20, 1, 4), []uint8{u, u, u, u, u, u, u, u}},
		{"from before on", append(append(head(65535, 2, 0), 0x20, 2), 4, 4), []uint8{r, u, u, u, u, u, u, u}},
		{"nothing", head(0, 0, 0), []uint8{u, u, u, u, u, u, u, u}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := estimator(t)
			send(e, 8)
			if err := e.FeedbackBytes(start.Add(100*time.Millisecond), closed(tt.packet)); err != nil {
				t.Fatal(err)
			}
			if got := states(e); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestFeedbackMalformed(t *testing.T) {
	good := closed(append(head(0, 3, 0), 0x20, 3, 0, 4, 4))
	change := func(i int, v byte) []byte {
		b := slices.Clone(good)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                   nil,
		"cut":                     good[:len(good)-1],
		"version 1":               change(0, 0x40|rtcp.FormatTCC),
		"another format":          change(0, 0x81),
		"another type":            change(1, uint8(rtcp.TypePayloadSpecificFeedback)),
		"length beyond the end":   change(3, 200),
		"length below the head":   change(3, 3),
		"chunks that are not":     closed(append(head(0, 60000, 0), 0x20, 3, 0, 4, 4)),
		"deltas that are not":     closed(append(head(0, 30, 0), 0x20, 30, 0, 4, 4)),
		"large deltas are not":    closed(append(head(0, 3, 0), 0x40, 3, 0, 4)),
		"65,535 packets, no more": closed(head(0, 65535, 0)),
	} {
		e := estimator(t)
		send(e, 8)
		if err := e.FeedbackBytes(start.Add(100*time.Millisecond), b); !errors.Is(err, ErrFeedback) {
			t.Errorf("%s: %v", name, err)
		}
		if got := states(e); slices.ContainsFunc(got, func(s uint8) bool { return s != unknown }) || e.any {
			t.Errorf("%s: changed something: %v", name, got)
		}
	}
}

// TestFeedbackAgrees: package rtcp and the walk in place read the same.
func TestFeedbackAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		one, two := estimator(t), estimator(t)
		send(one, 200)
		send(two, 200)
		b := append(head(uint16(r.UintN(20)), 0, uint32(r.UintN(1<<24))), 0, 0)[:feedbackHead]
		count, bytes := 0, 0
		for range 1 + r.IntN(8) {
			c := uint16(r.UintN(1 << 16))
			if c&0x8000 == 0 {
				c = c&0x6000 | uint16(r.UintN(30))
			}
			if c&0xc000 == 0xc000 || c&0x8000 == 0 && c>>13 == 3 {
				c = 0x8000 | c&0x3fff // package rtcp has no symbol 3 of two bits
			}
			n, w := symbols(c, 1<<16)
			count, bytes = count+n, bytes+w
			b = binary.BigEndian.AppendUint16(b, c)
		}
		for range bytes {
			b = append(b, byte(r.UintN(256)))
		}
		binary.BigEndian.PutUint16(b[14:], uint16(count))
		b = closed(append(b, 0, 0, 0, 0))
		var p rtcp.TransportLayerCC
		if err := p.Unmarshal(b); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		now := start.Add(300 * time.Millisecond)
		one.Feedback(now, &p)
		if err := two.FeedbackBytes(now, b); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if a, b := states(one), states(two); !slices.Equal(a, b) {
			t.Fatalf("%v\n%v", a, b)
		}
		if one.delivered != two.delivered || one.trend != two.trend || one.rate != two.rate {
			t.Fatal("the same feedback read twice gives two estimates")
		}
	}
}

// TestFeedbackShort: package rtcp's struct may say more than it holds.
func TestFeedbackShort(t *testing.T) {
	for _, p := range []rtcp.TransportLayerCC{
		{PacketStatusCount: 5, PacketChunks: []rtcp.PacketStatusChunk{nil}},
		{PacketStatusCount: 5, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: 1, RunLength: 9}}},
		{PacketStatusCount: 5, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: 2, RunLength: 9}}, RecvDeltas: []*rtcp.RecvDelta{nil}},
		{PacketStatusCount: 5, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.StatusVectorChunk{SymbolList: []uint16{1, 2, 3, 9, 1, 1}}}, RecvDeltas: []*rtcp.RecvDelta{{Delta: -1 << 62}, {Delta: 1 << 62}}},
	} {
		e := estimator(t)
		send(e, 8)
		e.Feedback(start.Add(time.Second), &p)
		checkBounds(t, e)
	}
}

func TestReferenceUnwraps(t *testing.T) {
	var r reference
	first := r.unwrap(1<<24 - 2)
	for i, tt := range []struct {
		value uint32
		want  time.Duration
	}{{1<<24 - 1, 1}, {0, 2}, {5, 7}, {1<<24 - 1, 1}, {3, 5}} {
		if got := r.unwrap(tt.value) - first; got != tt.want*referenceUnit {
			t.Errorf("%d: %v after the first, want %v", i, got, tt.want*referenceUnit)
		}
	}
}

// TestDuplicateFeedback counts nothing twice, and what was lost may still come.
func TestDuplicateFeedback(t *testing.T) {
	e := estimator(t)
	send(e, 8)
	now := start.Add(100 * time.Millisecond)
	some := closed(append(head(0, 4, 0), 0x80|0x28, 0, 4, 4)) // 1010
	all := closed(append(head(0, 4, 0), 0x20, 4, 4, 1, 1, 1))
	for _, b := range [][]byte{some, some, all, all, some} {
		if err := e.FeedbackBytes(now, b); err != nil {
			t.Fatal(err)
		}
	}
	if e.loss.received != 4 || e.loss.lost != 0 {
		t.Errorf("%d received, %d lost", e.loss.received, e.loss.lost)
	}
	var bytes float64
	for i := range e.delivered.n {
		bytes += e.delivered.spells[(e.delivered.head+len(e.delivered.spells)-i)%len(e.delivered.spells)].bytes
	}
	if bytes != 4000 {
		t.Errorf("%.0f bytes arrived", bytes)
	}
}

// TestLostFeedback: packets that no feedback told of arrived, once.
func TestLostFeedback(t *testing.T) {
	e := estimator(t)
	send(e, 8)
	now := start.Add(100 * time.Millisecond)
	for _, b := range [][]byte{
		closed(append(head(4, 4, 0), 0x20, 4, 4, 1, 1, 1)), // the one before is late
		closed(append(head(0, 4, 0), 0x20, 4, 0, 1, 1, 1)),
	} {
		if err := e.FeedbackBytes(now, b); err != nil {
			t.Fatal(err)
		}
	}
	var bytes float64
	for i := range e.delivered.n {
		bytes += e.delivered.spells[(e.delivered.head+len(e.delivered.spells)-i)%len(e.delivered.spells)].bytes
	}
	if bytes != 8000 {
		t.Errorf("%.0f bytes arrived, want 8000", bytes)
	}
	if got := states(e); slices.Contains(got, uint8(passed)) {
		t.Error(got)
	}
}
