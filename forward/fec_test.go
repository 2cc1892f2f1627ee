package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/interceptor/pkg/flexfec"
	"github.com/pion/rtp"
)

const repairPT = 49

var repairedFormat = format{pt: 106, codec: "H264", clockRate: 90000, feedback: []string{"nack"}, rtx: 107, hasRTX: true, fec: repairPT}

// repairedLane is a lane that sends repair packets by a plan.
func repairedLane(r *ring, plan repairPlan, ids extensions) *lane {
	l := newLane([]*ring{r}, 90000, repairedFormat, testTime)
	l.layout, l.repairs.layout = layOut(ids), layOut(extensions{number: ids.number})
	l.repairs.plan, l.repairs.credit = plan, creditMost
	if ids.number != 0 {
		next := uint16(1000)
		l.number = func(int, packet) uint16 { next++; return next }
	}
	return l
}

// frameOfSizes is a frame of packets of random bytes.
func frameOfSizes(random *rand.Rand, key bool, sizes ...int) *capture.Frame {
	f := &capture.Frame{RTPTime: random.Uint32(), Keyframe: key, Captured: testTime}
	for _, n := range sizes {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		f.Payloads = append(f.Payloads, p)
	}
	return f
}

// built has a lane send one frame.
func built(t *testing.T, l *lane, f *capture.Frame) (media, repairs []*rtp.Packet) {
	t.Helper()
	if !l.ring.write(f, testTime) {
		t.Fatal("not written")
	}
	got, _ := drain(t, l, testTime.Add(burstWait))
	for _, p := range got {
		if p.PayloadType == repairPT {
			repairs = append(repairs, p)
		} else {
			media = append(media, p)
		}
	}
	return media, repairs
}

// unnumbered is a packet as receivers take it for repair: with 0 where the
// transport-wide number is.
func unnumbered(p *rtp.Packet, id uint8) *rtp.Packet {
	q := p.Clone()
	if id != 0 && q.GetExtension(id) != nil {
		_ = q.SetExtension(id, []byte{0, 0})
	}
	return q
}

// mend makes the packets that are missing of those that a repair packet is of,
// where it can: draft-ietf-payload-flexible-fec-scheme-03 §6.3, written from
// the draft's text. false: the packet is not sound.
func mend(repair *rtp.Packet, have map[uint16][]byte) (made []byte, sound bool) {
	b := repair.Payload
	if len(b) < fecHeader || b[0]&0xc0 != 0 || b[8] != 1 {
		return nil, false
	}
	base := binary.BigEndian.Uint16(b[16:])
	var covered []uint16
	for i := range 15 {
		if b[18+(i+1)/8]&(0x80>>((i+1)%8)) != 0 {
			covered = append(covered, base+uint16(i))
		}
	}
	body := b[fecHeader:]
	if b[18]&0x80 == 0 {
		if len(b) < fecHeaderLong || b[20]&0x80 == 0 {
			return nil, false
		}
		for i := range 31 {
			if b[20+(i+1)/8]&(0x80>>((i+1)%8)) != 0 {
				covered = append(covered, base+15+uint16(i))
			}
		}
		body = b[fecHeaderLong:]
	}
	var missing []uint16
	head := [8]byte(b[:8])
	rest := bytes.Clone(body)
	for _, seq := range covered {
		p, ok := have[seq]
		if !ok {
			missing = append(missing, seq)
			continue
		}
		head[0], head[1] = head[0]^p[0]&0x3f, head[1]^p[1]
		binary.BigEndian.PutUint16(head[2:], binary.BigEndian.Uint16(head[2:])^uint16(len(p)-12))
		for i := range 4 {
			head[4+i] ^= p[4+i]
		}
		for i, x := range p[12:] {
			if i >= len(rest) {
				return nil, false
			}
			rest[i] ^= x
		}
	}
	if len(covered) == 0 || len(missing) != 1 {
		return nil, len(covered) > 0
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if size > len(rest) {
		return nil, false
	}
	made = append(made, head[0]|0x80, head[1])
	made = binary.BigEndian.AppendUint16(made, missing[0])
	made = append(made, head[4:]...)
	made = append(made, b[12:16]...)
	return append(made, rest[:size]...), true
}

// For one frame after the other, pion's encoder makes the same of it.
func TestRepairsAsPionMakesThem(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, sizes := range [][]int{{100}, {1144, 20}, {5, 1144, 3}, slices.Repeat([]int{1144}, 9), slices.Repeat([]int{700}, 15), slices.Repeat([]int{700}, 16), slices.Repeat([]int{1144}, 32)} {
		for _, depth := range []int{1, 2, 3} {
			if depth > (len(sizes)+2)/3 { // no plan has more
				continue
			}
			t.Run(fmt.Sprintf("%d packets/%d", len(sizes), depth), func(t *testing.T) {
				l := repairedLane(newRing(capture.Video), repairPlan{share: .01, most: 1, depth: depth}, extensions{playout: 3})
				media, repairs := built(t, l, frameOfSizes(random, true, sizes...))
				if len(repairs) != depth {
					t.Fatalf("%d repair packets, want %d", len(repairs), depth)
				}
				var group []rtp.Packet
				for _, p := range media {
					group = append(group, *p)
				}
				for i, want := range flexfec.NewFlexEncoder03(repairPT, l.repairs.ssrc).EncodeFec(group, uint32(depth)) {
					got := repairs[i]
					if !bytes.Equal(got.Payload, want.Payload) {
						t.Errorf("repair packet %d:\n%x\nwant\n%x", i, got.Payload, want.Payload)
					}
					if got.SSRC != l.repairs.ssrc || got.Timestamp != media[0].Timestamp || i > 0 && got.SequenceNumber != repairs[i-1].SequenceNumber+1 {
						t.Errorf("%v", got.Header)
					}
				}
			})
		}
	}
}

// Any one packet of those that a repair packet is of, or as many in a row as
// the plan says, are made anew, with all extensions, in frames of any size.
func TestRepairsMend(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	ids := extensions{number: 2, playout: 3, capture: 4}
	for _, n := range []int{1, 2, 3, 9, 15, 16, 31, 32, 33, 70, 100} {
		for depth := 1; depth <= min((n+2)/3, mostDepth); depth++ {
			t.Run(fmt.Sprintf("%d packets/%d", n, depth), func(t *testing.T) {
				l := repairedLane(newRing(capture.Video), repairPlan{share: .01, most: 1, depth: depth}, ids)
				l.seq = 1<<17 - 5 // wraps within
				sizes := make([]int, n)
				for i := range sizes {
					sizes[i] = 1 + random.IntN(capture.MaxPayload)
				}
				media, repairs := built(t, l, frameOfSizes(random, true, sizes...))
				if len(media) != n || len(repairs) < depth {
					t.Fatalf("%d packets, %d to repair them", len(media), len(repairs))
				}
				for lost := range n - depth + 1 {
					have := map[uint16][]byte{}
					for i, p := range media {
						if i < lost || i >= lost+depth {
							have[p.SequenceNumber], _ = unnumbered(p, ids.number).Marshal()
						}
					}
					for _, r := range repairs {
						made, sound := mend(r, have)
						if !sound {
							t.Fatalf("unsound: %x", r.Payload)
						}
						if made != nil {
							have[binary.BigEndian.Uint16(made[2:])] = made
						}
					}
					for i, p := range media {
						want, _ := unnumbered(p, ids.number).Marshal()
						if !bytes.Equal(have[p.SequenceNumber], want) {
							t.Fatalf("packets %d to %d lost: packet %d is\n%x\nwant\n%x", lost, lost+depth-1, i, have[p.SequenceNumber], want)
						}
					}
				}
			})
		}
	}
}

// A repair packet fits where any packet fits: in 1,280 bytes with IPv6, UDP
// and the longest tag (RFC 8200 §5).
func TestRepairsFit(t *testing.T) {
	l := repairedLane(newRing(capture.Video), repairPlan{share: 1, most: 1, depth: 1}, extensions{number: 1, playout: 2, capture: 3})
	f := frameOfSizes(rand.New(rand.NewPCG(3, 3)), true, slices.Repeat([]int{capture.MaxPayload}, groupMost)...)
	_, repairs := built(t, l, f)
	for _, r := range repairs {
		if n := r.MarshalSize() + 16 + 8 + 40; n > 1280 {
			t.Errorf("%d bytes", n)
		}
	}
	if len(repairs) == 0 {
		t.Error("none")
	}
}

// Repair packets follow what they are of before a receiver has forgotten that,
// and cost in the mean no more than the plan says.
func TestRepairsAreBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	r := newRing(capture.Video)
	l := repairedLane(r, repairPlan{share: .2, most: .25, depth: 1}, extensions{})
	media, repairs := 0, 0
	for i := range 300 {
		m, x := built(t, l, frameOfSizes(random, i%100 == 0, slices.Repeat([]int{50}, 1+i%3+i%100/99*80)...))
		media, repairs = media+len(m), repairs+len(x)
		for _, p := range x {
			if back := m[len(m)-1].SequenceNumber - binary.BigEndian.Uint16(p.Payload[16:]); int(back) > len(m) {
				t.Fatalf("repair packet of packet %d before the last", back)
			}
		}
	}
	if most := int(.25*float64(media)) + 2*creditMost; repairs > most || repairs < media/5 {
		t.Errorf("%d repair packets for %d, want %d at most", repairs, media, most)
	}
	l.repairs.plan = repairPlan{}
	if _, x := built(t, l, frameOfSizes(random, true, 50)); len(x) > 0 {
		t.Errorf("%d repair packets without a plan", len(x))
	}
}

// What is negotiated: FlexFEC-03 for pictures, of whatever codec; neither
// RED nor ULPFEC.
func TestRepairsAreNegotiated(t *testing.T) {
	const fec = "a=rtpmap:49 flexfec-03/90000\r\na=fmtp:49 repair-window=10000000"
	offers := func(kind, more string) string {
		line := strings.Replace(videoLine("a=mid:0", more), " 109 114", " 109 114 49 50 51", 1)
		return offerHead + strings.Replace(line, "m=video", "m="+kind, 1)
	}
	for _, c := range []struct {
		name, offer string
		repairs     bool
	}{
		{"offered", offers("video", fec), true},
		{"of another clock", offers("video", "a=rtpmap:49 flexfec-03/48000"), false},
		{"RFC 8627's", offers("video", "a=rtpmap:49 flexfec/90000"), false},
		{"RED and ULPFEC", offers("video", "a=rtpmap:50 red/90000\r\na=rtpmap:51 ulpfec/90000"), false},
		{"not offered", offerHead + videoLine("a=mid:0"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, chosen, err := answerTo(c.offer)
			if err != nil {
				t.Fatal(err)
			}
			checkLines(t, text)
			want := []string{"m=video 9 UDP/TLS/RTP/SAVPF 109 114 49\r\n", "a=rtpmap:49 flexfec-03/90000\r\n", "a=fmtp:49 repair-window=10000000\r\n", "a=ssrc-group:FEC-FR "}
			for _, part := range want {
				if strings.Contains(text, part) != c.repairs {
					t.Errorf("%q in the answer: %v\n%s", part, !c.repairs, text)
				}
			}
			if (chosen[0].fec != 0) != c.repairs {
				t.Errorf("%+v", chosen[0])
			}
			for _, never := range []string{"red/", "ulpfec"} {
				if strings.Contains(text, never) {
					t.Errorf("%s in\n%s", never, text)
				}
			}
		})
	}
}

// FuzzRepairs: whatever a frame's packets are and whatever is lost, a repair
// packet is sound, and what is made by it is what was lost.
func FuzzRepairs(f *testing.F) {
	f.Add(uint64(1), []byte{200, 200, 13}, uint16(1), byte(1), false)
	f.Add(uint64(2), bytes.Repeat([]byte{250}, 60), uint16(7), byte(3), true)
	f.Fuzz(func(t *testing.T, seed uint64, sizes []byte, lost uint16, depth byte, key bool) {
		if len(sizes) == 0 || len(sizes) > 300 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var all []int
		for _, n := range sizes {
			all = append(all, min(1+5*int(n), capture.MaxPayload))
		}
		l := repairedLane(newRing(capture.Video), repairPlan{share: float64(seed%100) / 99, most: 1, depth: int(depth % 8)}, extensions{number: 5, capture: 1})
		built(t, l, frameOfSizes(random, true, 1)) // what follows need not be a keyframe
		media, repairs := built(t, l, frameOfSizes(random, key, all...))
		have := map[uint16][]byte{}
		gone := media[int(lost)%len(media)]
		for _, p := range media {
			if p != gone {
				have[p.SequenceNumber], _ = unnumbered(p, 5).Marshal()
			}
		}
		for _, r := range repairs {
			made, sound := mend(r, have)
			want, _ := unnumbered(gone, 5).Marshal()
			if !sound || made != nil && !bytes.Equal(made, want) {
				t.Fatalf("sound: %v; made\n%x\nof\n%x", sound, made, want)
			}
		}
	})
}

func TestRepairPlan(t *testing.T) {
	on := repairPlan{share: .2, most: .4, depth: 1}
	for _, c := range []struct {
		name       string
		now        repairPlan
		loss, run  float64
		rtt        time.Duration
		spare      float64
		least, top float64 // of the share
		depth      int
	}{
		{"nothing is lost", repairPlan{}, 0, 0, 200 * time.Millisecond, .5, 0, 0, 0},
		{"little is lost", repairPlan{}, .01, 1, 200 * time.Millisecond, .5, 0, 0, 0},
		{"… and goes on", on, .01, 1, 200 * time.Millisecond, .5, .05, .1, 1},
		{"next to nothing is lost now", on, .005, 1, 200 * time.Millisecond, .5, 0, 0, 0},
		{"2 % far away", repairPlan{}, .02, 1, 100 * time.Millisecond, .5, .1, .12, 1},
		{"5 % far away", repairPlan{}, .05, 1, 100 * time.Millisecond, .5, .18, .22, 1},
		{"20 % far away", repairPlan{}, .2, 1.2, 100 * time.Millisecond, .5, .3, .34, 1},
		{"5 % near: it comes again soon", repairPlan{}, .05, 1, 40 * time.Millisecond, .5, 0, 0, 0},
		{"5 %, a bit nearer than before", on, .05, 1, 60 * time.Millisecond, .5, .18, .22, 1},
		{"5 %, near now", on, .05, 1, 50 * time.Millisecond, .5, 0, 0, 0},
		{"bursts, near", repairPlan{}, .024, 2.6, 40 * time.Millisecond, .5, 0, 0, 0},
		{"bursts, far away", repairPlan{}, .024, 2.6, 100 * time.Millisecond, .5, .1, .15, 3},
		{"long bursts", repairPlan{}, .05, 9, 100 * time.Millisecond, .5, .18, .22, mostDepth},
		{"little room", repairPlan{}, .1, 1, 100 * time.Millisecond, .1, .09, .1, 1},
		{"no room", repairPlan{}, .1, 1, 100 * time.Millisecond, .02, 0, 0, 0},
		{"less than no room", on, .1, 1, 100 * time.Millisecond, -.5, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.now.next(losses{share: c.loss, run: c.run}, c.rtt, c.spare)
			if got.share < c.least || got.share > c.top || got.depth != c.depth || got.most > c.spare && got.share > 0 {
				t.Errorf("%+v, want a share of %v to %v and depth %d", got, c.least, c.top, c.depth)
			}
		})
	}
}

func TestLosses(t *testing.T) {
	var s losses
	for _, seq := range []uint16{65534, 65535, 0, 5, 65535, 0, 9, 10, 11} { // 65535 and 0 are asked for twice
		s.missing(seq)
	}
	s.reported(.04)
	if s.run != 7./3 || s.share != .04*lossMemory {
		t.Errorf("%+v", s)
	}
	for range 30 {
		s.reported(0)
	}
	if s.share > 1e-4 || s.run != 7./3 {
		t.Errorf("%+v after half a minute without loss", s)
	}
}
