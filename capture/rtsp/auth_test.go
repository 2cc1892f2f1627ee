package rtsp

import (
	"encoding/base64"
	"testing"

	"edged/capture"
)

// Basic credentials go out only when the camera asks for them.
func TestBasicAuthentication(t *testing.T) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+secret))
	early := make(chan string, 8)
	at := serve(t, func(p *peer) {
		challenged := false
		camera{on: map[string]func(*peer, asked) bool{"DESCRIBE": func(p *peer, r asked) bool {
			sent := r.header.Get("Authorization")
			if !challenged {
				early <- sent
			}
			if !challenged || sent != want {
				challenged = true
				return says("401 Unauthorized", `WWW-Authenticate: Basic realm="camera"`)(p, r)
			}
			return says("404 Not Found")(p, r)
		}}}.play(p)
	})
	if err := run(t, source(t, "rtsp://admin:"+secret+"@"+at+"/"), newRecord()); capture.CodeOf(err) != capture.CodeNotFound {
		t.Errorf("right password: %v", err)
	}
	if err := run(t, source(t, "rtsp://admin:wrong@"+at+"/"), newRecord()); capture.CodeOf(err) != capture.CodeUnauthorized {
		t.Errorf("wrong password: %v", err)
	}
	for range 2 {
		if sent := <-early; sent != "" {
			t.Errorf("sent %q before it was asked", sent)
		}
	}
}
