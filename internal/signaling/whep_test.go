package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/internal/auth"
)

// do sends a request; headers are key, value pairs.
func do(t testing.TB, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

const someOffer = "v=0\r\na=ice-ufrag:them\r\na=ice-pwd:themthemthemthemthemthem\r\n"

func TestWHEPPostStatuses(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	good := token(t, nil)
	gateOnly := token(t, func(c *auth.Claims) { c.Cameras = []string{"gate"} })
	metrics := token(t, func(c *auth.Claims) { c.May = []auth.Right{auth.Metrics} })
	once := token(t, func(c *auth.Claims) { c.Once, c.ID = true, "ticket" })
	r.cameras.streams["sign"] = r.cameras.streams["dock"]
	r.cameras.change("sign", func(st *capture.State) { st.Phase, st.Placeholder = capture.Offline, true })
	r.cameras.change("fresh", func(st *capture.State) { st.Phase = capture.Starting }) // no stream yet
	for _, tt := range []struct {
		name, camera, token, typ, body string
		refuse                         error
		status                         int
		detail                         string
	}{
		{name: "joins", status: 201},
		{name: "parameters of the type", typ: "application/sdp; charset=utf-8", status: 201},
		{name: "single use", token: once, status: 201},
		{name: "single use again", token: once, status: 401, detail: "used before"},
		{name: "no token", token: "-", status: 401, detail: "none given"},
		{name: "bad token", token: "x.y.z", status: 401, detail: "malformed"},
		{name: "other right", token: metrics, status: 403},
		{name: "other camera", token: gateOnly, status: 403},
		{name: "unknown to who may see only others", token: gateOnly, camera: "nowhere", status: 403},
		{name: "unknown camera", camera: "nowhere", status: 404, detail: `"nowhere"`},
		{name: "wrong type", typ: "application/json", status: 415},
		{name: "no type", typ: "-", status: 415},
		{name: "too large", body: strings.Repeat("x", maxMessage+1), status: 413},
		{name: "bad offer", refuse: forward.ErrOffer, status: 422},
		{name: "no codec", refuse: &forward.CodecError{Camera: []string{"H264"}, Viewer: []string{"VP8", "VP9"}}, status: 406, detail: "camera has H264; viewer offers VP8, VP9"},
		{name: "full", refuse: forward.ErrFull, status: 503, detail: "full"},
		{name: "full, and why", refuse: fmt.Errorf("join: %w", &forward.FullError{Bound: "memory", Detail: "8 MiB are free", Retry: time.Minute}), status: 503, detail: "the box is full: 8 MiB are free"},
		{name: "no frame yet", refuse: forward.ErrOffline, status: 503},
		{name: "offline past its grace", camera: "gate", status: 503, detail: "connection refused"},
		{name: "offline, with a placeholder", camera: "sign", status: 201},
		{name: "no stream yet", camera: "fresh", status: 503, detail: "camera offline"},
		{name: "SFU gone", refuse: forward.ErrGone, status: 404},
		{name: "a secret of the inside", refuse: errors.New("secret"), status: 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.refuseWith(tt.refuse)
			var headers []string
			if tt.token == "" {
				tt.token = good
			}
			if tt.token != "-" {
				headers = append(headers, "Authorization", "Bearer "+tt.token)
			}
			if tt.typ == "" {
				tt.typ = typeSDP
			}
			if tt.typ != "-" {
				headers = append(headers, "Content-Type", tt.typ)
			}
			if tt.camera == "" {
				tt.camera = "dock"
			}
			if tt.body == "" {
				tt.body = someOffer
			}
			res, body := do(t, "POST", url+"/whep/"+tt.camera, tt.body, headers...)
			if res.StatusCode != tt.status {
				t.Fatalf("%s: %s", res.Status, body)
			}
			if tt.status != 201 {
				checkProblem(t, res, body, tt.detail)
			}
			if retry := res.Header.Get("Retry-After"); tt.name == "full, and why" && retry != "60" {
				t.Errorf("Retry-After %q, want what the SFU says", retry)
			}
			if strings.Contains(body, "secret") {
				t.Errorf("tells of the inside: %s", body)
			}
		})
	}
}

func checkProblem(t *testing.T, res *http.Response, body, detail string) {
	t.Helper()
	var p struct {
		Title, Detail, Code string
		Status              int
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if res.Header.Get("Content-Type") != "application/problem+json" || p.Title != http.StatusText(res.StatusCode) ||
		p.Status != res.StatusCode || p.Code == "" || !strings.Contains(p.Detail, detail) || p.Detail == "" {
		t.Errorf("problem %s %s", res.Header.Get("Content-Type"), body)
	}
	if retry := res.Header.Get("Retry-After"); (retry != "") != (res.StatusCode == 503 || res.StatusCode == 429) {
		t.Errorf("%d with Retry-After %q", res.StatusCode, retry)
	}
	if www := res.Header.Get("WWW-Authenticate"); (www != "") != (res.StatusCode == 401) {
		t.Errorf("%d with WWW-Authenticate %q", res.StatusCode, www)
	}
}

func TestWHEPAnswerHeaders(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	res, body := do(t, "POST", url+"/whep/dock", someOffer, "Authorization", "bearer "+token(t, nil), "Content-Type", typeSDP)
	if body != "v=0\r\nanswer to ann\r\n" || res.Header.Get("Content-Type") != typeSDP {
		t.Errorf("%s %q", res.Header.Get("Content-Type"), body)
	}
	if l := res.Header.Get("Location"); l != "/whep/dock/"+r.viewer(0).id {
		t.Errorf("Location %q", l)
	}
	if e := res.Header.Get("ETag"); len(e) < 10 || e[0] != '"' || e[len(e)-1] != '"' {
		t.Errorf("ETag %q", e)
	}
	want := `<stun:127.0.0.1:3478>; rel="ice-server"` + "\n" +
		`<turn:127.0.0.1:3478?transport=udp>; rel="ice-server"; username="1:ann"; credential="p\"w"; credential-type="password"`
	if got := strings.Join(res.Header.Values("Link"), "\n"); got != want {
		t.Errorf("Link\n%s\nwant\n%s", got, want)
	}
}

func TestWHEPPatch(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	res, _ := do(t, "POST", url+"/whep/dock", someOffer, "Authorization", "Bearer "+token(t, nil), "Content-Type", typeSDP)
	session, first := url+res.Header.Get("Location"), res.Header.Get("ETag")
	const (
		trickle = "a=ice-ufrag:them\r\na=ice-pwd:themthemthemthemthemthem\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 10.0.0.2 9 typ host\r\na=end-of-candidates\r\n"
		restart = "a=ice-ufrag:anew\r\na=ice-pwd:anewanewanewanewanewanew\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
	)
	etag := first
	for _, tt := range []struct {
		name, match, typ, body string
		status                 int
	}{
		{"trickles", "now", typeFrag, trickle, 204},
		{"trickles without ufrag", "now", typeFrag, "m=video 9 X 0\r\na=candidate:2 1 udp 1 10.0.0.2 9 typ host\r\n", 204},
		{"no If-Match", "", typeFrag, trickle, 428},
		{"other ETag", `"other"`, typeFrag, trickle, 412},
		{"weak ETag", "W/now", typeFrag, trickle, 412},
		{"one of many", `"other", now`, typeFrag, trickle, 204},
		{"wrong type", "now", typeSDP, trickle, 415},
		{"no SDP", "now", typeFrag, "hello", 400},
		{"empty", "now", typeFrag, "", 400},
		{"too large", "now", typeFrag, strings.Repeat("a=x\r\n", maxMessage), 413},
		{"new ufrag without password", "*", typeFrag, "a=ice-ufrag:anew\r\n", 422},
		{"restarts", "*", typeFrag, restart, 200},
		{"old ETag after the restart", first, typeFrag, restart, 412},
		{"trickles after the restart", "now", typeFrag, restart + "a=candidate:3 1 udp 1 10.0.0.2 9 typ host\r\n", 204},
		{"restarts again, star quoted", `"*"`, typeFrag, strings.ReplaceAll(restart, "anew", "more"), 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			headers := []string{"Content-Type", tt.typ}
			if tt.match != "" {
				headers = append(headers, "If-Match", strings.ReplaceAll(tt.match, "now", etag))
			}
			res, body := do(t, "PATCH", session, tt.body, headers...)
			if res.StatusCode != tt.status {
				t.Fatalf("%s: %s", res.Status, body)
			}
			if tt.status == 200 {
				if e := res.Header.Get("ETag"); e == "" || e == etag {
					t.Errorf("ETag %q after a restart, before %q", e, etag)
				} else {
					etag = e
				}
				want := "a=ice-ufrag:boxnew\r\na=ice-pwd:boxnewboxnewboxnewboxnew\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
				if body != want || res.Header.Get("Content-Type") != typeFrag {
					t.Errorf("fragment\n%s", body)
				}
			}
		})
	}
	v := r.viewer(0)
	if got := strings.Join(v.told(), "|"); got != "candidate:1 1 udp 1 10.0.0.2 9 typ host||candidate:2 1 udp 1 10.0.0.2 9 typ host|candidate:1 1 udp 1 10.0.0.2 9 typ host||candidate:3 1 udp 1 10.0.0.2 9 typ host" {
		t.Errorf("candidates handed on: %s", got)
	}
	if len(v.restarts) != 2 {
		t.Errorf("%d restarts", len(v.restarts))
	}
	v.fail = forward.ErrOffer
	if res, body := do(t, "PATCH", session, restart+"a=candidate:junk\r\n", "Content-Type", typeFrag, "If-Match", "*"); res.StatusCode != 422 {
		t.Errorf("bad candidate: %s %s", res.Status, body)
	}
	if res, _ := do(t, "PATCH", url+"/whep/gate/"+v.id, trickle, "Content-Type", typeFrag, "If-Match", "*"); res.StatusCode != 404 {
		t.Errorf("under another camera: %s", res.Status)
	}
}

func TestWHEPSessionEnds(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	post := func(tok string) string {
		res, body := do(t, "POST", url+"/whep/dock", someOffer, "Authorization", "Bearer "+tok, "Content-Type", typeSDP)
		if res.StatusCode != 201 {
			t.Fatal(res.Status, body)
		}
		return url + res.Header.Get("Location")
	}
	deleted := post(token(t, nil))
	if n := r.Stats().Active["whep"]; n != 1 {
		t.Errorf("%d active", n)
	}
	if res, _ := do(t, "DELETE", deleted, ""); res.StatusCode != 200 {
		t.Errorf("DELETE: %s", res.Status)
	}
	if got := r.viewer(0).Reason(); got != "closed by the viewer" {
		t.Errorf("reason %q", got)
	}
	if res, _ := do(t, "DELETE", deleted, ""); res.StatusCode != 404 {
		t.Errorf("second DELETE: %s", res.Status)
	}
	gone := post(token(t, nil))
	r.viewer(1).Close("ICE failed")
	if res, _ := do(t, "DELETE", gone, ""); res.StatusCode != 404 {
		t.Errorf("DELETE of a session that has ended: %s", res.Status)
	}
	post(token(t, func(c *auth.Claims) { c.Expires = time.Now().Add(1500 * time.Millisecond) }))
	<-r.viewer(2).Done()
	if got := r.viewer(2).Reason(); got != "token expired" {
		t.Errorf("reason %q", got)
	}
	st := r.Stats()
	if st.Active["whep"] != 0 {
		t.Errorf("%d active in the end", st.Active["whep"])
	}
	if st.Messages["whep.post\x00ok"] != 3 || st.Messages["whep.delete\x00ok"] != 1 || st.Messages["whep.delete\x00unknown_view"] != 2 {
		t.Errorf("messages %v", st.Messages)
	}
	var n uint64
	for _, c := range st.Handshake.Counts {
		n += c
	}
	if n != 3 || len(st.Handshake.Counts) != len(st.Handshake.Bounds)+1 || st.Handshake.Sum <= 0 {
		t.Errorf("handshakes %+v", st.Handshake)
	}
}

func TestRefusalsAreThrottled(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	var last *http.Response
	for range 30 {
		last, _ = do(t, "POST", url+"/whep/dock", someOffer, "Authorization", "Bearer nonsense", "Content-Type", typeSDP)
	}
	if last.StatusCode != 429 || last.Header.Get("Retry-After") == "" {
		t.Errorf("after 30 bad tokens: %s, Retry-After %q", last.Status, last.Header.Get("Retry-After"))
	}
	if res, _ := do(t, "POST", url+"/whep/dock", someOffer, "Authorization", "Bearer "+token(t, nil), "Content-Type", typeSDP); res.StatusCode != 201 {
		t.Errorf("a good token from the same address: %s", res.Status)
	}
}

func FuzzWHEPPatch(f *testing.F) {
	f.Add("a=ice-ufrag:anew\r\na=ice-pwd:anewanewanewanewanewanew\r\na=candidate:1 1 udp 1 10.0.0.2 9 typ host\r\n", "*")
	f.Add("a=end-of-candidates\n", `"x"`)
	f.Add("", "")
	r := newRig(f, nil)
	v := newView(&fakeViewer{id: "v", done: make(chan struct{})}, "dock", someOffer, auth.Grant{})
	r.views.add(v)
	f.Fuzz(func(t *testing.T, body, match string) {
		q := httptest.NewRequest("PATCH", "/whep/dock/v", strings.NewReader(body))
		q.Header.Set("Content-Type", typeFrag)
		q.Header.Set("If-Match", match)
		w := httptest.NewRecorder()
		r.WHEPPatch(w, q, "dock", "v")
		switch w.Code {
		case 200, 204, 400, 412, 413, 422, 428:
		default:
			t.Errorf("%d for %q: %s", w.Code, body, w.Body)
		}
	})
}

// FuzzWHEPOffer hands foreign bodies to a real SFU.
func FuzzWHEPOffer(f *testing.F) {
	f.Add(someOffer)
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:them\r\na=ice-pwd:themthemthemthemthemthem\r\na=fingerprint:sha-256 AA\r\na=rtpmap:96 VP8/90000\r\n")
	f.Add("")
	f.Add("\x00")
	r := liveRig(f)
	good := token(f, nil)
	f.Fuzz(func(t *testing.T, body string) {
		q := httptest.NewRequest("POST", "/whep/dock", strings.NewReader(body))
		q.Header.Set("Content-Type", typeSDP)
		q.Header.Set("Authorization", "Bearer "+good)
		w := httptest.NewRecorder()
		r.WHEP(w, q, "dock")
		switch w.Code {
		case 406, 413, 422, 503:
		case 201:
			v, ok := r.views.get(w.Header().Get("Location")[len("/whep/dock/"):])
			if ok {
				v.Close("enough")
				<-v.Done()
			}
		default:
			t.Errorf("%d for %q: %s", w.Code, body, w.Body)
		}
	})
}
