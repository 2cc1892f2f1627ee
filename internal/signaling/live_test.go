package signaling

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pion/webrtc/v4"

	"edged/capture"
	"edged/internal/auth"
)

// peer is a viewer as pion/webrtc makes it.
type peer struct {
	*webrtc.PeerConnection
	packets atomic.Int64
}

func newPeer(t testing.TB, codec string) *peer {
	t.Helper()
	m := &webrtc.MediaEngine{}
	c := webrtc.RTPCodecParameters{PayloadType: 106, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: codec, ClockRate: 90000}}
	if codec == webrtc.MimeTypeH264 {
		c.SDPFmtpLine = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
	}
	if err := m.RegisterCodec(c, webrtc.RTPCodecTypeVideo); err != nil {
		t.Fatal(err)
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetICEMulticastDNSMode(0)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	p := &peer{PeerConnection: pc}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			p.packets.Add(1)
		}
	})
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	return p
}

// offer makes an offer; whole waits for its candidates.
func (p *peer) offer(t testing.TB, restart, whole bool) string {
	t.Helper()
	gathered := webrtc.GatheringCompletePromise(p.PeerConnection)
	offer, err := p.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	if !whole {
		return offer.SDP
	}
	<-gathered
	return p.LocalDescription().SDP
}

func (p *peer) answer(t testing.TB, sdp string) {
	t.Helper()
	if err := p.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		t.Fatalf("%v\n%s", err, sdp)
	}
}

// plays waits for a second's worth of packets more than there are.
func (p *peer) plays(t testing.TB, when string) {
	t.Helper()
	from := p.packets.Load()
	eventually(t, "media flows "+when, func() bool { return p.packets.Load() > from+30 })
}

// TestWHEPViewer is a viewer's whole life over WHEP with a real SFU: an offer
// without candidates, trickled ones, media, an ICE restart, and DELETE.
func TestWHEPViewer(t *testing.T) {
	r := liveRig(t)
	url := r.serve(t)
	p := newPeer(t, webrtc.MimeTypeH264)
	candidates := make(chan string, 64)
	p.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			close(candidates)
			return
		}
		candidates <- c.ToJSON().Candidate
	})
	offer := p.offer(t, false, false)
	if strings.Contains(offer, "a=candidate") {
		t.Fatal("the offer has candidates already: nothing to trickle")
	}
	res, answer := do(t, "POST", url+"/whep/dock", offer, "Authorization", "Bearer "+token(t, nil), "Content-Type", typeSDP)
	if res.StatusCode != 201 || !strings.Contains(answer, "a=candidate") {
		t.Fatal(res.Status, answer)
	}
	session, etag := url+res.Header.Get("Location"), res.Header.Get("ETag")
	p.answer(t, answer)
	frag := iceOf(offer)
	frag.end = true
	for c := range candidates {
		frag.candidates = append(frag.candidates, c)
	}
	res, body := do(t, "PATCH", session, frag.String(), "Content-Type", typeFrag, "If-Match", etag)
	if res.StatusCode != 204 {
		t.Fatal(res.Status, body)
	}
	p.plays(t, "after the candidates have trickled")

	p.OnICECandidate(func(*webrtc.ICECandidate) {})
	again := iceOf(p.offer(t, true, true))
	res, body = do(t, "PATCH", session, again.String(), "Content-Type", typeFrag, "If-Match", "*")
	if res.StatusCode != 200 || res.Header.Get("ETag") == etag {
		t.Fatal(res.Status, res.Header, body)
	}
	box, err := parseFragment(body)
	if err != nil || box.ufrag == iceOf(answer).ufrag || box.mid != iceOf(answer).mid || len(box.candidates) == 0 {
		t.Fatalf("%v: %+v", err, box)
	}
	p.answer(t, withICE(answer, box))
	p.plays(t, "after the ICE restart")
	if res, _ := do(t, "PATCH", session, again.String(), "Content-Type", typeFrag, "If-Match", etag); res.StatusCode != 412 {
		t.Errorf("the old ETag: %s", res.Status)
	}

	if res, _ := do(t, "DELETE", session, ""); res.StatusCode != 200 {
		t.Errorf("DELETE: %s", res.Status)
	}
	eventually(t, "the stream has no viewer", func() bool {
		_, st, _ := r.cameras.Camera("dock")
		return len(st.Stats().Viewers) == 0
	})
}

// withICE puts the credentials and candidates of a fragment into an answer,
// as a WHEP player does after a restart (RFC 9725 §4.3.3).
func withICE(answer string, f fragment) string {
	for re, to := range map[string]string{
		`a=ice-ufrag:[^\r]*`:        "a=ice-ufrag:" + f.ufrag,
		`a=ice-pwd:[^\r]*`:          "a=ice-pwd:" + f.pwd,
		`(a=candidate:[^\r]*\r\n)+`: "a=" + strings.Join(f.candidates, "\r\na=") + "\r\n",
		`o=- (\d+) \d+ `:            "o=- $1 2 ",
	} {
		answer = regexp.MustCompile(re).ReplaceAllString(answer, to)
	}
	return answer
}

func TestWHEPRefusesWhatCannotBePlayed(t *testing.T) {
	r := liveRig(t)
	url := r.serve(t)
	post := func(camera, offer string) (*http.Response, string) {
		return do(t, "POST", url+"/whep/"+camera, offer, "Authorization", "Bearer "+token(t, nil), "Content-Type", typeSDP)
	}
	if res, body := post("dock", newPeer(t, webrtc.MimeTypeVP8).offer(t, false, false)); res.StatusCode != 406 || !strings.Contains(body, "H264") || !strings.Contains(body, "VP8") {
		t.Errorf("no common codec: %s %s", res.Status, body)
	}
	if res, body := post("dock", "not SDP"); res.StatusCode != 422 {
		t.Errorf("no SDP: %s %s", res.Status, body)
	}
	r.cameras.change("gate", func(st *capture.State) { st.Phase = "starting" })
	if res, body := post("gate", newPeer(t, webrtc.MimeTypeH264).offer(t, false, false)); res.StatusCode != 503 {
		t.Errorf("no frame yet: %s %s", res.Status, body)
	}
	offer := newPeer(t, webrtc.MimeTypeH264).offer(t, false, false)
	for range 8 {
		if res, body := post("dock", offer); res.StatusCode != 201 {
			t.Fatal(res.Status, body)
		}
	}
	if res, body := post("dock", offer); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("full: %s %s", res.Status, body)
	}
}

// TestRPCViewer is the same over JSON-RPC and a WebSocket.
func TestRPCViewer(t *testing.T) {
	r := liveRig(t)
	c := dial(t, r.serve(t))
	id := 0
	call := func(method string, params map[string]any) map[string]any {
		t.Helper()
		id++
		b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
		write(t, c, string(b))
		for {
			var m struct {
				ID     int
				Result map[string]any
				Error  any
			}
			if err := json.Unmarshal([]byte(read(t, c)), &m); err != nil {
				t.Fatal(err)
			}
			if m.ID != id {
				continue // a notification
			}
			if m.Error != nil {
				t.Fatal(method, m.Error)
			}
			return m.Result
		}
	}
	call("session.hello", map[string]any{"token": token(t, func(c *auth.Claims) { c.Cameras = []string{"d*"} })})
	p := newPeer(t, webrtc.MimeTypeH264)
	candidates := make(chan webrtc.ICECandidateInit, 64)
	p.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			close(candidates)
			return
		}
		candidates <- c.ToJSON()
	})
	opened := call("view.open", map[string]any{"camera": "dock", "sdp": p.offer(t, false, false), "quality": "auto"})
	view := opened["view"]
	p.answer(t, opened["sdp"].(string))
	for c := range candidates {
		call("view.candidate", map[string]any{"view": view, "candidate": c})
	}
	p.plays(t, "after view.open")
	p.OnICECandidate(func(*webrtc.ICECandidate) {})
	p.answer(t, call("view.restart", map[string]any{"view": view, "sdp": p.offer(t, true, true)})["sdp"].(string))
	p.plays(t, "after view.restart")
	if list := fmt.Sprint(call("camera.list", nil)); !strings.Contains(list, "viewers:1") {
		t.Errorf("camera.list: %s", list)
	}
	call("view.close", map[string]any{"view": view})
	eventually(t, "the camera has no viewer", func() bool {
		return strings.Contains(fmt.Sprint(call("camera.list", nil)), "viewers:0")
	})
}
