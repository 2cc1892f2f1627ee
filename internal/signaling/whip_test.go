package signaling

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/internal/auth"
)

func publisherToken(t *testing.T, edit func(*auth.Claims)) string {
	t.Helper()
	return token(t, func(c *auth.Claims) {
		c.May = []auth.Right{auth.Publish}
		if edit != nil {
			edit(c)
		}
	})
}

func TestWHIPPostStatuses(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	good := publisherToken(t, nil)
	for _, tt := range []struct {
		name, camera, token, typ, body string
		refuse                         error
		status                         int
		detail                         string
	}{
		{name: "publishes", status: 201},
		{name: "no token", token: "-", status: 401, detail: "none given"},
		{name: "may view only", token: token(t, nil), status: 403, detail: "publish"},
		{name: "another camera's", token: publisherToken(t, func(c *auth.Claims) { c.Cameras = []string{"gate"} }), status: 403},
		{name: "unknown camera", camera: "nowhere", status: 404, detail: `"nowhere"`},
		{name: "not of kind whip", camera: "gate", status: 404, detail: "whip:"},
		{name: "wrong type", typ: "application/json", status: 415},
		{name: "too large", body: strings.Repeat("x", maxMessage+1), status: 413},
		{name: "bad offer", refuse: forward.ErrOffer, status: 422},
		{name: "no codec", refuse: &forward.CodecError{Camera: []string{"VP8"}, Publisher: []string{"theora"}}, status: 406, detail: "the box takes VP8; the publisher offers theora"},
		{name: "taken", refuse: forward.ErrBusy, status: 409, detail: "somebody else"},
		{name: "a secret of the inside", refuse: errors.New("secret"), status: 500},
	} {
		r.refuseWith(tt.refuse)
		if tt.token == "" {
			tt.token = good
		}
		if tt.typ == "" {
			tt.typ = typeSDP
		}
		if tt.camera == "" {
			tt.camera = "dock"
		}
		if tt.body == "" {
			tt.body = someOffer
		}
		headers := []string{"Content-Type", tt.typ}
		if tt.token != "-" {
			headers = append(headers, "Authorization", "Bearer "+tt.token)
		}
		res, body := do(t, "POST", url+"/whip/"+tt.camera, tt.body, headers...)
		if res.StatusCode != tt.status || strings.Contains(body, "secret") {
			t.Errorf("%s: %s: %s", tt.name, res.Status, body)
		} else if tt.status != 201 {
			checkProblem(t, res, body, tt.detail)
		}
	}
}

// A publisher's session is like a viewer's, but not among those: neither's URL
// is of use at the other's.
func TestWHIPSession(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	res, answer := do(t, "POST", url+"/whip/dock", someOffer, "Content-Type", typeSDP, "Authorization", "Bearer "+publisherToken(t, nil))
	location, etag := res.Header.Get("Location"), res.Header.Get("ETag")
	if res.StatusCode != 201 || answer != "v=0\r\nanswer to ann\r\n" || !strings.HasPrefix(location, "/whip/dock/") || etag == "" ||
		res.Header.Get("Accept-Patch") != typeFrag || len(res.Header.Values("Link")) != 2 {
		t.Fatalf("%s %v: %s", res.Status, res.Header, answer)
	}
	p := r.viewer(0)
	patch := func(at, etag, frag string, want int) *http.Response {
		t.Helper()
		headers := []string{"Content-Type", typeFrag}
		if etag != "" {
			headers = append(headers, "If-Match", etag)
		}
		res, body := do(t, "PATCH", url+at, frag, headers...)
		if res.StatusCode != want {
			t.Errorf("PATCH %.20q: %s: %s", frag, res.Status, body)
		}
		return res
	}
	const trickle = "a=ice-ufrag:them\r\na=ice-pwd:themthemthemthemthemthem\r\nm=video 9 X 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
	patch(location, "", trickle, 428)
	patch(location, `"other"`, trickle, 412)
	patch(strings.Replace(location, "/whip/", "/whep/", 1), etag, trickle, 404)
	patch(location, etag, trickle, 204)
	if told := p.told(); len(told) != 1 {
		t.Errorf("told of %q", told)
	}
	again := patch(location, `"*"`, "a=ice-ufrag:them2\r\na=ice-pwd:themthemthemthemthemthem2\r\n", 200)
	if again.Header.Get("ETag") == etag {
		t.Error("the ETag is that of the ICE session before")
	}
	if a := r.Stats().Active; a["whip"] != 1 || a["whep"] != 0 {
		t.Errorf("active: %v", a)
	}
	if res, _ := do(t, "DELETE", url+location, ""); res.StatusCode != 200 || p.Reason() != "closed by the publisher" {
		t.Errorf("%s, %q", res.Status, p.Reason())
	}
	if res, _ := do(t, "DELETE", url+location, ""); res.StatusCode != 404 {
		t.Errorf("a second DELETE: %s", res.Status)
	}
}

// The end of the token is the end of the session.
func TestWHIPTokenEnds(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	soon := publisherToken(t, func(c *auth.Claims) { c.Expires = time.Now().Add(2 * time.Second) })
	if res, body := do(t, "POST", url+"/whip/dock", someOffer, "Content-Type", typeSDP, "Authorization", "Bearer "+soon); res.StatusCode != 201 {
		t.Fatalf("%s: %s", res.Status, body)
	}
	<-r.viewer(0).Done()
	if why := r.viewer(0).Reason(); why != "token expired" {
		t.Error(why)
	}
}

// Whoever comes while nobody publishes is told so, once the grace is over.
func TestNobodyPublishes(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	r.cameras.change("dock", func(st *capture.State) {
		st.Phase, st.Code, st.Reason, st.LastFrame = capture.Waiting, capture.CodeNoPublisher, "nobody publishes to this camera", time.Now().Add(-time.Minute)
	})
	res, body := do(t, "POST", url+"/whep/dock", someOffer, "Content-Type", typeSDP, "Authorization", "Bearer "+token(t, nil))
	if res.StatusCode != 503 || !strings.Contains(body, "no_publisher") {
		t.Errorf("%s: %s", res.Status, body)
	}
}
