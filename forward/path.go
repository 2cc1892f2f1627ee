package forward

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
)

const (
	gatherLimit     = time.Second
	keepalive       = 2 * time.Second
	disconnectAfter = 5 * time.Second
	failAfter       = 15 * time.Second // after that
	silentAfter     = 3 * time.Second  // a selected pair that may be left for another; more than keepalive
)

// open makes the ICE agent and answers the offer.
func (l *link) open(ctx context.Context) (string, error) {
	options := []ice.AgentOption{
		ice.WithUDPMux(l.share),
		ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6, ice.NetworkTypeTCP4, ice.NetworkTypeTCP6}),
		ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeHost}),
		ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		ice.WithDisableActiveTCP(),
		ice.WithInterfaceFilter(usableInterface),
		ice.WithIPFilter(l.sfu.offers),
		ice.WithIncludeLoopback(),
		ice.WithKeepaliveInterval(keepalive),
		ice.WithDisconnectedTimeout(disconnectAfter),
		ice.WithFailedTimeout(failAfter),
		ice.WithLoggerFactory(l.sfu.pionLog),
		ice.WithBindingRequestHandler(l.rebind),
	}
	if n, _, _ := l.sfu.shared.known(l.sfu.bound.Addr()); n != nil {
		options = append(options, ice.WithNet(n))
	}
	if l.sfu.tcpMux != nil {
		options = append(options, ice.WithTCPMux(l.sfu.tcpMux))
	}
	agent, err := ice.NewAgentWithOptions(options...)
	if err != nil {
		return "", fmt.Errorf("ICE agent: %w", err)
	}
	l.agent = agent
	_ = agent.OnConnectionStateChange(func(s ice.ConnectionState) {
		if s == ice.ConnectionStateFailed {
			l.cancel(errICEFailed)
		}
	})
	_ = agent.OnSelectedCandidatePairChange(func(local, remote ice.Candidate) { l.moved(local, remote) })
	text, err := l.gather(ctx, 0)
	if err != nil {
		_ = agent.GracefulClose()
		return "", err
	}
	for _, c := range l.offer.candidates {
		if err := l.addCandidate(c); err != nil {
			_ = agent.GracefulClose()
			return "", err
		}
	}
	return text, nil
}

// offers tells whether an address is one of those offered to viewers; it
// keeps ICE-TCP to the same addresses as UDP.
func (s *SFU) offers(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	for _, h := range s.hostAddrs() {
		if h.WithZone("") == a.Unmap() {
			return true
		}
	}
	return false
}

// gather collects the local candidates and writes the answer.
func (l *link) gather(ctx context.Context, version int) (string, error) {
	found := make(chan ice.Candidate, 64)
	if err := l.agent.OnCandidate(func(c ice.Candidate) {
		select {
		case found <- c:
		default: // more than anybody needs
		}
	}); err != nil {
		return "", fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err := l.agent.GatherCandidates(); err != nil {
		return "", fmt.Errorf("ICE: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	var candidates []string
	for {
		select {
		case c := <-found:
			if c != nil {
				candidates = append(candidates, "candidate:"+strings.TrimPrefix(c.Marshal(), "candidate:"))
				continue
			}
		case <-ctx.Done(): // what there is by now must do
		}
		break
	}
	ufrag, pwd, err := l.agent.GetLocalUserCredentials()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrGone, err)
	}
	if version == 0 {
		l.sessionID = rand.Uint64() >> 1 // RFC 9429 §5.2.1: 63 bits
	}
	return l.answer(answerParams{
		sessionID: l.sessionID, version: version + 1, ufrag: ufrag, pwd: pwd, fingerprint: l.sfu.fingerprint,
		candidates: slices.Concat(candidates, l.sfu.furtherCandidates(), l.sfu.publicCandidates()),
	}), nil
}

// furtherCandidates offers the addresses of the media socket that the agent
// does not know of (muxShare.GetListenAddresses), as host candidates.
func (s *SFU) furtherCandidates() []string {
	var out []string
	_, further := s.listenAddrs()
	for i, a := range further {
		out = append(out, fmt.Sprintf("candidate:host%d 1 udp %d %s %d typ host", i, priority(126, i+1), a, s.bound.Port()))
	}
	return out
}

// priority of a candidate by its kind's preference and its place among those
// of the kind (RFC 8445 §5.1.2.1).
func priority(kind uint32, place int) uint32 { return kind<<24 | uint32(65535-place)<<8 | 255 }

// publicCandidates offers the addresses of a 1:1 NAT or port-forward as
// server-reflexive candidates (RFC 8445 §5.1.1.2) of the media socket.
func (s *SFU) publicCandidates() []string {
	var out []string
	for i, a := range s.cfg.PublicIPs {
		unspecified := "0.0.0.0"
		if a.Is6() {
			unspecified = "::"
		}
		out = append(out, fmt.Sprintf("candidate:pub%d 1 udp %d %s %d typ srflx raddr %s rport 0", i, priority(100, i), a, s.bound.Port(), unspecified))
	}
	return out
}

// Restart does an ICE restart (RFC 8445 §9) with the remote's new
// credentials, from a whole offer or an sdpfrag (RFC 8840), and returns the
// new local credentials and candidates as an SDP answer. Media goes on over
// the old pair until the new one works.
func (l *link) Restart(ctx context.Context, text string) (string, error) {
	l.mending.Lock()
	defer l.mending.Unlock()
	var o offer
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "a="), ":")
		switch {
		case key == "ice-ufrag" && o.ufrag == "":
			o.ufrag = value
		case key == "ice-pwd" && o.pwd == "":
			o.pwd = value
		case key == "candidate" && len(o.candidates) < maxCandidates:
			o.candidates = append(o.candidates, value)
		}
	}
	if err := checkCredentials(o.ufrag, o.pwd); err != nil {
		return "", err
	}
	for _, c := range o.candidates { // before anything changes
		if _, err := parseCandidate(c); err != nil {
			return "", err
		}
	}
	if err := l.agent.Restart("", ""); err != nil {
		return "", fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err := l.agent.SetRemoteCredentials(o.ufrag, o.pwd); err != nil {
		return "", fmt.Errorf("%w: %w", ErrOffer, err)
	}
	l.restarts++
	l.remotes.Store(0)
	answer, err := l.gather(ctx, l.restarts)
	if err != nil {
		return "", err
	}
	for _, c := range o.candidates {
		if err := l.addCandidate(c); err != nil {
			return "", err
		}
	}
	return answer, nil
}

// rebind is called with each of the viewer's checks, in the agent's loop. It
// reports whether the agent shall move to the pair that the check came on: a
// viewer whose NAT gave it another address goes on checking, but the pair of
// the new address has no higher priority, so that the agent would stay with
// the dead one until it fails. A pair counts once our own check on it was
// answered, so that nobody can draw media to an address that is not the
// viewer's.
func (l *link) rebind(_ *stun.Message, _, remote ice.Candidate, pair *ice.CandidatePair) bool {
	now := l.selected.Load()
	if now == nil || (*now).Equal(remote) || pair.ResponsesReceived() == 0 {
		return false
	}
	return time.Since((*now).LastReceived()) > silentAfter
}

// moved is called when another candidate pair is selected. Over plain UDP
// media goes from the media socket straight to the viewer's address.
func (l *link) moved(local, remote ice.Candidate) {
	path := fmt.Sprintf("%s/%s", remote.Type(), local.NetworkType().NetworkShort())
	addr := net.JoinHostPort(remote.Address(), fmt.Sprint(remote.Port()))
	l.log.Debug("path", "path", path, "remote", addr)
	l.selected.Store(&remote)
	l.where.Store(&[2]string{path, addr})
	ap, err := netip.ParseAddrPort(addr)
	if err == nil && local.NetworkType().IsUDP() && local.Type() != ice.CandidateTypeRelay {
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		l.remote.Store(&ap)
		l.sfu.mux.moved(l.share, ap)
	} else {
		l.remote.Store(nil)
	}
}

// isAt tells whether packets go to an address.
func (l *link) isAt(addr netip.AddrPort) bool {
	at := l.remote.Load()
	return at != nil && *at == addr
}

// path is the kind of the selected pair, "host/udp"; empty before there is one.
func (l *link) path() string {
	if w := l.where.Load(); w != nil {
		return w[0]
	}
	return ""
}

// remoteAddr is the viewer's address; empty before there is one.
func (l *link) remoteAddr() string {
	if w := l.where.Load(); w != nil {
		return w[1]
	}
	return ""
}
