package web

import (
	"context"
	"net/http"
	"testing"
	"time"

	"edged/capture"
	"edged/internal/auth"
)

func TestSnapshot(t *testing.T) {
	shot := Snapshot{JPEG: []byte("\xff\xd8jpeg"), Captured: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Width: 640}
	var failure error
	var asked int
	d := deps(t)
	d.Snapshot = func(_ context.Context, camera string, width int) (Snapshot, error) {
		if camera != "dock" {
			t.Errorf("asked for %q", camera)
		}
		asked = width
		return shot, failure
	}
	_, base := start(t, Config{}, d)
	url := base + "/api/v1/cameras/dock/snapshot.jpg"
	bearer := "Bearer " + token(t, auth.View)
	res, body := do(t, "GET", url+"?width=320", "", "Authorization", bearer)
	if res.StatusCode != 200 || body != string(shot.JPEG) || asked != 320 {
		t.Fatalf("%d, %q, width %d", res.StatusCode, body, asked)
	}
	for key, want := range map[string]string{"Content-Type": "image/jpeg", "Cache-Control": "private, max-age=1", "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"} {
		if got := res.Header.Get(key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	tag := res.Header.Get("ETag")
	if res, body := do(t, "GET", url, "", "Authorization", bearer, "If-None-Match", tag); res.StatusCode != http.StatusNotModified || body != "" || asked != 0 {
		t.Errorf("again: %d, %q", res.StatusCode, body)
	}
	if res, body := do(t, "HEAD", url, "", "Authorization", bearer); res.StatusCode != 200 || body != "" || res.ContentLength != int64(len(shot.JPEG)) {
		t.Errorf("HEAD: %d, %q, %d", res.StatusCode, body, res.ContentLength)
	}
	shot.Captured = shot.Captured.Add(time.Microsecond)
	if res, _ := do(t, "GET", url, "", "Authorization", bearer, "If-None-Match", tag); res.StatusCode != 200 || res.Header.Get("ETag") == tag {
		t.Error("another picture has the same tag")
	}
	for _, tt := range []struct {
		url, token string
		failure    error
		status     int
	}{
		{url, "", nil, 401},
		{url, token(t, auth.Metrics), nil, 403},
		{base + "/api/v1/cameras/nowhere/snapshot.jpg", token(t, auth.View), nil, 404},
		{url + "?width=0", token(t, auth.View), nil, 400},
		{url + "?width=4097", token(t, auth.View), nil, 400},
		{url + "?width=x", token(t, auth.View), nil, 400},
		{url, token(t, auth.View), capture.Errorf(capture.CodeCodec, "no decoder for H265"), 501},
		{url, token(t, auth.View), capture.Errorf(capture.CodeStalled, "camera offline"), 503},
		{url, token(t, auth.View), capture.Errorf(capture.CodeProtocol, "no picture in it"), 503},
	} {
		failure = tt.failure
		var headers []string
		if tt.token != "" {
			headers = []string{"Authorization", "Bearer " + tt.token}
		}
		res, body := do(t, "GET", tt.url, "", headers...)
		if res.StatusCode != tt.status || res.Header.Get("Content-Type") != "application/problem+json" || (res.Header.Get("Retry-After") != "") != (tt.status == 503) {
			t.Errorf("%s, %v: %d, %s", tt.url, tt.failure, res.StatusCode, body)
		}
	}
}
