package rtsp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
)

var operation = regexp.MustCompile(`<s:Body><(\w+)`)

// onvifDevice answers as a camera does that can be asked for keyframes of two
// profiles, and tells of which it was asked.
func onvifDevice(t *testing.T, refuses *atomic.Bool) (port int, asked <-chan string) {
	t.Helper()
	profile := regexp.MustCompile(`<ProfileToken>(\w+)`)
	tell := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body := ""
		switch op := operation.FindSubmatch(b); string(op[1]) {
		case "GetSystemDateAndTime":
			body = "<GetSystemDateAndTimeResponse><SystemDateAndTime><UTCDateTime/></SystemDateAndTime></GetSystemDateAndTimeResponse>"
		case "GetCapabilities":
			body = "<GetCapabilitiesResponse><Capabilities><Media><XAddr>http://" + r.Host + "/media</XAddr></Media></Capabilities></GetCapabilitiesResponse>"
		case "GetProfiles":
			body = `<GetProfilesResponse><Profiles token="second"/><Profiles token="first"/></GetProfilesResponse>`
		case "GetStreamUri":
			path := map[string]string{"first": "/main", "second": "/sub"}[string(profile.FindSubmatch(b)[1])]
			body = "<GetStreamUriResponse><MediaUri><Uri>rtsp://192.0.2.1" + path + "</Uri></MediaUri></GetStreamUriResponse>"
		case "SetSynchronizationPoint":
			tell <- string(profile.FindSubmatch(b)[1])
			body = "<SetSynchronizationPointResponse/>"
			if refuses.Load() {
				body = "<Fault><Reason><Text>not supported</Text></Reason></Fault>"
			}
		}
		_, _ = io.WriteString(w, "<Envelope><Body>"+body+"</Body></Envelope>")
	}))
	t.Cleanup(server.Close)
	_, text, _ := net.SplitHostPort(server.Listener.Addr().String())
	port, _ = strconv.Atoi(text)
	return port, tell
}

// said is a log that is followed.
type said chan string

func (s said) Write(b []byte) (int, error) {
	s <- string(b)
	return len(b), nil
}

// await waits for a line with a text.
func (s said) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case line := <-s:
			if strings.Contains(line, secret) {
				t.Errorf("%s", line)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-limit:
			t.Fatalf("not said: %s", text)
		}
	}
}

// What is asked for before it is known whether the camera can be asked is asked
// then, each layer by its own profile; after a refusal nothing more is.
func TestKeyframeOnDemand(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	said := make(said, 100)
	var refuses atomic.Bool
	port, asked := onvifDevice(t, &refuses)
	at := serve(t, well(film(testSPS, nil)))
	s, err := New(capture.Config{Source: "rtsp://" + at + "/main#transport=tcp", Sub: "rtsp://" + at + "/sub#transport=tcp",
		Username: "u", Password: secret}, slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.asking.ports = []int{port}
	s.Keyframe(0)
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-asked:
			if got != want {
				t.Errorf("asked for %s, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not asked")
		}
	}
	play := func(during func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, newRecord()) }()
		during()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	play(func() {
		expect("first")
		s.Keyframe(1)
		expect("second")
		for range 1000 { // never blocks
			s.Keyframe(7) // no such layer
		}
	})
	refuses.Store(true)
	s.asking.wanted = make(chan int, 1)
	s.Keyframe(0)
	play(func() { // known from the run before
		expect("first")
		said.await(t, "no keyframes on demand")
	})
	sink := newRecord()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, sink) }()
	s.Keyframe(0)
	<-sink.got
	cancel()
	<-ended
	select {
	case got := <-asked:
		t.Errorf("asked for %s after a refusal", got)
	default:
	}
}
