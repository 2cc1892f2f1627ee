package forward

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// Each SSRC that a far side uses costs memory that stays: it may use some.
func TestSSRCsAreBounded(t *testing.T) {
	m, viewer := bareMux(t)
	v, c := viewer()
	m.wrote(c, here)
	in, out := srtpContext(t), srtpContext(t)
	v.in.open(in)
	media := 0
	v.takeRTP = func([]byte, time.Time) { media++ }
	rtpOf := func(ssrc uint32, seq uint16) []byte {
		t.Helper()
		raw, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SSRC: ssrc, SequenceNumber: seq}, Payload: []byte("x")}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := out.EncryptRTP(nil, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i := range uint32(maxSenders) {
		at := testTime.Add(time.Duration(i) * time.Second)
		m.deliver(rtpOf(1000+i, 1), here, at)
		m.deliver(sealed(t, out, &rtcp.PictureLossIndication{SenderSSRC: 5000 + i}), here, at)
	}
	if media != maxSenders/2 || len(v.in.known) != maxSenders {
		t.Errorf("%d packets of RTP taken, %d SSRCs known", media, len(v.in.known))
	}
	if !m.deliver(rtpOf(1000, 2), here, testTime) {
		t.Error("one that is known is not taken any more")
	}
	forged := rtpOf(1000, 3)
	forged[len(forged)-1]++
	if m.deliver(forged, here, testTime) {
		t.Error("a forged packet is taken")
	}
	v.takeRTP = nil
	if m.deliver(rtpOf(1000, 4), here, testTime) {
		t.Error("a viewer's RTP is taken")
	}
}
