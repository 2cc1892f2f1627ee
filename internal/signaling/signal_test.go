package signaling

import (
	"encoding/json"
	"strings"
	"testing"

	"edged/internal/auth"
)

func TestSignal(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t) + "/api/v1/signal"
	mine, other := token(t, nil), token(t, func(c *auth.Claims) { c.ID = "another" })
	ask := func(token, msg string, status int) string {
		t.Helper()
		res, body := do(t, "POST", url, msg, "Content-Type", "application/json", "Authorization", "Bearer "+token)
		if res.StatusCode != status {
			t.Fatalf("%s: %s", res.Status, body)
		}
		return body
	}
	if got := ask(mine, `{"jsonrpc":"2.0","id":1,"method":"session.hello"}`, 200); !strings.Contains(got, `"cameras":[{"id":"dock"`) {
		t.Error(got)
	}
	if got := ask(mine, `[{"jsonrpc":"2.0","method":"ping"}]`, 204); got != "" {
		t.Error(got)
	}
	if got := ask(mine, `{`, 200); !strings.Contains(got, "-32700") {
		t.Error(got)
	}
	var opened struct{ Result struct{ View, SDP string } }
	if err := json.Unmarshal([]byte(ask(mine, `{"jsonrpc":"2.0","id":1,"method":"view.open","params":{"camera":"dock","sdp":"x"}}`, 200)), &opened); err != nil || opened.Result.SDP == "" {
		t.Fatal(err, opened)
	}
	if n := r.Stats().Active; n["http"] != 1 || n["whep"] != 0 {
		t.Errorf("active %v", n)
	}
	candidate := `{"jsonrpc":"2.0","id":1,"method":"view.candidate","params":{"view":"` + opened.Result.View + `","candidate":"candidate:1"}}`
	if got := ask(other, candidate, 200); !strings.Contains(got, "unknown_view") {
		t.Errorf("another token: %s", got)
	}
	if got := ask(mine, candidate, 200); !strings.Contains(got, "result") {
		t.Errorf("the token that opened it: %s", got)
	}
	if res, _ := do(t, "DELETE", strings.TrimSuffix(url, "/api/v1/signal")+"/whep/dock/"+opened.Result.View, ""); res.StatusCode != 404 {
		t.Errorf("as a WHEP session: %s", res.Status)
	}
	if got := ask(mine, strings.ReplaceAll(candidate, "view.candidate", "view.close"), 200); !strings.Contains(got, "result") {
		t.Error(got)
	}
	if got := r.viewer(0).Reason(); got != "closed by the viewer" {
		t.Errorf("reason %q", got)
	}
	if got := strings.Join(r.viewer(0).told(), "|"); got != "candidate:1" {
		t.Errorf("candidates %q", got)
	}

	for name, tt := range map[string]struct {
		token, typ, body string
		status           int
	}{
		"no token":   {"", "application/json", "{}", 401},
		"wrong type": {mine, "text/plain", "{}", 415},
		"too large":  {mine, "application/json", strings.Repeat(" ", maxMessage+1), 413},
	} {
		res, body := do(t, "POST", url, tt.body, "Content-Type", tt.typ, "Authorization", "Bearer "+tt.token)
		if res.StatusCode != tt.status {
			t.Errorf("%s: %s", name, res.Status)
		}
		checkProblem(t, res, body, "")
	}
}
