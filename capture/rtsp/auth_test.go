package rtsp

import (
	"encoding/base64"
	"strings"
	"testing"

	"edged/capture"
)

// Basic credentials go out only when the camera asks for them.
func TestBasicAuthentication(t *testing.T) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+secret))
	early := make(chan string, 8)
	at := serve(t, func(p *peer) {
		asked := false
		for {
			line, err := p.r.ReadLine()
			if err != nil {
				return
			}
			h, err := p.r.ReadMIMEHeader()
			if err != nil {
				return
			}
			sent := h.Get("Authorization")
			switch {
			case strings.HasPrefix(line, "OPTIONS"):
				p.answer("200 OK", h.Get("CSeq"))
			case !asked:
				early <- sent
				asked = true
				p.answer("401 Unauthorized", h.Get("CSeq"), `WWW-Authenticate: Basic realm="camera"`)
			case sent != want:
				p.answer("401 Unauthorized", h.Get("CSeq"), `WWW-Authenticate: Basic realm="camera"`)
			default:
				p.answer("404 Not Found", h.Get("CSeq"))
			}
		}
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
