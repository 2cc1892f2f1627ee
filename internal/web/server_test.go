package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"edged/capture"
	"edged/forward"
	"edged/internal/auth"
	"edged/internal/signaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var boxKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// token makes a token for all cameras.
func token(t testing.TB, may ...auth.Right) string {
	t.Helper()
	s, err := auth.Sign(boxKey, auth.Claims{Subject: "ann", Cameras: []string{"*"}, May: may, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// oneCamera is a Cameras with one camera, dock.
type oneCamera struct{ stream *forward.Stream }

func (oneCamera) IDs() []string { return []string{"dock"} }

func (c oneCamera) Camera(id string) (capture.State, *forward.Stream, bool) {
	return capture.State{ID: "dock", Kind: "pattern", Phase: capture.Live, LastFrame: time.Now()}, c.stream, id == "dock"
}

func (oneCamera) Subscribe(func()) (cancel func()) { return func() {} }

// store is a ConfigStore; a document that says "bad" is faulty.
type store struct{ doc []byte }

type faulty []Fault

func (faulty) Error() string     { return "faulty" }
func (f faulty) Faults() []Fault { return f }

func (s *store) Document() []byte { return s.doc }

func (s *store) Put(_ context.Context, doc []byte) ([]string, error) {
	switch string(doc) {
	case "bad":
		return nil, faulty{{"/cameras/2/fps", "0 is not in 1..60"}}
	case "broken":
		return nil, errors.New("disk full")
	}
	s.doc = doc
	return []string{"http.listen"}, nil
}

// deps are a box's, with a camera but no media.
func deps(t testing.TB) Deps {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sfu, err := forward.New(forward.Config{MaxViewers: 1}, tls.Certificate{Certificate: [][]byte{{0}}, PrivateKey: key}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signaling.New(signaling.Options{
		Cameras: oneCamera{sfu.AddStream("dock", func(int) {})}, Join: signaling.JoinSFU(sfu),
		Gate: auth.NewGate(auth.NewVerifier(boxKey.Public().(ed25519.PublicKey), nil), false),
		ICE: func(subject, host string) []forward.ICEServer {
			return []forward.ICEServer{{URLs: []string{"turn:" + host}, Username: subject, Credential: "c"}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Deps{
		Signaling: sig, Key: key,
		Page: fstest.MapFS{"index.html": {Data: []byte("<!doctype html><title>box</title>")}, "js/app.js": {Data: []byte("1")}, "style.css": {Data: []byte("a{}")}},
		Box: func() Box {
			return Box{Name: "gate-7", ID: "abc", Version: "1", Started: time.Now().Add(-time.Minute), Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: Ports{UDP: 8189}}
		},
		Health:   func() []Health { return []Health{{"storage", true, ""}, {"uplink", true, "connected"}} },
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "edged_build_info 1\n") }),
		Config:   &store{doc: []byte("name: gate-7\n")},
		Stats:    func(since time.Time) any { return map[string]any{"since": since.UTC()} },
		Topology: func() any { return map[string]any{"cameras": []string{"dock"}} },
	}
}

// start runs a server for the length of the test and gives its base URL.
func start(t testing.TB, cfg Config, d Deps) (s *Server, base string) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := New(cfg, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr().String()
}

// do sends a request; headers are key, value pairs.
func do(t testing.TB, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return with(t, http.DefaultClient, method, url, body, headers...)
}

func with(t testing.TB, c *http.Client, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestRefusalsAreThrottled(t *testing.T) {
	_, base := start(t, Config{}, deps(t))
	var last *http.Response
	for range 30 {
		last, _ = do(t, "GET", base+"/api/v1/cameras", "", "Authorization", "Bearer x")
	}
	if last.StatusCode != 429 || last.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", last.Status, last.Header.Get("Retry-After"))
	}
	if res, _ := do(t, "GET", base+"/api/v1/cameras", "", "Authorization", "Bearer "+token(t, auth.View)); res.StatusCode != 200 {
		t.Errorf("a good token: %s", res.Status)
	}
}

func TestPortInUseNamesWhoNeedsItAndWhoHasIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Listen: l.Addr().String()}, deps(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, want := range []string{"http.listen", "port " + port + " is in use", "web.test (pid "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: lacks %q", err, want)
		}
	}
	s, err = New(Config{Listen: "192.0.2.1:0"}, deps(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "http.listen") {
		t.Errorf("an address of somebody else: %v", err)
	}
}

func TestListeners(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4343 1 0 100 0 0 10 0\n" +
		"   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4444 1 0 100 0 0 10 0\n" +
		"garbage\n"
	if got := listeners(table, 8080); len(got) != 1 || got[0] != "4242" {
		t.Errorf("%v", got)
	}
	if got := portHolder("http"); got != "" {
		t.Error(got)
	}
}

func TestNewRefuses(t *testing.T) {
	good := deps(t)
	noPage, noIndex, noKey := good, good, good
	noPage.Page, noKey.Key = nil, nil
	noIndex.Page = fstest.MapFS{"a.html": {Data: []byte("x")}}
	for name, f := range map[string]func() (*Server, error){
		"no page":              func() (*Server, error) { return New(Config{}, noPage, nil) },
		"no index.html":        func() (*Server, error) { return New(Config{}, noIndex, nil) },
		"cert without key":     func() (*Server, error) { return New(Config{CertFile: "x"}, good, nil) },
		"self-signed, no key":  func() (*Server, error) { return New(Config{SelfSigned: true}, noKey, nil) },
		"require TLS, no key":  func() (*Server, error) { return New(Config{RequireTLS: true}, noKey, nil) },
		"nothing to depend on": func() (*Server, error) { return New(Config{}, Deps{}, nil) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// trusting is a client that trusts one certificate, for HTTP/1.1 and 2.
func trusting(t *testing.T, cert *x509.Certificate, h2 bool) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: h2}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// served is the certificate that a server shows.
func served(t *testing.T, addr string) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

func TestSelfSignedTLSBesidePlainHTTP(t *testing.T) {
	d := deps(t)
	s, base := start(t, Config{SelfSigned: true}, d)
	cert := served(t, s.Addr().String())
	if !d.Key.Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
		t.Error("not the box's own key")
	}
	for _, h2 := range []bool{false, true} {
		res, body := with(t, trusting(t, cert, h2), "GET", "https://"+s.Addr().String()+"/healthz", "")
		if res.StatusCode != 200 || (res.ProtoMajor == 2) != h2 {
			t.Errorf("%s %s %s", res.Proto, res.Status, body)
		}
	}
	if res, _ := do(t, "GET", base+"/healthz", ""); res.StatusCode != 200 {
		t.Errorf("plain on the same port: %s", res.Status)
	}
	silent, err := net.Dial("tcp", s.Addr().String()) // says nothing, and must not delay the end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
}

func TestRequireTLS(t *testing.T) {
	s, base := start(t, Config{RequireTLS: true}, deps(t))
	res, body := do(t, "GET", base+"/api/v1/cameras", "")
	if res.StatusCode != 426 || !strings.Contains(res.Header.Get("Upgrade"), "TLS") || !strings.Contains(body, "https://") {
		t.Errorf("%s %v %s", res.Status, res.Header, body)
	}
	c := trusting(t, served(t, s.Addr().String()), true)
	if res, body := with(t, c, "GET", "https://"+s.Addr().String()+"/api/v1/cameras", "", "Authorization", "Bearer "+token(t, auth.View)); res.StatusCode != 200 {
		t.Errorf("over TLS: %s %s", res.Status, body)
	}
}

func TestCertificateFiles(t *testing.T) {
	d := deps(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	made := &Server{deps: d}
	c, err := made.certificate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(d.Key)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := start(t, Config{CertFile: cert, KeyFile: key}, d)
	if !bytes.Equal(served(t, s.Addr().String()).Raw, c.Certificate[0]) {
		t.Error("another certificate than the file's")
	}
	missing, err := New(Config{CertFile: cert + "x", KeyFile: key, Listen: "127.0.0.1:0"}, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := missing.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "http.tls") {
		t.Errorf("no such file: %v", err)
	}
}

// TestRunEndsRequestsUnderWay has a configuration under way when the box
// stops: its context ends and it is still answered.
func TestRunEndsRequestsUnderWay(t *testing.T) {
	d := deps(t)
	begun := make(chan struct{})
	d.Config = putFunc(func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	s, err := New(Config{Listen: "127.0.0.1:0"}, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	status := make(chan int, 1)
	go func() {
		res, _ := do(t, "PUT", "http://"+s.Addr().String()+"/api/v1/config", "x", "Content-Type", "application/yaml", "Authorization", "Bearer "+token(t, auth.Admin))
		status <- res.StatusCode
	}()
	<-begun
	cancel()
	if got := <-status; got != 500 {
		t.Errorf("status %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

type putFunc func(ctx context.Context) error

func (putFunc) Document() []byte { return nil }

func (f putFunc) Put(ctx context.Context, _ []byte) ([]string, error) { return nil, f(ctx) }

// TestRunEndsWebSockets: http.Server does not wait for them, Run does.
func TestRunEndsWebSockets(t *testing.T) {
	d := deps(t)
	s, err := New(Config{Listen: "127.0.0.1:0"}, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.Addr().String()+"/rpc", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if _, msg, err := c.Read(t.Context()); err != nil || !strings.Contains(string(msg), "result") {
		t.Fatal(err, string(msg))
	}
	cancel()
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the client is told %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := d.Signaling.Stats().Active["websocket"]; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestBoxTellsThePortInUse(t *testing.T) {
	s, base := start(t, Config{}, deps(t))
	_, body := do(t, "GET", base+"/api/v1/box", "", "Authorization", "Bearer "+token(t, auth.View))
	var b Box
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	if b.Ports.HTTP != s.Addr().Port() || b.Ports.UDP != 8189 || b.Uptime < 60 || len(b.Health) != 2 {
		t.Errorf("%+v", b)
	}
}

func FuzzSince(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "1e308", "NaN", "2026-01-02T03:04:05Z", "1767323045.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseSince(text); err == nil && at.UTC().Year() < 0 {
			t.Errorf("%q: %v", text, at)
		}
	})
}
