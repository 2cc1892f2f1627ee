// Package turn relays viewers that cannot reach the SFU directly: a TURN server
// (RFC 8656) over UDP whose only peer is the box's own SFU, with credentials
// that expire.
package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v4"
)

// minSecret is the shortest secret that New takes, in bytes.
const minSecret = 16

// stopLimit bounds how long Run waits for the server's goroutines.
const stopLimit = 2 * time.Second

// Relay is a TURN server.
type Relay struct {
	cfg    Config
	secret []byte
	policy *policy
	now    func() time.Time
	log    *slog.Logger
	count  counters

	ready chan struct{}
	guard *guard // set before ready is closed
	port  uint16 // likewise
}

// New checks cfg and allocates; it opens nothing. secret signs the credentials,
// at least 16 bytes that survive restarts, and is not retained. peers gives the
// SFU's own UDP addresses and ports of this moment; it is called from several
// goroutines, at most about once a second, and must not block.
func New(cfg Config, secret []byte, peers func() []netip.AddrPort, log *slog.Logger) (*Relay, error) {
	switch {
	case len(secret) < minSecret:
		return nil, fmt.Errorf("turn secret: %d bytes, at least %d needed", len(secret), minSecret)
	case peers == nil:
		return nil, errors.New("turn peers: none given")
	case cfg.Realm == "":
		return nil, errors.New("turn.realm: empty")
	case cfg.MaxAllocations < 1:
		return nil, fmt.Errorf("turn.max_allocations: %d, at least 1 needed", cfg.MaxAllocations)
	case cfg.PerUser < 1:
		return nil, fmt.Errorf("turn.per_user: %d, at least 1 needed", cfg.PerUser)
	}
	if _, err := net.ResolveUDPAddr("udp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("turn.listen: %w", err)
	}
	return &Relay{
		cfg:    cfg,
		secret: append([]byte(nil), secret...),
		policy: &policy{source: peers, now: time.Now},
		now:    time.Now,
		log:    log,
		ready:  make(chan struct{}),
	}, nil
}

// Ready is closed when the listener is open.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Port gives the UDP port; valid once Ready.
func (r *Relay) Port() uint16 { return r.port }

// Stats is what the relay has done. Safe for concurrent use, also before Run.
func (r *Relay) Stats() Stats {
	allocations := 0
	select {
	case <-r.ready:
		r.guard.mu.RLock()
		allocations = len(r.guard.clients)
		r.guard.mu.RUnlock()
	default:
	}
	return r.count.stats(allocations)
}

// Run opens the listener and serves until ctx is done, when it ends every
// allocation and returns nil. It may be called once. An error names the
// configuration key and, where it is the port, the port.
func (r *Relay) Run(ctx context.Context) error {
	s, err := listenUDP(ctx, r.cfg.Listen)
	if err != nil {
		return fmt.Errorf("turn.listen %q: %w", r.cfg.Listen, err)
	}
	return r.serve(ctx, s, func(g *guard) pion.RelayAddressGenerator {
		return &generator{guard: g, publicIP: r.cfg.PublicIP}
	})
}

func (r *Relay) serve(ctx context.Context, s socket, relays func(*guard) pion.RelayAddressGenerator) error {
	g := newGuard(s, r.cfg.Realm, r.now, r.policy, &r.count, func(username string) []byte {
		return longTermKey(username, r.cfg.Realm, password(r.secret, username))
	})
	server, err := pion.NewServer(pion.ServerConfig{
		Realm:         r.cfg.Realm,
		AuthHandler:   g.authenticate,
		QuotaHandler:  g.quota(r.cfg.MaxAllocations, r.cfg.PerUser),
		EventHandler:  g.events(),
		LoggerFactory: silence{},
		PacketConnConfigs: []pion.PacketConnConfig{{
			PacketConn: g, RelayAddressGenerator: relays(g), PermissionHandler: g.permit,
		}},
		InboundMTU: maxDatagram,
	})
	if err != nil {
		s.Close()
		return fmt.Errorf("turn server: %w", err)
	}
	r.guard = g
	if u, ok := s.LocalAddr().(*net.UDPAddr); ok {
		r.port = uint16(u.Port)
	}
	close(r.ready)
	r.log.Info("turn listens", "address", s.LocalAddr().String())
	return r.wait(ctx, g, server)
}

// wait returns when the listener has ended and with it every allocation.
func (r *Relay) wait(ctx context.Context, g *guard, server *pion.Server) error {
	select {
	case <-ctx.Done():
	case <-g.ended:
	}
	closing := server.Close() // the server reports "use of closed" too: what matters is in g.err
	<-g.ended
	gone := make(chan struct{})
	go func() {
		g.relays.Wait()
		close(gone)
	}()
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-gone:
	case <-limit.C:
		return errors.New("turn: allocations did not end in time")
	}
	if g.err != nil {
		return fmt.Errorf("turn.listen %q: %w", r.cfg.Listen, errors.Join(g.err, closing))
	}
	return nil
}

// silence is the server's logger: it would write the users' names, and what it
// has to say is in the counters.
type silence struct{}

func (silence) NewLogger(string) logging.LeveledLogger { return silence{} }
func (silence) Trace(string)                           {}
func (silence) Tracef(string, ...any)                  {}
func (silence) Debug(string)                           {}
func (silence) Debugf(string, ...any)                  {}
func (silence) Info(string)                            {}
func (silence) Infof(string, ...any)                   {}
func (silence) Warn(string)                            {}
func (silence) Warnf(string, ...any)                   {}
func (silence) Error(string)                           {}
func (silence) Errorf(string, ...any)                  {}
