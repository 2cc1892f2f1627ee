package bench

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"
)

// What Chrome's own offer has must be in ours.
func TestOfferReadsLikeChrome(t *testing.T) {
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	api, err := chromeLike(n, net.IP.IsLoopback)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pc.GracefulClose() }()
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 101 102 103 104 105 106 107 108 109 112 113 39 40\r\n",
		"a=setup:actpass\r\n", "a=recvonly\r\n", "a=rtcp-mux\r\n", "a=rtcp-rsize\r\n",
		"a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n",
		"a=rtpmap:107 rtx/90000\r\n", "a=fmtp:107 apt=106\r\n", "a=rtcp-fb:106 nack pli\r\n", "a=rtcp-fb:106 transport-cc\r\n",
		"abs-send-time", "transport-wide-cc", "playout-delay",
	} {
		if !strings.Contains(offer.SDP, want) {
			t.Errorf("the offer has no %q:\n%s", want, offer.SDP)
		}
	}
}

func TestChosenProfile(t *testing.T) {
	hello := append([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 2}, make([]byte, 40)...)
	hello = append(hello, 0, 14, 0, 5, 0, 2, 0, 7, 0)
	if p, ok := chosenProfile(hello); !ok || profileName(uint32(p)) != "AEAD_AES_128_GCM" {
		t.Errorf("profile %d %v", p, ok)
	}
	client := slices.Clone(hello)
	client[13] = 1
	for _, b := range [][]byte{nil, client, hello[:len(hello)-3], {22}} {
		if _, ok := chosenProfile(b); ok {
			t.Errorf("% x has a profile", b)
		}
	}
}

func FuzzChosenProfile(f *testing.F) {
	f.Add([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 2, 0, 14, 0, 5, 0, 2, 0, 7, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { chosenProfile(b) })
}

func TestReceivers(t *testing.T) {
	r, err := ListenReceivers(2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return r.Run(ctx) })
	for i, a := range r.Addrs() {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(a))
		if err != nil {
			t.Fatal(err)
		}
		for range i + 1 {
			if _, err := c.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for r.Snapshot().Total().Packets < 3 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%+v", r.Snapshot())
		}
	}
	s := r.Snapshot()
	if s.Viewers[0].Packets != 1 || s.Viewers[1].Bytes != 6 || len(s.Joined) != 2 {
		t.Errorf("%+v", s)
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestQuantile(t *testing.T) {
	v := []int{5, 1, 4, 2, 3}
	for q, want := range map[float64]int{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := Quantile(v, q); got != want {
			t.Errorf("quantile %g: %d, want %d", q, got, want)
		}
	}
	if Quantile([]float64{}, 0.5) != 0 {
		t.Error("quantile of none")
	}
	if v[0] != 5 {
		t.Error("the values were sorted in place")
	}
}

// Viewers that cannot connect leave when told, without a trace.
func TestAudienceLeaves(t *testing.T) {
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	a := NewAudience(2, 1000, "http://"+silent.Addr().String()+"/whep/x", "", 0)
	var group errgroup.Group
	group.Go(func() error { return a.Run(ctx) })
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if s := a.Snapshot(); len(s.Failures) != 0 || len(s.Joined) != 0 {
		t.Errorf("%+v", s)
	}
}
