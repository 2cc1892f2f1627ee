package signaling

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pion/webrtc/v4"

	"edged/capture"
)

// TestAnnounce: who opens `events` is told the camera's state, and each
// change of it, as a session would be.
func TestAnnounce(t *testing.T) {
	r := liveRig(t)
	url := r.serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Announce(ctx, r.cameras, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := newPeer(t, webrtc.MimeTypeH264)
	d, err := p.CreateDataChannel("events", nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var states []string
	d.OnMessage(func(m webrtc.DataChannelMessage) {
		var n struct {
			Method string
			Params struct{ Camera json.RawMessage }
		}
		var c Camera
		if err := json.Unmarshal(m.Data, &n); err != nil {
			t.Errorf("%v: %s", err, m.Data)
		}
		if n.Method != "camera.changed" {
			return
		}
		if err := json.Unmarshal(n.Params.Camera, &c); err != nil || c.ID != "dock" {
			t.Errorf("%v: %s", err, n.Params.Camera)
		}
		mu.Lock()
		defer mu.Unlock()
		state := string(c.State)
		if c.LastError != nil {
			state += " " + string(c.LastError.Code)
		}
		states = append(states, state)
	})
	told := func(want ...string) {
		t.Helper()
		eventually(t, "told of "+strings.Join(want, ", "), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(states, want)
		})
	}
	res, answer := do(t, "POST", url+"/whep/dock", p.offer(t, false, true), "Authorization", "Bearer "+token(t, nil), "Content-Type", typeSDP)
	if res.StatusCode != 201 || !strings.Contains(answer, "a=sctp-port") {
		t.Fatal(res.Status, answer)
	}
	p.answer(t, answer)
	told("live")
	r.cameras.change("dock", func(s *capture.State) {
		s.Phase, s.Code, s.Reason = capture.Offline, capture.CodeUnplugged, "no such device"
	})
	told("live", "offline unplugged")
	r.cameras.change("dock", func(s *capture.State) { s.Keyframes++ }) // a figure is no news
	r.cameras.change("dock", func(s *capture.State) { s.Phase, s.Code, s.Reason = capture.Live, "", "" })
	told("live", "offline unplugged", "live")
}
