package signaling

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"edged/forward"
	"edged/internal/auth"
)

// Version of the protocol, as in the answer to session.hello.
const Version = 1

// method is one method of the protocol.
type method struct {
	do      func(s *Session, ctx context.Context, params json.RawMessage) (any, error)
	greeted bool // only after session.hello
}

var methods = map[string]method{
	"session.hello":  {(*Session).hello, false},
	"ping":           {(*Session).ping, false},
	"camera.list":    {(*Session).cameraList, true},
	"state.get":      {(*Session).stateGet, true},
	"view.open":      {(*Session).viewOpen, true},
	"view.candidate": {(*Session).viewCandidate, true},
	"view.restart":   {(*Session).viewRestart, true},
	"view.quality":   {(*Session).viewQuality, true},
	"view.close":     {(*Session).viewClose, true},
}

func newID() string { return rand.Text() }

// hello {token, version}: a second one renews the session with a new token.
func (s *Session) hello(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		Token string `json:"token"`
	}
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	g := s.grant
	if p.Token != "" || !s.single || !s.greeted { // over HTTP the header's token has been taken already
		var f *failure
		if g, f = s.srv.admit(p.Token, s.o.Remote); f != nil {
			return nil, f
		}
	}
	if !g.Allows(auth.View, "") {
		return nil, failf(forbidden, "the token does not permit to view")
	}
	s.begin(g)
	res := map[string]any{
		"session": s.id, "version": Version, "box": s.srv.o.Box,
		"cameras": s.snapshot(), "state_version": s.version,
		"ice_servers": s.srv.ICEServers(g.Subject, s.o.Host),
		"heartbeat":   heartbeat.Seconds(),
	}
	if !g.Expires.IsZero() {
		res["expires"] = g.Expires.UTC()
	}
	return res, nil
}

// ping: t is the box's clock in Unix milliseconds.
func (s *Session) ping(context.Context, json.RawMessage) (any, error) {
	now := time.Now()
	return map[string]any{"t": float64(now.UnixMicro()) / 1e3}, nil
}

// cameraList takes nothing as told: figures may be fresher than the state.
func (s *Session) cameraList(context.Context, json.RawMessage) (any, error) {
	return map[string]any{"cameras": s.srv.cameras(s.grant)}, nil
}

// stateGet {since} gives the whole state, whatever since is: it is small, and
// a client that saw a hole wants certainty.
func (s *Session) stateGet(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		Since uint64 `json:"since"`
	}
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	return map[string]any{"state_version": s.version, "cameras": s.snapshot()}, nil
}

// viewOpen {camera, sdp, quality} → {view, sdp, quality}: the answer carries
// all of the box's candidates, so that no view.candidate need follow it.
func (s *Session) viewOpen(ctx context.Context, params json.RawMessage) (any, error) {
	var p struct {
		Camera  string `json:"camera"`
		SDP     string `json:"sdp"`
		Quality string `json:"quality"`
	}
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	if p.Quality != "" && !qualities[p.Quality] {
		return nil, failf(badParams, "quality: want auto, high, low or off")
	}
	if len(s.views) >= maxViews {
		return nil, &failure{full, "too many views in this session", retryFull}
	}
	v, answer, f := s.srv.join(ctx, s.grant, p.Camera, p.SDP)
	if f != nil {
		return nil, f
	}
	if s.single {
		v.owner = s.owner
		s.srv.views.add(v)
	} else {
		s.hold(ctx, v)
	}
	return map[string]any{"view": v.ID(), "sdp": answer, "quality": setQuality(v, p.Quality)}, nil
}

// view finds the view that params name.
func (s *Session) view(params json.RawMessage, p any, id *string) (*view, error) {
	if err := decode(params, p); err != nil {
		return nil, err
	}
	if !s.single {
		if v, ok := s.views[*id]; ok {
			return v, nil
		}
	} else if v, ok := s.srv.views.get(*id); ok && v.owner == s.owner {
		return v, nil
	}
	return nil, failf(unknownView, "no view %.40q", *id)
}

// viewCandidate {view, candidate}
func (s *Session) viewCandidate(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		View      string        `json:"view"`
		Candidate candidateInit `json:"candidate"`
	}
	v, err := s.view(params, &p, &p.View)
	if err != nil {
		return nil, err
	}
	return nil, v.AddCandidate(p.Candidate.Candidate, p.Candidate.Ufrag)
}

// viewRestart {view, sdp} → {view, sdp}: an ICE restart; media goes on.
func (s *Session) viewRestart(ctx context.Context, params json.RawMessage) (any, error) {
	var p struct {
		View string `json:"view"`
		SDP  string `json:"sdp"`
	}
	v, err := s.view(params, &p, &p.View)
	if err != nil {
		return nil, err
	}
	answer, err := v.restart(ctx, p.SDP)
	if err != nil {
		return nil, err
	}
	return map[string]any{"view": p.View, "sdp": answer}, nil
}

// qualities that may be asked for.
var qualities = map[string]bool{string(forward.Auto): true, string(forward.High): true, string(forward.Low): true, string(forward.Off): true}

// setQuality asks for a quality and returns the one in force.
func setQuality(v *view, asked string) string {
	q := forward.Quality(cmp.Or(asked, string(forward.Auto)))
	v.viewer.SetQuality(q)
	return string(q)
}

// viewQuality {view, quality} → {view, quality}
func (s *Session) viewQuality(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		View    string `json:"view"`
		Quality string `json:"quality"`
	}
	v, err := s.view(params, &p, &p.View)
	if err != nil {
		return nil, err
	}
	if !qualities[p.Quality] {
		return nil, failf(badParams, "quality: want auto, high, low or off")
	}
	return map[string]any{"view": p.View, "quality": setQuality(v, p.Quality)}, nil
}

// viewClose {view}
func (s *Session) viewClose(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		View string `json:"view"`
	}
	v, err := s.view(params, &p, &p.View)
	if err != nil {
		return nil, err
	}
	if s.single {
		s.srv.views.drop(v)
	} else {
		s.forget(v)
	}
	v.Close("closed by the viewer")
	return nil, nil
}
