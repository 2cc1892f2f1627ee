package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

// janusScheme before an HTTP address tells the API of Janus from WHEP.
const janusScheme = "janus+"

// janusMessage is a request to Janus, or what it says.
type janusMessage struct {
	Janus       string          `json:"janus"`
	Transaction string          `json:"transaction,omitempty"`
	Plugin      string          `json:"plugin,omitempty"`
	Body        map[string]any  `json:"body,omitempty"`
	JSEP        *janusSDP       `json:"jsep,omitempty"`
	Data        *janusID        `json:"data,omitempty"`
	Error       json.RawMessage `json:"error,omitempty"`
	PluginData  json.RawMessage `json:"plugindata,omitempty"`
}

type janusSDP struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

type janusID struct {
	ID uint64 `json:"id"`
}

// watchJanus joins by Janus's own API: it offers, the viewer answers. leave ends
// the session.
func (v *Viewer) watchJanus(ctx context.Context, pc *webrtc.PeerConnection) (leave func(context.Context), err error) {
	v.mu.Lock()
	v.posted = time.Now()
	v.mu.Unlock()
	root := strings.TrimPrefix(v.url, janusScheme)
	session, err := v.janusMake(ctx, root, janusMessage{Janus: "create"})
	if err != nil {
		return nil, err
	}
	leave = func(ctx context.Context) { _, _ = v.janusAsk(ctx, session, janusMessage{Janus: "destroy"}) }
	if err := v.negotiateJanus(ctx, pc, session); err != nil {
		leave(context.WithoutCancel(ctx))
		return nil, err
	}
	v.mu.Lock()
	v.answered = time.Since(v.posted)
	v.mu.Unlock()
	return leave, nil
}

func (v *Viewer) negotiateJanus(ctx context.Context, pc *webrtc.PeerConnection, session string) error {
	handle, err := v.janusMake(ctx, session, janusMessage{Janus: "attach", Plugin: "janus.plugin.streaming"})
	if err != nil {
		return err
	}
	watch := janusMessage{Janus: "message", Body: map[string]any{"request": "watch", "id": janusMountpoint}}
	if _, err := v.janusAsk(ctx, handle, watch); err != nil {
		return err
	}
	offer, err := v.janusEvent(ctx, session)
	if err != nil {
		return err
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		return err
	}
	<-gathered
	_, err = v.janusAsk(ctx, handle, janusMessage{Janus: "message", Body: map[string]any{"request": "start"},
		JSEP: &janusSDP{Type: "answer", SDP: pc.LocalDescription().SDP}})
	return err
}

// janusMake makes a session or a handle and returns its address.
func (v *Viewer) janusMake(ctx context.Context, at string, m janusMessage) (string, error) {
	answer, err := v.janusAsk(ctx, at, m)
	if err != nil {
		return "", err
	}
	if answer.Data == nil {
		return "", fmt.Errorf("janus: %s: no id in the answer", m.Janus)
	}
	return fmt.Sprintf("%s/%d", at, answer.Data.ID), nil
}

func (v *Viewer) janusAsk(ctx context.Context, at string, m janusMessage) (janusMessage, error) {
	m.Transaction = "bench"
	body, err := json.Marshal(m)
	if err != nil {
		return janusMessage{}, err
	}
	return janusDo(ctx, http.MethodPost, at, body)
}

// janusEvent waits for the session's offer.
func (v *Viewer) janusEvent(ctx context.Context, session string) (string, error) {
	for {
		m, err := janusDo(ctx, http.MethodGet, session, nil)
		switch {
		case err != nil:
			return "", err
		case m.JSEP != nil:
			return m.JSEP.SDP, nil
		case bytes.Contains(m.PluginData, []byte(`"error"`)):
			return "", fmt.Errorf("janus: %s", m.PluginData)
		}
	}
}

func janusDo(ctx context.Context, method, url string, body []byte) (m janusMessage, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return m, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&m); err != nil {
		return m, fmt.Errorf("janus: %w", err)
	}
	if m.Janus == "error" {
		return m, errors.New("janus: " + string(m.Error))
	}
	return m, nil
}
