package signaling

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"edged/capture"
)

// dial opens the rig's WebSocket.
func dial(t testing.TB, url string, header ...string) *websocket.Conn {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	c, res, err := websocket.Dial(t.Context(), url+"/rpc", &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func write(t testing.TB, c *websocket.Conn, msg string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(msg)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, c *websocket.Conn) string {
	t.Helper()
	_, msg, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

// closeCode reads until the socket is closed, and tells the code.
func closeCode(t testing.TB, c *websocket.Conn) websocket.StatusCode {
	t.Helper()
	for {
		if _, _, err := c.Read(t.Context()); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestWebSocketSession(t *testing.T) {
	r := newRig(t, nil)
	c := dial(t, r.serve(t))
	write(t, c, `{"jsonrpc":"2.0","id":1,"method":"session.hello","params":{"token":"`+token(t, nil)+`","version":1}}`)
	if got := read(t, c); !strings.Contains(got, `"state_version":0`) {
		t.Fatal(got)
	}
	write(t, c, `[{"jsonrpc":"2.0","id":2,"method":"view.open","params":{"camera":"dock","sdp":"x"}},{"jsonrpc":"2.0","id":3,"method":"ping"}]`)
	if got := read(t, c); !strings.Contains(got, "answer to ann") || !strings.Contains(got, `"id":3`) {
		t.Fatal(got)
	}
	r.cameras.change("dock", func(st *capture.State) { st.Phase = capture.Stalled })
	if got := read(t, c); !strings.Contains(got, "camera.changed") {
		t.Fatal(got)
	}
	if n := r.Stats().Active["websocket"]; n != 1 {
		t.Errorf("%d active", n)
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte(`{"jsonrpc":"2.0","id":4,"method":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); !strings.Contains(got, "-32700") {
		t.Errorf("binary message: %s", got)
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	<-r.viewer(0).Done()
	eventually(t, "the session is counted out", func() bool { return r.Stats().Active["websocket"] == 0 })
}

func TestWebSocketCloses(t *testing.T) {
	t.Run("without hello", func(t *testing.T) {
		r := newRig(t, nil)
		r.helloWait = 30 * time.Millisecond
		if code := closeCode(t, dial(t, r.serve(t))); code != 4408 {
			t.Errorf("code %d", code)
		}
	})
	t.Run("message too big", func(t *testing.T) {
		r := newRig(t, nil)
		c := dial(t, r.serve(t))
		write(t, c, `"`+strings.Repeat("x", maxMessage)+`"`)
		if code := closeCode(t, c); code != websocket.StatusMessageTooBig {
			t.Errorf("code %d", code)
		}
	})
	t.Run("largest message is taken", func(t *testing.T) {
		r := newRig(t, nil)
		c := dial(t, r.serve(t))
		msg := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
		write(t, c, msg+strings.Repeat(" ", maxMessage-len(msg)))
		if got := read(t, c); !strings.Contains(got, "result") {
			t.Error(got)
		}
	})
	t.Run("two pings missed", func(t *testing.T) {
		r := newRig(t, nil)
		r.heartbeat = 20 * time.Millisecond
		dial(t, r.serve(t)) // a client answers pings while it reads only
		eventually(t, "the silent client is cut", func() bool { return r.Stats().Active["websocket"] == 0 })
	})
	t.Run("the box stops", func(t *testing.T) {
		r := newRig(t, nil)
		c := dial(t, r.serve(t))
		write(t, c, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		read(t, c)
		stopped := make(chan struct{})
		go func() { defer close(stopped); r.stop() }()
		code := closeCode(t, c)
		<-stopped
		if code != websocket.StatusGoingAway {
			t.Errorf("code %d", code)
		}
	})
}

// TestWebSocketSlowReader floods a client that reads nothing: the box cuts it
// off, and the flood is never held up by it.
func TestWebSocketSlowReader(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	c := dial(t, url)
	write(t, c, `{"jsonrpc":"2.0","id":1,"method":"session.hello","params":{"token":"`+token(t, nil)+`"}}`)
	eventually(t, "hello is taken", func() bool { return r.Stats().Messages["session.hello\x00ok"] == 1 })
	big := strings.Repeat("x", 20000)
	i := 0
	eventually(t, "the slow client is cut", func() bool {
		for range 200 {
			i++
			r.cameras.change("dock", func(st *capture.State) { st.Reason, st.Code = fmt.Sprint(i, big), capture.CodeStalled })
		}
		return r.Stats().Active["websocket"] == 0
	})
}

func TestWebSocketRefusals(t *testing.T) {
	r := newRig(t, nil)
	url := r.serve(t)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	if res, body := do(t, "GET", url+"/rpc", ""); res.StatusCode != 426 || !strings.Contains(body, "/api/v1/signal") {
		t.Errorf("plain GET: %s %s", res.Status, body)
	}
	if res, _ := do(t, "GET", url+"/rpc", "", append(upgrade, "Origin", "https://evil.example")...); res.StatusCode != 403 {
		t.Errorf("foreign origin: %s", res.Status)
	}
	for _, origin := range []string{url, "https://friend.example", "HTTPS://FRIEND.example"} {
		_ = dial(t, url, "Origin", origin).CloseNow()
	}
	r.Server.mu.Lock()
	r.sessions += maxSessions
	r.Server.mu.Unlock()
	if res, _ := do(t, "GET", url+"/rpc", "", upgrade...); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("too many: %s", res.Status)
	}
	r.enter(-maxSessions)
}

func TestOriginAllowed(t *testing.T) {
	for _, tt := range []struct {
		origin, host, origins string
		want                  bool
	}{
		{"", "box:8080", "", true},
		{"http://box:8080", "box:8080", "", true},
		{"https://BOX:8080", "box:8080", "", true},
		{"http://box", "box:8080", "", false},
		{"http://evil", "box:8080", "", false},
		{"http://evil/box:8080", "box:8080", "", false},
		{"null", "box:8080", "", false},
		{"null", "box:8080", "*", true},
		{"https://a.example", "box", "https://b.example https://a.example/", true},
		{"http://a.example", "box", "https://a.example", false},
		{"https://a.example.evil", "box", "https://a.example", false},
	} {
		q, _ := http.NewRequest("GET", "http://"+tt.host+"/rpc", nil)
		if tt.origin != "" {
			q.Header.Set("Origin", tt.origin)
		}
		if got := OriginAllowed(q, strings.Fields(tt.origins)); got != tt.want {
			t.Errorf("%q at %q with %q: %v", tt.origin, tt.host, tt.origins, got)
		}
	}
}

func TestHostAndRemote(t *testing.T) {
	for host, want := range map[string]string{"box:80": "box", "box": "box", "[::1]:80": "::1", "[::1]": "::1", "10.0.0.1": "10.0.0.1"} {
		if got := Host(&http.Request{Host: host}); got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
	if a := RemoteAddr(&http.Request{RemoteAddr: "[::ffff:10.0.0.1]:5"}); a.String() != "10.0.0.1" {
		t.Error(a)
	}
	if a := RemoteAddr(&http.Request{RemoteAddr: "pipe"}); a.IsValid() {
		t.Error(a)
	}
	if _, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(Host(&http.Request{Host: "[::1]:80"}), "80")); err != nil {
		t.Error(err)
	}
}
