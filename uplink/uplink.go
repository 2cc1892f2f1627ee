// Package uplink connects a box to its console: one MQTT 3.1.1 session that
// is kept alive for ever, presence with a Will, the reported configuration,
// and statistics windows that are kept until they are acknowledged.
package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"edged/uplink/wire"
)

// Box is what the uplink needs to know of the box. The functions may be
// called from any goroutine and must return promptly.
type Box struct {
	ID       string                 // 26 characters, lower-case base32; the MQTT client id
	Version  string                 // of the program
	Boot     string                 // identifies this life of the process
	NextConn func() (uint64, error) // counts connections for ever
	Config   func() Running         // what runs now
	Sample   func() Sample          // what the box knows now; Link and Host are overwritten
}

// Running says which configuration runs.
type Running struct {
	Epoch  uint64
	Rev    uint64
	Hash   string // SHA-256 of the document, hexadecimal
	Source string // console, file, page, default
}

func (r Running) revision() wire.Revision { return wire.Revision{Epoch: r.Epoch, Rev: r.Rev} }

// Stats is the uplink at one moment. Counters only rise.
type Stats struct {
	Enabled       bool
	Connected     bool              // granted its subscription, and the connection lives
	Since         time.Time         // when Connected last changed; zero before the first connection
	Server        string            // the one last tried, scheme://host:port
	Conn          uint64            // number of the connection
	Connects      uint64            // connections made by this process
	NextTry       time.Time         // zero while connected or trying
	LastError     string            // why there is no connection; empty while there is one
	Published     map[string]uint64 // acknowledged messages by kind: presence, config, stats
	NotTaken      uint64            // messages from the console that this version does not take
	OutboxRecords int
	OutboxBytes   int
}

// Uplink is the connection to the console, and the recorder of statistics.
type Uplink struct {
	cfg      Config
	box      Box
	servers  []server
	root     string // of the topics
	limits   limits
	log      *slog.Logger
	host     fs.FS
	recorder *Recorder
	outbox   *outbox
	kick     chan struct{}
	sampled  chan struct{} // a sample was taken: look at the configuration and the outbox

	// owned by the link's goroutine
	conn   uint64
	unused bool // conn was given out, but reached no broker

	mu    sync.Mutex
	stats Stats
}

var (
	tenantSyntax = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)
	boxSyntax    = regexp.MustCompile(`^[a-z2-7]{26}$`)
)

// New checks cfg and box and allocates; it opens nothing. Where cfg.Enabled
// is false, the uplink only records statistics.
func New(cfg Config, box Box, log *slog.Logger) (*Uplink, error) {
	u := &Uplink{
		cfg: cfg, box: box, limits: defaultLimits(), log: log, host: os.DirFS("/"),
		root: wire.Root(cfg.Tenant, box.ID),
		kick: make(chan struct{}, 1), sampled: make(chan struct{}, 1),
	}
	u.stats = Stats{Enabled: cfg.Enabled, Published: map[string]uint64{kindPresence: 0, kindConfig: 0, kindStats: 0}}
	if err := u.check(); err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	u.recorder = newRecorder(cfg.Window)
	u.outbox = newOutbox(newStream(), box.Boot, cfg.Batch, windowsIn(history, cfg.Window))
	return u, nil
}

func (u *Uplink) check() error {
	switch {
	case u.cfg.Window < time.Second || u.cfg.Window > history:
		return fmt.Errorf("window: %v is not in 1s..1h", u.cfg.Window)
	case u.cfg.Batch < 1 || u.cfg.Batch > 60:
		return fmt.Errorf("batch: %d is not in 1..60", u.cfg.Batch)
	case u.box.NextConn == nil || u.box.Config == nil || u.box.Sample == nil:
		return errors.New("box: a function is missing")
	case !u.cfg.Enabled:
		return nil
	case !tenantSyntax.MatchString(u.cfg.Tenant):
		return fmt.Errorf("tenant: %q is not [a-z0-9-]{1,16}", u.cfg.Tenant)
	case !boxSyntax.MatchString(u.box.ID):
		return fmt.Errorf("box: id %q is not 26 characters of lower-case base32", u.box.ID)
	case (u.cfg.ClientCert == "") != (u.cfg.ClientKey == ""):
		return errors.New("client_cert and client_key belong together")
	case len(u.cfg.Servers) == 0:
		return errors.New("servers: none")
	}
	for i, s := range u.cfg.Servers {
		v, err := parseServer(s)
		if err != nil {
			return fmt.Errorf("servers[%d]: %w", i, err)
		}
		u.servers = append(u.servers, v)
	}
	return nil
}

// newStream is a random UUID (RFC 9562 §5.4).
func newStream() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Run records statistics and, where enabled, keeps the connection until ctx
// is done; then it says goodbye and returns nil within 3 s.
func (u *Uplink) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { u.record(ctx); return nil })
	if u.cfg.Enabled {
		g.Go(func() error { u.link(ctx); return nil })
	}
	return g.Wait()
}

// Kick ends a wait between attempts: call it when an address or a link of
// the box has changed. It never blocks.
func (u *Uplink) Kick() {
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

// Windows returns the closed statistics windows of the last hour that end
// after since (the zero time: all), oldest first. The caller must not change
// what they point to.
func (u *Uplink) Windows(since time.Time) []wire.Window { return u.recorder.Windows(since) }

// Stats returns the uplink's state.
func (u *Uplink) Stats() Stats {
	u.mu.Lock()
	s := u.stats
	s.Published = make(map[string]uint64, len(u.stats.Published))
	for k, v := range u.stats.Published {
		s.Published[k] = v
	}
	u.mu.Unlock()
	s.OutboxRecords, s.OutboxBytes = u.outbox.size()
	return s
}

func (u *Uplink) change(f func(*Stats)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.stats)
}

// record takes samples until ctx is done.
func (u *Uplink) record(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery(u.cfg.Window))
	defer ticker.Stop()
	u.sample(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			u.sample(now)
		}
	}
}

func (u *Uplink) sample(now time.Time) {
	s := u.box.Sample()
	s.Host = readHost(u.host)
	u.mu.Lock()
	s.Link = LinkSample{Connected: u.stats.Connected, Connects: u.stats.Connects}
	u.mu.Unlock()
	if w, ok := u.recorder.add(now, s); ok {
		u.keep(w)
	}
	select {
	case u.sampled <- struct{}{}:
	default:
	}
}

// keep puts a closed window into the outbox, where there is a console.
func (u *Uplink) keep(w wire.Window) {
	if !u.cfg.Enabled {
		return
	}
	if err := u.outbox.add(w, u.box.Config().revision(), clockState()); err != nil {
		u.log.Error("statistics window lost", "err", err)
	}
}
