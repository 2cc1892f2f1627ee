// Package web is the box's HTTP server: the page, the API, WHEP, the
// WebSocket and the metrics, on one port, with TLS where configured.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds on one connection. A stalled client holds no more than a goroutine
// for no longer than these.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second // the whole request
	writeTimeout  = 60 * time.Second // the whole answer; a new configuration takes the longest
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	stopTimeout   = 1500 * time.Millisecond // for requests under way when the box stops
)

// Server is the HTTP server. Its methods may be called from any goroutine.
type Server struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	page  map[string]asset
	mux   *http.ServeMux
	ready chan struct{}

	addr netip.AddrPort // valid once ready is closed

	mu       sync.Mutex // guards the two below
	stopping bool
	requests sync.WaitGroup // handlers under way, of WebSockets too, which http.Server does not wait for
}

// New checks cfg and deps and reads the page; it opens nothing.
func New(cfg Config, deps Deps, log *slog.Logger) (*Server, error) {
	if deps.Signaling == nil || deps.Page == nil || deps.Box == nil || deps.Health == nil {
		return nil, errors.New("http: signaling, page, box and health are required")
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("http.tls: cert and key go together")
	}
	if cfg.CertFile == "" && (cfg.SelfSigned || cfg.RequireTLS) && deps.Key == nil {
		return nil, errors.New("http.tls: no key for a self-signed certificate")
	}
	page, err := readPage(deps.Page)
	if err != nil {
		return nil, fmt.Errorf("http: page: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, deps: deps, log: log, page: page, ready: make(chan struct{})}
	s.mux = s.routes()
	return s, nil
}

// Ready is closed when the port is open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address listened on; valid once Ready.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// TLS tells whether the server speaks HTTPS (on the same port as HTTP, which
// is then refused where http.tls.require is set).
func (s *Server) TLS() bool {
	return s.cfg.CertFile != "" || s.cfg.SelfSigned || s.cfg.RequireTLS
}

// Run listens and serves until ctx is done, then ends all requests and
// WebSockets and returns. A port that cannot be had is an error that names
// the port, its key in the configuration and, where it can be found, who has
// it.
func (s *Server) Run(ctx context.Context) error {
	var tlsConfig *tls.Config
	if s.TLS() {
		cert, err := s.certificate()
		if err != nil {
			return fmt.Errorf("http.tls: %w", err)
		}
		tlsConfig = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return listenError(s.cfg.Listen, err)
	}
	s.addr = l.Addr().(*net.TCPAddr).AddrPort()
	close(s.ready)
	s.log.Info("http", "addr", s.addr, "tls", s.TLS())
	return s.serve(ctx, l, tlsConfig)
}

// serve owns the listener and the http.Server.
func (s *Server) serve(ctx context.Context, l net.Listener, tlsConfig *tls.Config) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // strangers' broken handshakes
	}
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	serving := func(l net.Listener) { wg.Go(func() { errs <- srv.Serve(l) }) }
	if tlsConfig == nil {
		serving(l)
	} else {
		split := newSplitter(l)
		wg.Go(split.run)
		serving(tls.NewListener(split.secure, tlsConfig))
		serving(split.plain)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
		err = fmt.Errorf("http: %w", err)
	}
	s.stop(srv, cancel)
	_ = l.Close() // the splitter's; the server has closed its own
	wg.Wait()
	return err
}

// stop ends the handlers: first those that wait for the end of their context
// (WebSockets), with the others given a moment to finish.
func (s *Server) stop(srv *http.Server, cancel func()) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	cancel()
	ctx, done := context.WithTimeout(context.Background(), stopTimeout)
	defer done()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close() // too slow: cut
	}
	s.requests.Wait()
}

// enter counts a request in; false while stopping.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.requests.Add(1)
	return true
}

// listenError says what a port is needed for and who has it.
func listenError(listen string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("http.listen: %q: %w", listen, err)
	}
	_, port, _ := net.SplitHostPort(listen)
	who := ""
	if h := portHolder(port); h != "" {
		who = " by " + h
	}
	return fmt.Errorf("http.listen: %q: port %s is in use%s: %w", listen, strings.TrimSpace(port), who, err)
}
