package turn

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"edged/internal/lab/bench"
)

const patience = time.Minute

const configuration = `
cameras:
  - id: demo
    source: "pattern:"
    video: {width: 320, height: 180, fps: 10, bitrate: 300000}
http: {listen: "127.0.0.1:0"}
webrtc: {udp: ":0", tcp: ""}
turn: {listen: "127.0.0.1:0"}
auth: {open: true}
`

// TestRelayOnlyViewer: a viewer that may use nothing but the relay gets the
// picture of the whole box, with the credentials that the box gives it.
func TestRelayOnlyViewer(t *testing.T) {
	t.Parallel()
	base := startBox(t)
	servers := iceServers(t, base)
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{ICEServers: servers, ICETransportPolicy: webrtc.ICETransportPolicyRelay})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			pc.Close()
		}
	}()
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	const want = 30
	seen := make(chan int, 1)
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		n := 0
		for n < want {
			p, _, err := track.ReadRTP()
			if err != nil {
				break
			}
			if p.Marker {
				n++
			}
		}
		seen <- n
	})
	watch(t, base, pc)
	select {
	case n := <-seen:
		if n < want {
			t.Errorf("%d frames", n)
		}
	case <-time.After(patience):
		t.Fatalf("no picture, ICE %v", pc.ICEConnectionState())
	}
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil || pair.Local.Typ != webrtc.ICECandidateTypeRelay {
		t.Errorf("pair %v, %v", pair, err)
	}
	health := get(t, base+"/healthz")
	if !strings.Contains(health, "1 allocations") {
		t.Errorf("health:\n%s", health)
	}
	closed = true
	if err := pc.Close(); err != nil {
		t.Error(err)
	}
}

// startBox runs edged until the test ends, and gives the root of its URLs.
func startBox(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "edged")
	cmd := exec.CommandContext(t.Context(), "scripts/build", program)
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := bench.Start(-1, program, "--config", config, "--data", filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%v: %s", err, p.Log())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	link := regexp.MustCompile(`https?://\S+`)
	line, err := p.Line(ctx, link.MatchString)
	if err != nil {
		t.Fatalf("%v: %s", err, p.Log())
	}
	u, err := url.Parse(link.FindString(line))
	if err != nil {
		t.Fatal(err)
	}
	base := u.Scheme + "://" + u.Host
	if err := bench.AwaitPicture(ctx, base+"/whep/demo", ""); err != nil {
		t.Fatalf("%v: %s", err, p.Log())
	}
	return base
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	code, _, body := do(t, r)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %s", url, code, body)
	}
	return body
}

func do(t *testing.T, r *http.Request) (code int, header http.Header, body string) {
	t.Helper()
	a, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header, string(b)
}

// iceServers asks the box, as the page does.
func iceServers(t *testing.T, base string) []webrtc.ICEServer {
	t.Helper()
	body := get(t, base+"/api/v1/turn")
	var list struct {
		ICEServers []webrtc.ICEServer `json:"ice_servers"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if len(list.ICEServers) == 0 {
		t.Fatalf("no servers: %s", body)
	}
	return list.ICEServers
}

// watch does WHEP with all candidates in the offer.
func watch(t *testing.T, base string, pc *webrtc.PeerConnection) {
	t.Helper()
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	sdp := pc.LocalDescription().SDP
	if !strings.Contains(sdp, "typ relay") || strings.Contains(sdp, "typ host") {
		t.Fatalf("candidates of the offer:\n%s", sdp)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/whep/demo", strings.NewReader(sdp))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/sdp")
	code, header, answer := do(t, r)
	if code != http.StatusCreated {
		t.Fatalf("WHEP: %d %s", code, answer)
	}
	if link := strings.Join(header.Values("Link"), "\n"); !strings.Contains(link, "turn:127.0.0.1:") {
		t.Errorf("Link of the answer: %s", link)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
}
