package rtsp

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/bluenviron/gortsplib/v5"

	"edged/capture"
)

func TestAddress(t *testing.T) {
	for in, want := range map[string]struct {
		sent, shown, protocol string
	}{
		"rtsp://cam/main": {"rtsp://cam/main", "rtsp://cam/main", ""},
		"rtsp://u:p%40w@cam:8554/a?b=c#transport=tcp": {"rtsp://u:p%40w@cam:8554/a?b=c", "rtsp://cam:8554/a?b=c", "TCP"},
		"rtsp://[fe80::1]/a#transport=udp":            {"rtsp://[fe80::1]/a", "rtsp://[fe80::1]/a", "UDP"},
		"rtsps://cam/a#transport=auto":                {"rtsps://cam/a", "rtsps://cam/a", ""},
		"rtsp://cam/user=admin&password=hush&channel=1.sdp?token=hush": {
			"rtsp://cam/user=admin&password=hush&channel=1.sdp?token=hush",
			"rtsp://cam/user=admin&password=***&channel=1.sdp?token=***", ""},
	} {
		a, err := parseAddress(capture.Config{Source: in})
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		protocol := ""
		if a.protocol != nil {
			protocol = map[gortsplib.Protocol]string{gortsplib.ProtocolTCP: "TCP", gortsplib.ProtocolUDP: "UDP"}[*a.protocol]
		}
		if a.url.String() != want.sent || a.shown != want.shown || protocol != want.protocol {
			t.Errorf("%s: %q %q %q, want %q", in, a.url, a.shown, protocol, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"rtsp://u:hush pa%ss@cam/":   "%XX",
		"rtsp://u:hu/sh@cam/":        "%XX",
		"http://u:hush@cam/":         `scheme "http"`,
		"rtsp:///main":               "no host",
		"rtsp://cam/a#transport=tls": "#transport=udp",
	} {
		_, err := New(capture.Config{Source: in}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hu/") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func TestConfigWinsOverURL(t *testing.T) {
	a, err := parseAddress(capture.Config{Source: "rtsp://old:pass@cam/", Username: "new", Password: "p:w"})
	if err != nil {
		t.Fatal(err)
	}
	if pass, _ := a.url.User.Password(); a.url.User.Username() != "new" || pass != "p:w" {
		t.Errorf("%s", a.url)
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("rtsp://u:hush@cam:554/a?password=hush#transport=tcp")
	f.Add("rtsp://cam/user=admin&password=hush&x=1")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := parseAddress(capture.Config{Source: in})
		if err != nil {
			return
		}
		if pass, ok := a.url.User.Password(); ok && len(pass) > 8 && !strings.Contains(a.url.Host+a.url.Path+a.url.RawQuery, pass) && strings.Contains(a.shown, pass) {
			t.Errorf("%q shows the password", a.shown)
		}
	})
}
