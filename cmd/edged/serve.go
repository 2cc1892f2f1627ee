package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"edged/capture/encode"
	"edged/forward"
	"edged/internal/auth"
	"edged/internal/box"
	"edged/internal/config"
	"edged/internal/metrics"
	"edged/internal/signaling"
	"edged/internal/web"
	"edged/internal/web/ui"
	"edged/storage"
	"edged/turn"
	"edged/uplink"
)

// turnLife is how long TURN credentials open an allocation; one that lives
// goes on.
const turnLife = 10 * time.Minute

// gateway is the parts of a running box.
type gateway struct {
	started  time.Time
	boot     string
	identity *storage.Identity
	store    *storage.Store
	live     *live
	sfu      *forward.SFU
	relay    *turn.Relay // nil: off
	cameras  *box.Box
	uplink   *uplink.Uplink
	sessions *signaling.Server
	web      *web.Server
	log      *slog.Logger
}

// serve runs the box until ctx is done or a part fails.
func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	rest, err := parse("run", args, o.defineRun)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("edged: %q is not understood; see edged help", rest[0])
	}
	level := &slog.LevelVar{}
	log, err := o.logger(stderr, level)
	if err != nil {
		return err
	}
	if err := storage.CheckDir(o.data); err != nil {
		return err
	}
	var given *givenConfig
	if o.config != "" { // a bad file is told before anything is touched
		if given, err = readConfig(o.config); err != nil {
			return err
		}
	}
	g, cfg, err := open(o, given, level, log)
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.wire(cfg, o); err != nil {
		return err
	}
	return g.run(ctx, cfg, stdout)
}

// open opens what is on disk, and finds the configuration.
func open(o options, given *givenConfig, level *slog.LevelVar, log *slog.Logger) (*gateway, config.Config, error) {
	identity, err := storage.OpenIdentity(o.data)
	if err != nil {
		return nil, config.Config{}, err
	}
	store, err := storage.Open(o.data, log)
	if err != nil {
		return nil, config.Config{}, err
	}
	cfg, doc, err := loadConfig(given, store, log)
	if err != nil {
		_ = store.Close()
		return nil, config.Config{}, err
	}
	if o.logLevel == "" {
		level.Set(cfg.Log)
	}
	l := &live{store: store, level: level, log: log, fixed: o, cfg: cfg, doc: doc, applies: map[string]uint64{}}
	var boot [8]byte
	_, _ = rand.Read(boot[:])
	return &gateway{started: time.Now(), boot: hex.EncodeToString(boot[:]), identity: identity, store: store, live: l, log: log}, cfg, nil
}

func (g *gateway) close() {
	if err := g.store.Close(); err != nil {
		g.log.Error("storage", "err", err)
	}
}

// wire makes the parts; it starts nothing.
func (g *gateway) wire(cfg config.Config, o options) error {
	var err error
	if g.sfu, err = forward.New(cfg.WebRTC, g.identity.Certificate, g.log); err != nil {
		return err
	}
	if cfg.TURN.Enabled {
		if g.relay, err = turn.New(cfg.TURN, g.identity.TURNSecret, g.peers, g.log); err != nil {
			return err
		}
	}
	g.cameras = box.New(g.sfu, g.log)
	g.live.box = g.cameras
	verifier := auth.NewVerifier(g.identity.Public(), cfg.Auth.Keys)
	gate := auth.NewGate(verifier, cfg.Auth.Open)
	g.live.auth = func(a config.Auth) {
		gate.SetOpen(a.Open)
		verifier.SetConsole(a.Keys)
	}
	if g.uplink, err = uplink.New(cfg.Uplink, g.uplinkBox(), g.log); err != nil {
		return err
	}
	g.sessions, err = signaling.New(signaling.Options{
		Cameras: g.cameras, Join: signaling.JoinSFU(g.sfu), Publish: signaling.PublishTo(g.cameras.Publish), Gate: gate, Log: g.log, ICE: g.iceServers,
		Box: signaling.BoxInfo{Name: boxName(cfg), ID: g.identity.Box(), Version: version},
	})
	if err != nil {
		return err
	}
	if o.http != "" {
		cfg.HTTP.Listen = o.http
	}
	g.web, err = web.New(cfg.HTTP, web.Deps{
		Signaling: g.sessions, Page: ui.FS, Key: g.identity.Certificate.PrivateKey.(crypto.Signer),
		Box: g.info, Health: g.health, Ready: g.ready, Metrics: metrics.Handler(g.snapshot), Config: g.live,
		Stats: func(since time.Time) any { return g.uplink.Windows(since) }, Topology: g.topology,
		Snapshot: g.picture,
	}, g.log)
	return err
}

// run runs the parts until ctx is done or one fails; the first failure ends
// all.
func (g *gateway) run(ctx context.Context, cfg config.Config, stdout io.Writer) error {
	if _, err := g.cameras.Apply(cfg.Cameras); err != nil {
		return err
	}
	if encode.Name == "" {
		g.log.Warn("this build has no software encoder: cameras that need one stay offline where the box has none in its chip, the others are passed through")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.sfu.Run(ctx) })
	if g.relay != nil {
		group.Go(func() error { return g.afterSFU(ctx, g.relay.Run) })
	}
	group.Go(func() error { return g.cameras.Run(ctx) })
	group.Go(func() error { return g.live.plugIn(ctx) })
	group.Go(func() error { return signaling.Announce(ctx, g.cameras, g.log) })
	group.Go(func() error { return g.uplink.Run(ctx) })
	group.Go(func() error { return g.afterSFU(ctx, g.web.Run) })
	group.Go(func() error { return g.announce(ctx, stdout) })
	return group.Wait()
}

// afterSFU starts a part when the media socket is open: the relay needs its
// port, and a page should not be served that cannot show anything.
func (g *gateway) afterSFU(ctx context.Context, run func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.sfu.Ready():
		return run(ctx)
	}
}

// announce says where the box is, once all parts are ready.
func (g *gateway) announce(ctx context.Context, stdout io.Writer) error {
	for _, ready := range g.readies() {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
	}
	link, err := g.link(12 * time.Hour)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "edged %s is ready: %s\n", version, link); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	printQR(stdout, link)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		g.log.Warn("service manager", "err", err)
	}
	<-ctx.Done()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyStopping); err != nil {
		g.log.Warn("service manager", "err", err)
	}
	return nil
}

// readies are the parts that open something.
func (g *gateway) readies() []<-chan struct{} {
	out := []<-chan struct{}{g.sfu.Ready(), g.web.Ready()}
	if g.relay != nil {
		out = append(out, g.relay.Ready())
	}
	return out
}

func (g *gateway) ready() bool {
	for _, r := range g.readies() {
		select {
		case <-r:
		default:
			return false
		}
	}
	return true
}

// link is the page's URL with a fresh viewer token.
func (g *gateway) link(life time.Duration) (string, error) {
	t, err := auth.Sign(g.identity.Key, auth.Claims{Subject: "page", Cameras: []string{"*"}, May: []auth.Right{auth.View}, Expires: time.Now().Add(life)})
	if err != nil {
		return "", err
	}
	scheme := "http"
	if g.web.TLS() {
		scheme = "https"
	}
	at := g.web.Addr()
	host := at.Addr()
	if host.IsUnspecified() {
		host = netip.MustParseAddr("127.0.0.1")
		if all := g.sfu.Addresses(); len(all) > 0 {
			host = all[0]
		}
	}
	return fmt.Sprintf("%s://%s/?token=%s", scheme, netip.AddrPortFrom(host, at.Port()), t), nil
}

// peers are whom the relay may reach: the SFU, at the addresses it offers.
func (g *gateway) peers() []netip.AddrPort {
	select {
	case <-g.sfu.Ready():
	default:
		return nil
	}
	port, _ := g.sfu.Ports()
	var out []netip.AddrPort
	for _, a := range g.sfu.Addresses() {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out
}

// iceServers are a viewer's STUN and TURN servers; the box's own is reached
// by the address that the viewer reached the box by.
func (g *gateway) iceServers(subject, host string) []forward.ICEServer {
	cfg, _ := g.live.current()
	servers := cfg.WebRTC.ICEServers
	if g.relay == nil || !g.ready() {
		return servers
	}
	if cfg.TURN.PublicIP.IsValid() {
		host = cfg.TURN.PublicIP.String()
	}
	user, password, _ := g.relay.Credentials(subject, turnLife)
	url := "turn:" + net.JoinHostPort(host, strconv.Itoa(int(g.relay.Port()))) + "?transport=udp"
	return append(servers[:len(servers):len(servers)], forward.ICEServer{URLs: []string{url}, Username: user, Credential: password})
}
