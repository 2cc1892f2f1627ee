package signaling

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/forward"
	"edged/internal/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var boxKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// token makes a token of the box's key for an hour; edit may change it.
func token(t testing.TB, edit func(*auth.Claims)) string {
	t.Helper()
	c := auth.Claims{Subject: "ann", Cameras: []string{"*"}, May: []auth.Right{auth.View}, Expires: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(&c)
	}
	s, err := auth.Sign(boxKey, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cameraSet is a Cameras that tests change at will.
type cameraSet struct {
	mu       sync.Mutex
	order    []string
	states   map[string]capture.State
	streams  map[string]*forward.Stream
	watchers map[int]func()
	next     int
}

func (c *cameraSet) IDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.order)
}

func (c *cameraSet) Camera(id string) (capture.State, *forward.Stream, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, ok := c.states[id]
	return st, c.streams[id], ok
}

func (c *cameraSet) Subscribe(changed func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	n := c.next
	c.watchers[n] = changed
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, n)
	}
}

// change edits one camera's state and tells the watchers; an empty phase
// removes the camera.
func (c *cameraSet) change(id string, edit func(*capture.State)) {
	c.mu.Lock()
	st := c.states[id]
	st.ID = id
	edit(&st)
	if !slices.Contains(c.order, id) {
		c.order = append(c.order, id)
	}
	c.states[id] = st
	if st.Phase == "" {
		delete(c.states, id)
		c.order = slices.DeleteFunc(c.order, func(s string) bool { return s == id })
	}
	watchers := make([]func(), 0, len(c.watchers))
	for _, w := range c.watchers {
		watchers = append(watchers, w)
	}
	c.mu.Unlock()
	for _, w := range watchers {
		w()
	}
}

// fakeViewer remembers what it was told.
type fakeViewer struct {
	id   string
	fail error // of AddCandidate and Restart

	mu         sync.Mutex
	candidates []string
	restarts   []string
	reason     string
	done       chan struct{}
}

func (v *fakeViewer) ID() string { return v.id }

func (v *fakeViewer) AddCandidate(candidate, _ string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.candidates = append(v.candidates, candidate)
	return v.fail
}

func (v *fakeViewer) Restart(_ context.Context, offer string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.restarts = append(v.restarts, offer)
	return "v=0\r\nm=video 9 X 0\r\na=mid:0\r\na=ice-ufrag:boxnew\r\na=ice-pwd:boxnewboxnewboxnewboxnew\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\na=end-of-candidates\r\n", v.fail
}

func (v *fakeViewer) SetQuality(forward.Quality) {}

func (v *fakeViewer) Close(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reason == "" {
		v.reason = reason
		close(v.done)
	}
}

func (v *fakeViewer) Done() <-chan struct{} { return v.done }

func (v *fakeViewer) Reason() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reason
}

func (v *fakeViewer) told() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.candidates)
}

// rig is a Server with fake cameras, and fake viewers unless an SFU joins.
type rig struct {
	*Server
	cameras *cameraSet
	http    *httptest.Server
	stop    func() // the handlers, and waits for them

	mu      sync.Mutex
	viewers []*fakeViewer
	refuse  error // of the next joins
}

func (r *rig) join(_ context.Context, _ *forward.Stream, o forward.ViewerOptions) (Viewer, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, "", r.refuse
	}
	v := &fakeViewer{id: newID(), done: make(chan struct{})}
	r.viewers = append(r.viewers, v)
	return v, "v=0\r\nanswer to " + o.Subject + "\r\n", nil
}

// publish takes a publisher for dock alone.
func (r *rig) publish(_ context.Context, camera string, o forward.PublisherOptions) (Peer, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, "", r.refuse
	}
	if camera != "dock" {
		return nil, "", forward.ErrNoIngest
	}
	p := &fakeViewer{id: newID(), done: make(chan struct{})}
	r.viewers = append(r.viewers, p)
	return p, "v=0\r\nanswer to " + o.Subject + "\r\n", nil
}

func (r *rig) viewer(i int) *fakeViewer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.viewers[i]
}

func (r *rig) refuseWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = err
}

// newRig has two cameras, dock (live) and gate (offline for long).
func newRig(t testing.TB, sfu *forward.SFU) *rig {
	t.Helper()
	r := &rig{cameras: &cameraSet{states: map[string]capture.State{}, streams: map[string]*forward.Stream{}, watchers: map[int]func(){}}}
	join := r.join
	if sfu == nil {
		var err error
		if sfu, err = forward.New(forward.Config{UDP: "127.0.0.1:0", MaxViewers: 9}, certificate(t), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	} else {
		join = JoinSFU(sfu)
	}
	for _, id := range []string{"dock", "gate"} {
		r.cameras.streams[id] = sfu.AddStream(id, func(int) {})
	}
	r.cameras.change("dock", func(st *capture.State) { st.Phase, st.Kind, st.LastFrame = capture.Live, "pattern", time.Now() })
	r.cameras.change("gate", func(st *capture.State) {
		st.Phase, st.Code, st.Reason = capture.Offline, capture.CodeRefused, "connection refused"
	})
	s, err := New(Options{
		Cameras: r.cameras, Join: join, Publish: r.publish, Box: BoxInfo{Name: "box", ID: "id", Version: "test"},
		Gate: auth.NewGate(auth.NewVerifier(boxKey.Public().(ed25519.PublicKey), nil), false),
		ICE: func(subject, host string) []forward.ICEServer {
			return []forward.ICEServer{{URLs: []string{"stun:" + host + ":3478"}}, {URLs: []string{"turn:" + host + ":3478?transport=udp"}, Username: "1:" + subject, Credential: `p"w`}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	return r
}

// serve serves the rig's handlers as the web server would.
func (r *rig) serve(t testing.TB) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rpc", func(w http.ResponseWriter, q *http.Request) { r.RPC(w, q, []string{"https://friend.example"}) })
	mux.HandleFunc("POST /api/v1/signal", r.Signal)
	mux.HandleFunc("POST /whep/{camera}", func(w http.ResponseWriter, q *http.Request) { r.WHEP(w, q, q.PathValue("camera")) })
	mux.HandleFunc("PATCH /whep/{camera}/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.WHEPPatch(w, q, q.PathValue("camera"), q.PathValue("id"))
	})
	mux.HandleFunc("DELETE /whep/{camera}/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.WHEPDelete(w, q, q.PathValue("camera"), q.PathValue("id"))
	})
	mux.HandleFunc("POST /whip/{camera}", func(w http.ResponseWriter, q *http.Request) { r.WHIP(w, q, q.PathValue("camera")) })
	mux.HandleFunc("PATCH /whip/{camera}/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.WHIPPatch(w, q, q.PathValue("camera"), q.PathValue("id"))
	})
	mux.HandleFunc("DELETE /whip/{camera}/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.WHIPDelete(w, q, q.PathValue("camera"), q.PathValue("id"))
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup // of handlers: a hijacked one outlives httptest's Close
	r.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		wg.Add(1)
		defer wg.Done()
		both, stop := context.WithCancel(q.Context())
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		mux.ServeHTTP(w, q.WithContext(both))
	}))
	r.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(func() {
		r.stop()
		r.http.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return r.http.URL
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// liveRig has a real SFU, whose camera dock plays a recording.
func liveRig(t testing.TB) *rig {
	t.Helper()
	sfu, err := forward.New(forward.Config{UDP: "127.0.0.1:0", MaxViewers: 8}, certificate(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	source, err := capturetest.New(capturetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, sfu)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- sfu.Run(ctx) }()
	<-sfu.Ready()
	go func() { ended <- source.Run(ctx, r.cameras.streams["dock"]) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	eventually(t, "the stream is described", func() bool {
		_, _, err := sfu.Join(ctx, r.cameras.streams["dock"], forward.ViewerOptions{Offer: "v=0\r\n"})
		return err != nil && failureOf(err).kind == badOffer
	})
	return r
}

// eventually polls until ok, for at most 10 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
