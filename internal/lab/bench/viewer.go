// Package bench has what benchmarks and soak tests of a WHEP server need: an
// audience of viewers whose offers read like Chrome's, the accounting of what
// they receive, and the CPU time and memory of the server.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

// Viewer is one viewer with sockets of its own.
type Viewer struct {
	url, token string

	net *network

	mu        sync.Mutex // guards what follows
	reception Reception
	posted    time.Time
	answered  time.Duration
	joined    time.Duration
}

// NewViewer makes a viewer of a WHEP endpoint, or of one from StartJanus. token
// may be empty. step is the RTP time between two frames, for Counts.Skipped; 0:
// not judged.
func NewViewer(url, token string, step uint32) *Viewer {
	return &Viewer{url: url, token: token, reception: Reception{Step: step}}
}

// Counts is what has been received so far.
func (v *Viewer) Counts() Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reception.Counts
}

// Joined is the time from the POST until a whole decodable keyframe was there;
// 0 before.
func (v *Viewer) Joined() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.joined
}

// Answered is the time from the POST until its answer; 0 before.
func (v *Viewer) Answered() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.answered
}

// Run joins and receives until ctx is done, then ends the session and
// returns nil when all goroutines have ended. It returns an error where the
// server refuses or the connection fails.
func (v *Viewer) Run(ctx context.Context) error {
	n, err := newNetwork()
	if err != nil {
		return fmt.Errorf("viewer: %w", err)
	}
	v.mu.Lock()
	v.net = n
	v.mu.Unlock()
	join, local := v.watchWHEP, net.IP.IsLoopback
	if strings.HasPrefix(v.url, janusScheme) {
		join, local = v.watchJanus, net.IP.IsGlobalUnicast
	}
	api, err := chromeLike(n, local)
	if err != nil {
		return fmt.Errorf("viewer: %w", err)
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return fmt.Errorf("viewer: %w", err)
	}
	defer func() { _ = pc.GracefulClose() }()
	failed := make(chan error, 1)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed {
			failed <- errors.New("viewer: connection failed")
		}
	})
	pc.OnTrack(v.receive)
	leave, err := join(ctx, pc)
	if err != nil {
		return fmt.Errorf("viewer: %w", err)
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	leave(goodbye) // a server that is already gone needs none
	v.mu.Lock()
	v.reception.Flush()
	v.mu.Unlock()
	return err
}

// Profile names the SRTP profile in force; "none" before the handshake.
func (v *Viewer) Profile() string {
	v.mu.Lock()
	n := v.net
	v.mu.Unlock()
	if n == nil {
		return profileName(0)
	}
	return profileName(n.profile.Load())
}

// watchWHEP does the offer and answer; leave ends the session.
func (v *Viewer) watchWHEP(ctx context.Context, pc *webrtc.PeerConnection) (leave func(context.Context), err error) {
	recvonly := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, recvonly); err != nil {
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return nil, err
	}
	<-gathered
	v.mu.Lock()
	v.posted = time.Now()
	v.mu.Unlock()
	answer, session, err := v.post(ctx, pc.LocalDescription().SDP)
	if err != nil {
		return nil, err
	}
	leave = func(ctx context.Context) {
		if resp, err := v.request(ctx, http.MethodDelete, session, ""); err == nil {
			_ = resp.Body.Close()
		}
	}
	v.mu.Lock()
	v.answered = time.Since(v.posted)
	v.mu.Unlock()
	return leave, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

func (v *Viewer) post(ctx context.Context, offer string) (answer, session string, err error) {
	resp, err := v.request(ctx, http.MethodPost, v.url, offer)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	base, err := url.Parse(v.url)
	if err != nil {
		return "", "", err
	}
	at, err := base.Parse(resp.Header.Get("Location"))
	if err != nil {
		return "", "", fmt.Errorf("location: %w", err)
	}
	return string(body), at.String(), nil
}

func (v *Viewer) request(ctx context.Context, method, url, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/sdp")
	}
	if v.token != "" {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	return http.DefaultClient.Do(req)
}

// receive reads the track until it ends. pion calls it in a goroutine of its
// own, which GracefulClose waits for.
func (v *Viewer) receive(track *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	reports := make(chan struct{})
	go func() { // sender reports must be read for the receiver reports to answer them
		defer close(reports)
		for {
			if _, _, err := r.ReadRTCP(); err != nil {
				return
			}
		}
	}()
	defer func() { <-reports }()
	buf := make([]byte, 1600)
	for {
		n, _, err := track.Read(buf)
		if err != nil {
			return
		}
		v.mu.Lock()
		_ = v.reception.Packet(buf[:n])
		if v.joined == 0 && v.reception.Decodable {
			v.joined = time.Since(v.posted)
		}
		v.mu.Unlock()
	}
}
