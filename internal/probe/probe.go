// Package probe is a viewer without a screen: it joins a camera as a browser
// would, with a real PeerConnection, and says what arrives.
package probe

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"edged/forward/data"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Result is what a probe saw.
type Result struct {
	FirstPacket time.Duration // from the offer's being handed over
	Frames      int           // RTP markers seen
	Packets     int
	Lost        int    // holes in the sequence numbers
	Records     int    // frames of which the box told on the data channel meta
	Path        string // the box's candidate, "udp 192.0.2.2:8189"
}

// Run views until it has seen the given number of frames, and leaves. signal
// hands the offer (SDP with all candidates) to the box and returns the answer.
// It blocks until then, or until ctx is done: then the error says how far it
// came.
func Run(ctx context.Context, frames int, signal func(ctx context.Context, offer string) (answer string, err error)) (Result, error) {
	pc, err := newPeer()
	if err != nil {
		return Result{}, err
	}
	defer pc.GracefulClose() //nolint:errcheck // nothing is left to do about it
	packets := make(chan *rtp.Packet, 256)
	ended := make(chan struct{})
	defer close(ended)
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			select {
			case packets <- p:
			case <-ended:
				return
			}
		}
	})
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		return Result{}, fmt.Errorf("transceiver: %w", err)
	}
	records, err := listen(pc)
	if err != nil {
		return Result{}, err
	}
	offer, err := completeOffer(ctx, pc)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	answer, err := signal(ctx, offer)
	if err != nil {
		return Result{}, err
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return Result{}, fmt.Errorf("answer: %w", err)
	}
	r, err := count(ctx, pc, packets, frames, began)
	r.Records = int(records.Load())
	return r, err
}

// listen opens meta and counts the records of frames.
func listen(pc *webrtc.PeerConnection) (*atomic.Int64, error) {
	ordered, retransmits := false, uint16(0)
	meta, err := pc.CreateDataChannel(data.Meta, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &retransmits})
	if err != nil {
		return nil, fmt.Errorf("data channel: %w", err)
	}
	var records atomic.Int64
	var pieces data.Assembler
	meta.OnMessage(func(m webrtc.DataChannelMessage) {
		text := m.Data
		if !m.IsString {
			text = pieces.Add(m.Data)
		}
		if r, err := data.ParseRecord(text); err == nil && r.Kind == data.KindFrame {
			records.Add(1)
		}
	})
	return &records, nil
}

// newPeer is a PeerConnection with every codec that pion knows, and without
// the interceptors that would hide losses.
func newPeer() (*webrtc.PeerConnection, error) {
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return nil, fmt.Errorf("codecs: %w", err)
	}
	s := webrtc.SettingEngine{}
	s.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(&interceptor.Registry{}), webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, fmt.Errorf("peer connection: %w", err)
	}
	return pc, nil
}

func completeOffer(ctx context.Context, pc *webrtc.PeerConnection) (string, error) {
	done := webrtc.GatheringCompletePromise(pc)
	offer, err := pc.CreateOffer(nil)
	if err == nil {
		err = pc.SetLocalDescription(offer)
	}
	if err != nil {
		return "", fmt.Errorf("offer: %w", err)
	}
	select {
	case <-done:
		return pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", errors.New("no candidates of its own")
	}
}

func count(ctx context.Context, pc *webrtc.PeerConnection, packets <-chan *rtp.Packet, frames int, began time.Time) (Result, error) {
	var r Result
	var next uint16
	for r.Frames < frames {
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("%s, %d packets, %d of %d frames", pc.ConnectionState(), r.Packets, r.Frames, frames)
		case p := <-packets:
			if r.Packets == 0 {
				r.FirstPacket, next = time.Since(began), p.SequenceNumber
			}
			r.Lost += int(p.SequenceNumber - next)
			next = p.SequenceNumber + 1
			r.Packets++
			if p.Marker {
				r.Frames++
			}
		}
	}
	if pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil {
		r.Path = fmt.Sprintf("%s %s:%d", pair.Remote.Protocol, pair.Remote.Address, pair.Remote.Port)
	}
	return r, nil
}
