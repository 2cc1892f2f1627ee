package forward

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"edged/forward/protect"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"
)

// secured is a finished DTLS-SRTP handshake (RFC 5764).
type secured struct {
	conn  *dtls.Conn
	media *protect.Protector // RTP to the viewer
	out   *srtp.Context      // RTCP to the viewer, or publisher
	in    *srtp.Context      // what it sends
}

// replayWindow is how many packets late one may come that is not taken for a
// replay (RFC 3711 §3.3.2): what is sent again without RTX comes late.
const replayWindow = 1024

// dtlsProfiles gives the SRTP profiles to negotiate, the one that costs least
// on this machine first.
func dtlsProfiles() ([]dtls.SRTPProtectionProfile, error) {
	preferred, err := protect.Preferred()
	profiles := make([]dtls.SRTPProtectionProfile, len(preferred))
	for i, p := range preferred {
		profiles[i] = dtls.SRTPProtectionProfile(p)
	}
	return profiles, err
}

// handshake does DTLS over the ICE connection, as the server, so that the box
// chooses the SRTP profile, unless the viewer insists on that role. It checks
// the far side's certificate against the offer's fingerprint (RFC 8122).
func (l *link) handshake(ctx context.Context, conn *ice.Conn, in *packetio.Buffer) (*secured, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeLimit, errors.New("DTLS: no answer"))
	defer cancel()
	pc := &dtlsPacketConn{conn: conn, in: in}
	shared := []dtls.Option{
		dtls.WithCertificates(l.sfu.cert),
		dtls.WithSRTPProtectionProfiles(l.sfu.profiles...),
		dtls.WithInsecureSkipVerify(true), // the fingerprint stands for the chain
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(200 * time.Millisecond),
		dtls.WithLoggerFactory(l.sfu.pionLog),
		dtls.WithVerifyPeerCertificate(l.verify),
	}
	var d *dtls.Conn
	var err error
	if l.offer.passive {
		options := make([]dtls.ClientOption, len(shared))
		for i, o := range shared {
			options[i] = o
		}
		d, err = dtls.ClientWithOptions(pc, conn.RemoteAddr(), options...)
	} else {
		options := []dtls.ServerOption{
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithInsecureSkipVerifyHello(true), // ICE has proved the return path
		}
		for _, o := range shared {
			options = append(options, o)
		}
		d, err = dtls.ServerWithOptions(pc, conn.RemoteAddr(), options...)
	}
	if err != nil {
		return nil, fmt.Errorf("DTLS: %w", err)
	}
	if err := d.HandshakeContext(ctx); err != nil {
		err = fmt.Errorf("DTLS: %w", err)
		l.cancel(err) // limits how long Close may take
		_ = d.Close()
		return nil, err
	}
	s, err := newSecured(d, l.offer.passive)
	if err != nil {
		err = fmt.Errorf("SRTP: %w", err)
		l.cancel(err)
		_ = d.Close()
		return nil, err
	}
	return s, nil
}

// verify holds the far side's certificate against the fingerprint in its offer.
func (l *link) verify(certs [][]byte, _ [][]*x509.Certificate) error {
	if len(certs) == 0 {
		return errors.New("no certificate came")
	}
	if got := fingerprint(certs[0]); got != l.offer.fingerprint {
		return errors.New("the certificate does not match the fingerprint in the offer")
	}
	return nil
}

// fingerprint is the SHA-256 of a certificate as in a=fingerprint, without
// the name of the hash.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

func newSecured(d *dtls.Conn, client bool) (*secured, error) {
	state, ok := d.ConnectionState()
	profile, ok2 := d.SelectedSRTPProtectionProfile()
	if !ok || !ok2 {
		return nil, errors.New("no protection profile in common")
	}
	cfg := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		return nil, err
	}
	media, err := protect.New(protect.Profile(profile), cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt)
	if err != nil {
		return nil, err
	}
	out, err := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	if err != nil {
		return nil, err
	}
	in, err := srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile, srtp.SRTCPReplayProtection(64), srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		return nil, err
	}
	return &secured{conn: d, media: media, in: in, out: out}, nil
}

// wait blocks until the viewer closes the DTLS association; take is given
// what it sends there meanwhile, for the length of the call.
func (s *secured) wait(take func(packet []byte)) error {
	buf := make([]byte, receiveMTU)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return errClosed
		}
		take(buf[:n])
	}
}

func (s *secured) close() { _ = s.conn.Close() }

// dtlsPacketConn is what the DTLS stack reads from and writes to: its share
// of the ICE connection.
type dtlsPacketConn struct {
	conn *ice.Conn
	in   *packetio.Buffer
}

// ReadFrom implements net.PacketConn.
func (c *dtlsPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.in.Read(b)
	return n, c.conn.RemoteAddr(), err
}

// WriteTo implements net.PacketConn; there is only one peer.
func (c *dtlsPacketConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.conn.Write(b) }

// Close implements net.PacketConn: it ends a waiting read.
func (c *dtlsPacketConn) Close() error { return c.in.Close() }

// LocalAddr implements net.PacketConn.
func (c *dtlsPacketConn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// SetDeadline implements net.PacketConn; writes do not wait.
func (c *dtlsPacketConn) SetDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *dtlsPacketConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn; writes do not wait.
func (c *dtlsPacketConn) SetWriteDeadline(time.Time) error { return nil }
