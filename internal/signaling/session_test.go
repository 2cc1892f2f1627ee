package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
	"edged/internal/auth"
)

var zeroRequest http.Request

// talk is a running session and its client.
type talk struct {
	t     *testing.T
	in    chan []byte
	out   chan string
	ended chan error
	stop  context.CancelFunc
}

func (r *rig) talk(t *testing.T, queue int) *talk {
	k := &talk{t: t, in: make(chan []byte), out: make(chan string, queue), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	s := r.NewSession(SessionOptions{Send: func(m []byte) bool {
		select {
		case k.out <- string(m):
			return true
		default:
			return false
		}
	}})
	go func() { k.ended <- s.Run(ctx, k.in) }()
	t.Cleanup(cancel)
	return k
}

func (k *talk) ask(method, params string) string {
	k.t.Helper()
	k.in <- []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`)
	return <-k.out
}

// next is the next notification's method and params.
func (k *talk) next() (string, map[string]any) {
	k.t.Helper()
	var n struct {
		Method string
		Params map[string]any
	}
	if err := json.Unmarshal([]byte(<-k.out), &n); err != nil {
		k.t.Fatal(err)
	}
	return n.Method, n.Params
}

func TestSessionWithoutHelloEnds(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		k := r.talk(t, 8)
		began := time.Now()
		k.ask("ping", "{}")
		if err := <-k.ended; !errors.Is(err, error(endHello)) || time.Since(began) != helloWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestSessionExpiresWithItsToken(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		short := token(t, func(c *auth.Claims) { c.Expires = began.Add(10 * time.Minute) })
		k := r.talk(t, 8)
		k.ask("session.hello", `{"token":"`+short+`"}`)
		k.ask("view.open", `{"camera":"dock","sdp":"x"}`)
		method, params := k.next()
		if method != "session.expiring" || time.Since(began) != 9*time.Minute || params["in"] != 60.0 {
			t.Errorf("%s %v after %v", method, params, time.Since(began))
		}
		long := token(t, func(c *auth.Claims) { c.Expires = began.Add(20 * time.Minute) })
		k.ask("session.hello", `{"token":"`+long+`"}`) // renewed
		if method, _ := k.next(); method != "session.expiring" || time.Since(began) != 19*time.Minute {
			t.Errorf("%s after %v", method, time.Since(began))
		}
		if v := r.viewer(0); v.Reason() != "" {
			t.Errorf("the view ended: %s", v.Reason())
		}
		if err := <-k.ended; !errors.Is(err, error(endExpired)) || time.Since(began) != 20*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if r.viewer(0).Reason() == "" {
			t.Error("the view outlived its session")
		}
	})
}

func TestCameraChangesAreToldInOrder(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		k := r.talk(t, 64)
		r.cameras.change("dock", func(st *capture.State) { st.Encoder = "a" }) // before hello: nobody is told
		k.ask("session.hello", `{"token":"`+token(t, func(c *auth.Claims) { c.Cameras = []string{"dock", "yard"} })+`"}`)
		expect := func(version float64, id string, removed bool) map[string]any {
			t.Helper()
			method, p := k.next()
			cam, _ := p["camera"].(map[string]any)
			if method != "camera.changed" || p["state_version"] != version || cam["id"] != id || (p["removed"] == true) != removed {
				t.Fatalf("%s %v", method, p)
			}
			return cam
		}
		r.cameras.change("dock", func(st *capture.State) {
			st.Phase, st.Code, st.Reason = capture.Stalled, capture.CodeStalled, "no frame for 5 s"
		})
		if cam := expect(1, "dock", false); cam["state"] != "stalled" || cam["last_error"].(map[string]any)["code"] != "stalled" {
			t.Errorf("%v", cam)
		}
		r.cameras.change("gate", func(st *capture.State) { st.Phase = capture.Live }) // not for these eyes
		r.cameras.change("dock", func(st *capture.State) { st.Keyframes++; st.LastFrame = time.Now() })
		r.cameras.change("yard", func(st *capture.State) { st.Phase = capture.Starting })
		expect(2, "yard", false)
		r.cameras.change("yard", func(st *capture.State) { st.Phase = "" })
		expect(3, "yard", true)
		if got := k.ask("state.get", `{"since":1}`); !strings.Contains(got, `"state_version":3`) || strings.Contains(got, "gate") {
			t.Error(got)
		}
		synctest.Wait()
		select {
		case m := <-k.out:
			t.Errorf("one more: %s", m)
		default:
		}
		k.stop()
		if err := <-k.ended; !errors.Is(err, error(endStop)) {
			t.Error(err)
		}
		if len(r.cameras.watchers) != 0 {
			t.Error("the session still watches")
		}
	})
}

func TestViewThatEndsByItselfIsTold(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		k := r.talk(t, 8)
		k.ask("session.hello", `{"token":"`+token(t, nil)+`"}`)
		k.ask("view.open", `{"camera":"dock","sdp":"x"}`)
		r.viewer(0).Close("camera removed")
		method, p := k.next()
		if method != "view.closed" || p["reason"] != "camera removed" || p["view"] != r.viewer(0).id {
			t.Errorf("%s %v", method, p)
		}
		k.ask("view.open", `{"camera":"dock","sdp":"x"}`)
		close(k.in) // the client leaves
		if err := <-k.ended; err != nil {
			t.Error(err)
		}
		if r.viewer(1).Reason() != "session ended" {
			t.Errorf("reason %q", r.viewer(1).Reason())
		}
	})
}

func TestSlowClientIsCut(t *testing.T) {
	r := newRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		k := r.talk(t, 1)
		k.in <- []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		k.in <- []byte(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
		if err := <-k.ended; !errors.Is(err, error(endSlow)) {
			t.Error(err)
		}
	})
}

func TestSessionHasSoManyViews(t *testing.T) {
	r := newRig(t, nil)
	k := r.talk(t, 8)
	defer func() { k.stop(); <-k.ended }()
	k.ask("session.hello", `{"token":"`+token(t, nil)+`"}`)
	for range maxViews {
		if got := k.ask("view.open", `{"camera":"dock","sdp":"x"}`); !strings.Contains(got, "result") {
			t.Fatal(got)
		}
	}
	if got := k.ask("view.open", `{"camera":"dock","sdp":"x"}`); !strings.Contains(got, "-32006") {
		t.Error(got)
	}
}

func TestDescribe(t *testing.T) {
	st := capture.State{
		ID: "dock", Phase: capture.Live, Tracks: []capture.Track{
			{Kind: capture.Audio, Codec: capture.Opus},
			{Kind: capture.Video, Layer: 1, Codec: capture.H264, Width: 320, Height: 180},
			{Kind: capture.Video, Layer: 0, Codec: capture.H264, Width: 1280, Height: 720},
		},
		FPS: []float64{50, 10, 30}, Bitrate: []float64{1, 2, 4}, Frames: []uint64{7}, // shorter: no figures yet
		Unwanted: []bool{false, true, false},
		Faults:   []capture.LayerFault{{Layer: 2, Code: capture.CodeRefused, Reason: "no"}},
		Sound:    capture.SoundFault{Code: capture.CodeCodec, Reason: "AAC"},
	}
	c := Describe(st, nil)
	if c.Codec != capture.H264 || c.Width != 1280 || c.FPS != 30 || c.Bitrate != 7 || len(c.Layers) != 2 || c.Audio == nil || c.Audio.Frames != 7 || c.LastError != nil || c.LastFrame != nil {
		t.Errorf("%+v", c)
	}
	if !c.Layers[0].Spared || c.Layers[1].Spared || len(c.Faults) != 1 || c.Faults[0] != (LayerError{2, capture.CodeRefused, "no"}) {
		t.Errorf("layers %+v, faults %+v", c.Layers, c.Faults)
	}
	if c.NoAudio == nil || *c.NoAudio != (CameraError{capture.CodeCodec, "AAC"}) {
		t.Errorf("no sound because %+v", c.NoAudio)
	}
	same, other, healed := st, st, st
	same.Unwanted, healed.Faults = nil, nil
	same.FPS, same.Bitrate, same.Frames, same.Keyframes, same.LastFrame = []float64{49, 9, 29}, nil, nil, 5, time.Now()
	other.Tracks = append([]capture.Track(nil), st.Tracks...)
	other.Tracks[2].Width = 1920
	if !sameState(c, Describe(same, nil)) {
		t.Error("moving figures are taken for news")
	}
	if sameState(c, Describe(other, nil)) {
		t.Error("another size is no news")
	}
	if sameState(c, Describe(healed, nil)) {
		t.Error("the end of a layer's trouble is no news")
	}
	if c.Layers[0].FPS == 0 {
		t.Error("comparing changed the camera")
	}
}
