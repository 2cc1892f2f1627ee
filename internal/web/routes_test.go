package web

import (
	"net/http"
	"strings"
	"testing"

	"edged/internal/auth"
)

func TestRoutes(t *testing.T) {
	_, base := start(t, Config{}, deps(t))
	tokens := map[string]string{
		"view": token(t, auth.View), "admin": token(t, auth.Admin), "metrics": token(t, auth.Metrics), "bad": "a.b.c",
	}
	const problem, js = "application/problem+json", "application/json"
	for _, tt := range []struct {
		method, path, as, typ, body string // typ: of the request
		status                      int
		want                        string // in the answer's body
	}{
		{"GET", "/", "", "", "", 200, "<title>box"},
		{"GET", "/?token=x", "", "", "", 200, "<title>box"},
		{"HEAD", "/", "", "", "", 200, ""},
		{"GET", "/js/app.js", "", "", "", 200, "1"},
		{"GET", "/js/nope.js", "", "", "", 404, "nothing at"},
		{"POST", "/", "", "", "", 405, "GET"},
		{"GET", "/healthz", "", "", "", 200, "storage: ok\nuplink: ok connected\n"},
		{"GET", "/readyz", "", "", "", 200, "storage"},
		{"GET", "/metrics", "", "", "", 200, "edged_build_info"}, // from loopback
		{"DELETE", "/metrics", "", "", "", 405, ""},
		{"GET", "/rpc", "", "", "", 426, "WebSocket"},

		{"GET", "/api/v1/box", "", "", "", 401, "none given"},
		{"GET", "/api/v1/box", "bad", "", "", 401, "malformed"},
		{"GET", "/api/v1/box?token=VIEW", "", "", "", 401, "none given"},
		{"GET", "/api/v1/box", "metrics", "", "", 403, "view"},
		{"GET", "/api/v1/box", "view", "", "", 200, `"name":"gate-7"`},
		{"GET", "/api/v1/box", "view", "", "", 200, `"health":[{"name":"storage","ok":true}`},
		{"GET", "/api/v1/cameras", "", "", "", 401, ""},
		{"GET", "/api/v1/cameras", "view", "", "", 200, `{"cameras":[{"id":"dock","kind":"pattern","state":"live"`},
		{"GET", "/api/v1/cameras/dock", "view", "", "", 200, `{"id":"dock"`},
		{"GET", "/api/v1/cameras/nope", "view", "", "", 404, "no camera"},
		{"GET", "/api/v1/cameras/dock", "admin", "", "", 403, ""},
		{"GET", "/api/v1/cameras/dock/snapshot.jpg", "view", "", "", 404, ""},
		{"GET", "/api/v1/turn", "", "", "", 401, ""},
		{"GET", "/api/v1/turn", "view", "", "", 200, `{"ice_servers":[{"urls":["turn:127.0.0.1"],"username":"ann","credential":"c"}]}`},
		{"GET", "/api/v1/config", "", "", "", 401, ""},
		{"GET", "/api/v1/config", "view", "", "", 403, "admin"},
		{"GET", "/api/v1/config", "admin", "", "", 200, "name: gate-7"},
		{"PUT", "/api/v1/config", "view", "application/yaml", "x", 403, ""},
		{"PUT", "/api/v1/config", "admin", "text/plain", "x", 415, ""},
		{"PUT", "/api/v1/config", "admin", "application/yaml", strings.Repeat("x", maxConfig+1), 413, ""},
		{"PUT", "/api/v1/config", "admin", "application/yaml", "bad", 422, `"errors":[{"pointer":"/cameras/2/fps","detail":"0 is not in 1..60"}]`},
		{"PUT", "/api/v1/config", "admin", "application/yaml", "broken", 500, "disk full"},
		{"PUT", "/api/v1/config", "admin", "application/json", `{"name":"new"}`, 200, `"restart":["http.listen"]`},
		{"GET", "/api/v1/config", "admin", "", "", 200, `{"name":"new"}`},
		{"GET", "/api/v1/stats", "", "", "", 401, ""},
		{"GET", "/api/v1/stats?since=2026-01-02T03:04:05Z", "view", "", "", 200, "2026-01-02T03:04:05Z"},
		{"GET", "/api/v1/stats?since=1767323045", "view", "", "", 200, "2026-01-02T03:04:05Z"},
		{"GET", "/api/v1/stats?since=1767323045000", "view", "", "", 200, "2026-01-02T03:04:05Z"},
		{"GET", "/api/v1/stats?since=NaN", "view", "", "", 400, "out of range"},
		{"GET", "/api/v1/stats?since=yesterday", "view", "", "", 400, "RFC 3339"},
		{"GET", "/api/v1/topology", "view", "", "", 403, ""},
		{"GET", "/api/v1/topology", "admin", "", "", 200, "dock"},
		{"POST", "/api/v1/signal", "", js, "{}", 401, ""},
		{"POST", "/api/v1/signal", "view", js, `{"jsonrpc":"2.0","id":1,"method":"camera.list"}`, 200, `"dock"`},
		{"GET", "/api/v1/signal", "view", "", "", 405, ""},
		{"GET", "/api/v1/nope", "view", "", "", 404, ""},

		{"GET", "/whep/dock", "view", "", "", 405, "POST"},
		{"PUT", "/whep/dock", "view", "", "", 405, ""},
		{"GET", "/whep/dock/x", "", "", "", 405, "PATCH"},
		{"POST", "/whep/dock/x", "view", "", "", 405, ""},
		{"DELETE", "/whep/dock/x", "", "", "", 404, ""},
		{"POST", "/whep/dock", "", "application/sdp", "v=0", 401, ""},
		{"POST", "/whep/nope", "view", "application/sdp", "v=0", 404, ""},
		{"POST", "/whep/dock", "view", "application/sdp", "v=0", 422, "offer"},
		{"GET", "/whip/dock", "view", "", "", 405, "POST"},
		{"POST", "/whip/dock", "", "application/sdp", "v=0", 401, ""},
		{"POST", "/whip/dock", "view", "application/sdp", "v=0", 403, "publish"},
		{"PUT", "/whip/dock/x", "", "", "", 405, "PATCH"},
		{"DELETE", "/whip/dock/x", "", "", "", 404, ""},
		{"POST", "/api/v1/login", "", js, "{}", 404, ""},
		{"GET", "/debug/pprof/", "admin", "", "", 404, ""},
	} {
		name := tt.method + " " + tt.path + " as " + tt.as
		headers := []string{"Content-Type", tt.typ}
		if tt.as != "" {
			headers = append(headers, "Authorization", "Bearer "+tokens[tt.as])
		}
		res, body := do(t, tt.method, base+strings.ReplaceAll(tt.path, "VIEW", tokens["view"]), tt.body, headers...)
		if res.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %s: %s", name, res.Status, body)
		}
		if isProblem := res.Header.Get("Content-Type") == problem; isProblem != (tt.status >= 400) {
			t.Errorf("%s: %d as %s", name, res.StatusCode, res.Header.Get("Content-Type"))
		}
		if (tt.status == 405) != (res.Header.Get("Allow") != "") {
			t.Errorf("%s: %d with Allow %q", name, tt.status, res.Header.Get("Allow"))
		}
		if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", name, res.Header)
		}
	}
}

func TestPartsThatAreNotThere(t *testing.T) {
	d := deps(t)
	d.Metrics, d.Config, d.Stats, d.Topology = nil, nil, nil, nil
	_, base := start(t, Config{}, d)
	all := token(t, auth.View, auth.Admin)
	for _, path := range []string{"/metrics", "/api/v1/config", "/api/v1/stats", "/api/v1/topology"} {
		if res, _ := do(t, "GET", base+path, "", "Authorization", "Bearer "+all); res.StatusCode != 404 {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

func TestHealth(t *testing.T) {
	d := deps(t)
	ready := false
	d.Ready = func() bool { return ready }
	ok := true
	d.Health = func() []Health { return []Health{{"web", true, ""}, {"uplink", ok, "no route"}} }
	_, base := start(t, Config{}, d)
	check := func(path string, status int, want string) {
		t.Helper()
		if res, body := do(t, "GET", base+path, ""); res.StatusCode != status || body != want {
			t.Errorf("%s: %s %q", path, res.Status, body)
		}
	}
	check("/healthz", 200, "web: ok\nuplink: ok no route\n")
	check("/readyz", 503, "web: ok\nuplink: ok no route\nstarting\n")
	ready = true
	check("/readyz", 200, "web: ok\nuplink: ok no route\n")
	ok = false
	check("/healthz", 503, "web: ok\nuplink: bad no route\n")
	check("/readyz", 503, "web: ok\nuplink: bad no route\n")
}

func TestMetricsBehindAProxyNeedAToken(t *testing.T) {
	_, base := start(t, Config{}, deps(t))
	proxied := []string{"X-Forwarded-For", "203.0.113.9"}
	if res, _ := do(t, "GET", base+"/metrics", "", proxied...); res.StatusCode != 401 {
		t.Errorf("no token: %s", res.Status)
	}
	for right, status := range map[auth.Right]int{auth.View: 403, auth.Metrics: 200, auth.Admin: 200} {
		if res, _ := do(t, "GET", base+"/metrics", "", append(proxied, "Authorization", "Bearer "+token(t, right))...); res.StatusCode != status {
			t.Errorf("%s: %s", right, res.Status)
		}
	}
}

func TestPageIsCachedByContent(t *testing.T) {
	_, base := start(t, Config{}, deps(t))
	res, _ := do(t, "GET", base+"/", "")
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	if typ := res.Header.Get("Content-Type"); typ != "text/html; charset=utf-8" {
		t.Errorf("type %q", typ)
	}
	if res, body := do(t, "GET", base+"/", "", "If-None-Match", res.Header.Get("ETag")); res.StatusCode != 304 || body != "" {
		t.Errorf("unchanged: %s %q", res.Status, body)
	}
	if res, _ := do(t, "GET", base+"/js/app.js", "", "If-None-Match", res.Header.Get("ETag")); res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/javascript") {
		t.Errorf("another file: %s %s", res.Status, res.Header.Get("Content-Type"))
	}
}

func TestCORS(t *testing.T) {
	_, base := start(t, Config{Origins: []string{"https://app.example"}}, deps(t))
	preflight := func(origin, path string) *http.Response {
		res, _ := do(t, "OPTIONS", base+path, "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
		if res.StatusCode != 204 {
			t.Errorf("%s: %s", path, res.Status)
		}
		return res
	}
	h := preflight("https://app.example", "/whep/dock").Header
	if h.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || h.Get("Accept-Post") != "application/sdp" || h.Get("Vary") != "Origin" {
		t.Errorf("preflight %v", h)
	}
	h = preflight("https://app.example", "/whep/dock/x").Header
	if !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") || h.Get("Accept-Patch") != "application/trickle-ice-sdpfrag" {
		t.Errorf("preflight of a session %v", h)
	}
	if h := preflight("https://evil.example", "/whep/dock").Header; h.Get("Access-Control-Allow-Origin") != "" || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("preflight of a stranger %v", h)
	}
	res, _ := do(t, "GET", base+"/api/v1/cameras", "", "Origin", "https://app.example")
	if res.Header.Get("Access-Control-Allow-Origin") == "" || !strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Errorf("an error is hidden from the page: %v", res.Header)
	}
}
