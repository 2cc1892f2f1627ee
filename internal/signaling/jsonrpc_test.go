package signaling

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"edged/internal/auth"
)

// greeted is a session that has said hello.
func greeted(t testing.TB, r *rig, edit func(*auth.Claims)) *Session {
	t.Helper()
	s := r.NewSession(SessionOptions{Send: func([]byte) bool { return true }, Host: "box.local"})
	res := string(s.receive(context.Background(), []byte(`{"jsonrpc":"2.0","id":1,"method":"session.hello","params":{"token":"`+token(t, edit)+`","version":1}}`)))
	if !strings.Contains(res, `"result"`) {
		t.Fatal(res)
	}
	return s
}

// TestJSONRPC has the examples of the specification (§7) and the edges of our
// own methods: input, and the whole answer or what must be in it.
func TestJSONRPC(t *testing.T) {
	r := newRig(t, nil)
	s := greeted(t, r, func(c *auth.Claims) { c.Cameras = []string{"dock", "gate", "nowhere"} })
	open := string(s.receive(context.Background(), []byte(`{"jsonrpc":"2.0","id":1,"method":"view.open","params":{"camera":"dock","sdp":"x"}}`)))
	view := r.viewer(0).id
	if !strings.Contains(open, view) || !strings.Contains(open, "answer to ann") {
		t.Fatal(open)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"not JSON", `{"jsonrpc":"2.0","method":"foobar","params":"bar","baz]`, `{"jsonrpc":"2.0","error":{"code":-32700,"message":"not JSON","data":{"reason":"parse_error"}},"id":null}`},
		{"batch not JSON", `[{"jsonrpc":"2.0","method"]`, `"code":-32700`},
		{"nothing", ``, `"code":-32700`},
		{"empty batch", `[]`, `"code":-32600`},
		{"batch of one non-request", `[1]`, `[{"jsonrpc":"2.0","error":{"code":-32600`},
		{"batch of three non-requests", `[1,2,3]`, `"id":null},{"jsonrpc":"2.0","error":{"code":-32600`},
		{"not an object", `"ping"`, `"code":-32600`},
		{"method is a number", `{"jsonrpc":"2.0","method":1,"params":"bar"}`, `"code":-32600`},
		{"no method", `{"jsonrpc":"2.0","id":5}`, `"code":-32600`},
		{"version 1.0", `{"method":"ping","id":5}`, `"code":-32600`},
		{"id is an object", `{"jsonrpc":"2.0","method":"ping","id":{}}`, `"code":-32600`},
		{"id is true", `{"jsonrpc":"2.0","method":"ping","id":true}`, `"code":-32600`},
		{"id is null", `{"jsonrpc":"2.0","method":"nope","id":null}`, `"id":null`},
		{"id is text", `{"jsonrpc":"2.0","method":"nope","id":"a\"b"}`, `"id":"a\"b"`},
		{"id keeps its digits", `{"jsonrpc":"2.0","method":"nope","id":12345678901234567890.10}`, `"id":12345678901234567890.10`},
		{"unknown method", `{"jsonrpc":"2.0","method":"foobar","id":"1"}`, `{"jsonrpc":"2.0","error":{"code":-32601,`},
		{"notification of an unknown method", `{"jsonrpc":"2.0","method":"foobar"}`, ``},
		{"notification with a fault", `{"jsonrpc":"2.0","method":"ping","params":[1]}`, ``},
		{"batch of notifications", `[{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","method":"ping"}]`, ``},
		{"params by position", `{"jsonrpc":"2.0","method":"ping","params":[1],"id":1}`, `"code":-32602`},
		{"params null", `{"jsonrpc":"2.0","method":"ping","params":null,"id":1}`, `"result":{"t":`},
		{"batch answers what asks", ` [{"jsonrpc":"2.0","method":"ping","id":1},{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","method":"x","id":2}] `, `"id":1},{"jsonrpc":"2.0","error":{"code":-32601`},

		{"list", `{"jsonrpc":"2.0","method":"camera.list","id":1}`, `"cameras":[{"id":"dock","kind":"pattern","state":"live"`},
		{"offline camera says why", `{"jsonrpc":"2.0","method":"camera.list","id":1}`, `"last_error":{"code":"refused","detail":"connection refused"}`},
		{"open unknown camera", `{"jsonrpc":"2.0","method":"view.open","params":{"camera":"nowhere"},"id":1}`, `"code":-32003`},
		{"open forbidden camera", `{"jsonrpc":"2.0","method":"view.open","params":{"camera":"vault"},"id":1}`, `"code":-32002`},
		{"open offline camera", `{"jsonrpc":"2.0","method":"view.open","params":{"camera":"gate"},"id":1}`, `"code":-32005,"message":"camera offline: refused: connection refused","data":{"reason":"offline","retry_after":2}`},
		{"open in no quality", `{"jsonrpc":"2.0","method":"view.open","params":{"camera":"dock","quality":"best"},"id":1}`, `"code":-32602`},
		{"open a number", `{"jsonrpc":"2.0","method":"view.open","params":{"camera":7},"id":1}`, `"code":-32602`},
		{"candidate as object", `{"jsonrpc":"2.0","method":"view.candidate","params":{"view":"VIEW","candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"them"}},"id":1}`, `"result":{}`},
		{"candidate as text", `{"jsonrpc":"2.0","method":"view.candidate","params":{"view":"VIEW","candidate":"candidate:2"},"id":1}`, `"result":{}`},
		{"end of candidates", `{"jsonrpc":"2.0","method":"view.candidate","params":{"view":"VIEW","candidate":null},"id":1}`, `"result":{}`},
		{"candidate is a list", `{"jsonrpc":"2.0","method":"view.candidate","params":{"view":"VIEW","candidate":[]},"id":1}`, `"code":-32602`},
		{"candidate of no view", `{"jsonrpc":"2.0","method":"view.candidate","params":{"view":"x","candidate":null},"id":1}`, `"reason":"unknown_view"`},
		{"restart", `{"jsonrpc":"2.0","method":"view.restart","params":{"view":"VIEW","sdp":"y"},"id":1}`, `"sdp":"v=0\r\nm=video`},
		{"quality in force", `{"jsonrpc":"2.0","method":"view.quality","params":{"view":"VIEW","quality":"off"},"id":1}`, `"result":{"quality":"off","view":"VIEW"}`},
		{"low quality", `{"jsonrpc":"2.0","method":"view.quality","params":{"view":"VIEW","quality":"low"},"id":1}`, `"result":{"quality":"low","view":"VIEW"}`},
		{"no such quality", `{"jsonrpc":"2.0","method":"view.quality","params":{"view":"VIEW","quality":"4k"},"id":1}`, `"code":-32602`},
		{"state", `{"jsonrpc":"2.0","method":"state.get","params":{"since":0},"id":1}`, `"state_version":0`},
		{"close", `{"jsonrpc":"2.0","method":"view.close","params":{"view":"VIEW"},"id":1}`, `"result":{}`},
		{"close again", `{"jsonrpc":"2.0","method":"view.close","params":{"view":"VIEW"},"id":1}`, `"code":-32602`},
	} {
		got := string(s.receive(context.Background(), []byte(strings.ReplaceAll(tt.in, "VIEW", view))))
		want := strings.ReplaceAll(tt.want, "VIEW", view)
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
	}
	if got := strings.Join(r.viewer(0).told(), "|"); got != "candidate:1|candidate:2|" {
		t.Errorf("candidates %q", got)
	}
	if got := r.viewer(0).Reason(); got != "closed by the viewer" {
		t.Errorf("reason %q", got)
	}
	m := r.Stats().Messages
	if m["unknown\x00unknown_method"] == 0 || m["view.open\x00ok"] != 1 || m["view.open\x00offline"] != 1 {
		t.Errorf("messages %v", m)
	}
	for k := range m {
		if strings.HasPrefix(k, "foobar") {
			t.Errorf("a stranger's text as a label: %q", k)
		}
	}
}

func TestHelloComesFirstAndIsChecked(t *testing.T) {
	r := newRig(t, nil)
	s := r.NewSession(SessionOptions{})
	ask := func(in string) string { return string(s.receive(context.Background(), []byte(in))) }
	hello := func(token string) string {
		return ask(`{"jsonrpc":"2.0","id":1,"method":"session.hello","params":{"token":"` + token + `"}}`)
	}
	for _, m := range []string{"camera.list", "view.open", "state.get", "view.close"} {
		if got := ask(`{"jsonrpc":"2.0","id":1,"method":"` + m + `"}`); !strings.Contains(got, "-32001") {
			t.Errorf("%s before hello: %s", m, got)
		}
	}
	if got := ask(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); !strings.Contains(got, "result") {
		t.Errorf("ping before hello: %s", got)
	}
	if got := hello(""); !strings.Contains(got, "-32001") {
		t.Errorf("no token: %s", got)
	}
	if got := hello(token(t, func(c *auth.Claims) { c.May = []auth.Right{auth.Admin} })); !strings.Contains(got, "-32002") {
		t.Errorf("token without view: %s", got)
	}
	once := token(t, func(c *auth.Claims) { c.Once, c.ID = true, "x" })
	got := hello(once)
	var res struct {
		Result struct {
			Session string
			Box     BoxInfo
			Cameras []Camera
			Version *uint64          `json:"state_version"`
			ICE     []map[string]any `json:"ice_servers"`
			Beat    float64          `json:"heartbeat"`
		}
	}
	if err := json.Unmarshal([]byte(got), &res); err != nil {
		t.Fatal(err, got)
	}
	h := res.Result
	if h.Session == "" || h.Box.Name != "box" || len(h.Cameras) != 2 || h.Version == nil || len(h.ICE) != 2 || h.Beat != 15 {
		t.Errorf("hello: %s", got)
	}
	if got := hello(once); !strings.Contains(got, "-32008") {
		t.Errorf("replay: %s", got)
	}
	for range 25 {
		got = hello("nonsense")
	}
	if !strings.Contains(got, "-32007") || !strings.Contains(got, "retry_after") {
		t.Errorf("25 bad tokens: %s", got)
	}
}

func TestSessionSeesOnlyItsCameras(t *testing.T) {
	r := newRig(t, nil)
	s := greeted(t, r, func(c *auth.Claims) { c.Cameras = []string{"dock"} })
	got := string(s.receive(context.Background(), []byte(`{"jsonrpc":"2.0","id":1,"method":"camera.list"}`)))
	if !strings.Contains(got, `"dock"`) || strings.Contains(got, `"gate"`) {
		t.Error(got)
	}
}

func TestCallsAreLimited(t *testing.T) {
	r := newRig(t, nil)
	s := greeted(t, r, nil)
	batch := "[" + strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"ping"},`, 999) + `{"jsonrpc":"2.0","id":1,"method":"ping"}]`
	if got := string(s.receive(context.Background(), []byte(batch))); !strings.Contains(got, "-32007") {
		t.Error("a thousand calls at once were all taken")
	}
}

func FuzzJSONRPC(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`, `[1,{}]`, `[]`, `{`, ``, "\xff", `null`,
		`{"jsonrpc":"2.0","id":"a","method":"view.open","params":{"camera":"dock","sdp":"x","quality":"auto"}}`,
		`{"jsonrpc":"2.0","id":null,"method":"view.candidate","params":{"view":"v","candidate":{"candidate":"","sdpMLineIndex":1e9}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"session.hello","params":{"token":"a.b.c","version":"2"}}`,
	} {
		f.Add([]byte(seed))
	}
	r := newRig(f, nil)
	grant, _ := r.admit(token(f, nil), RemoteAddr(&zeroRequest))
	f.Fuzz(func(t *testing.T, msg []byte) {
		s := r.NewSession(SessionOptions{Send: func([]byte) bool { return true }})
		s.single = true
		s.begin(grant)
		got := s.receive(context.Background(), msg)
		if got == nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("answer to %q is no JSON: %s", msg, got)
		}
		if !strings.Contains(string(got), `"jsonrpc":"2.0"`) || !strings.Contains(string(got), `"id":`) {
			t.Errorf("answer to %q: %s", msg, got)
		}
	})
}
