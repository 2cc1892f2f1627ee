package forward_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/forward"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"
)

// peer is a viewer of pion's lower libraries: cheap enough for a thousand of
// them, and free to misbehave below SRTP.
type peer struct {
	t      testing.TB
	cert   tls.Certificate
	agent  *ice.Agent
	conn   *ice.Conn
	dtls   *dtls.Conn
	dtlsIn *packetio.Buffer
	in     *srtp.Context
	out    *srtp.Context
	viewer *forward.Viewer
	answer string
	group  sync.WaitGroup
	read   func(p *rtp.Packet) // set before connect; called for each packet
	keyed  atomic.Bool
	frames atomic.Int64
	ssrc   atomic.Uint32
	gone   <-chan struct{} // closed when the box ends the viewer
	hidden bool            // offers no candidates
	log    *slog.Logger    // of the box about this viewer
}

// peerOffer is a Chrome-like offer, shortened.
const peerOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 109 114\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\n" +
	"a=fingerprint:sha-256 %s\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n" +
	"a=rtpmap:109 H264/90000\r\na=rtcp-fb:109 nack\r\na=rtcp-fb:109 nack pli\r\na=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n" +
	"a=rtpmap:114 rtx/90000\r\na=fmtp:114 apt=109\r\n"

func newPeer(t testing.TB, cert tls.Certificate) *peer {
	t.Helper()
	agent, err := ice.NewAgentWithOptions(
		ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4}),
		ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeHost}),
		ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		ice.WithIncludeLoopback(), ice.WithIPFilter(net.IP.IsLoopback), ice.WithDisableActiveTCP(),
		ice.WithCheckInterval(20*time.Millisecond),
	)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, cert: cert, agent: agent, dtlsIn: packetio.NewBuffer(), read: func(*rtp.Packet) {}}
	t.Cleanup(p.close)
	return p
}

// offer gathers and writes the offer, with the candidates where asked for.
func (p *peer) offer(candidates bool) string {
	p.t.Helper()
	var lines []string
	gathered := make(chan struct{})
	if err := p.agent.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			close(gathered)
			return
		}
		lines = append(lines, "a=candidate:"+strings.TrimPrefix(c.Marshal(), "candidate:")+"\r\n")
	}); err != nil {
		p.t.Fatal(err)
	}
	if err := p.agent.GatherCandidates(); err != nil {
		p.t.Fatal(err)
	}
	<-gathered
	ufrag, pwd, err := p.agent.GetLocalUserCredentials()
	if err != nil {
		p.t.Fatal(err)
	}
	sum := sha256.Sum256(p.cert.Certificate[0])
	hex := strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
	text := fmt.Sprintf(peerOffer, ufrag, pwd, hex)
	if candidates {
		text += strings.Join(lines, "")
	}
	return text
}

// join offers, and takes the answer.
func (p *peer) join(s *forward.SFU, st *forward.Stream) {
	p.t.Helper()
	v, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: p.offer(!p.hidden), Subject: "peer", Log: p.log})
	if err != nil {
		p.t.Fatal(err)
	}
	p.viewer, p.answer, p.gone = v, answer, v.Done()
}

// attribute finds the values of an attribute in the answer.
func (p *peer) attribute(key string) (values []string) {
	for line := range strings.Lines(p.answer) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "a="+key+":"); ok {
			values = append(values, value)
		}
	}
	return values
}

// context lasts as long as an answer may come.
func (p *peer) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	p.group.Go(func() {
		select {
		case <-p.gone:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

// reach does ICE with the box.
func (p *peer) reach() error {
	for _, text := range p.attribute("candidate") {
		c, err := ice.UnmarshalCandidate(text)
		if err == nil {
			err = p.agent.AddRemoteCandidate(c)
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := p.context()
	defer cancel()
	conn, err := p.agent.Dial(ctx, p.attribute("ice-ufrag")[0], p.attribute("ice-pwd")[0])
	p.conn = conn
	return err
}

// connect does ICE and DTLS, then reads until close.
func (p *peer) connect() error {
	if err := p.reach(); err != nil {
		return err
	}
	p.group.Go(p.receive)
	d, err := dtls.ClientWithOptions(peerConn{p}, p.conn.RemoteAddr(),
		dtls.WithCertificates(p.cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret))
	if err != nil {
		return err
	}
	ctx, cancel := p.context()
	defer cancel()
	if err := d.HandshakeContext(ctx); err != nil {
		return err
	}
	p.dtls = d
	state, _ := d.ConnectionState()
	profile, _ := d.SelectedSRTPProtectionProfile()
	c := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := c.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		return err
	}
	if p.in, err = srtp.CreateContext(c.Keys.RemoteMasterKey, c.Keys.RemoteMasterSalt, c.Profile); err != nil {
		return err
	}
	p.out, err = srtp.CreateContext(c.Keys.LocalMasterKey, c.Keys.LocalMasterSalt, c.Profile)
	p.keyed.Store(true)
	return err
}

func (p *peer) receive() {
	buf := make([]byte, 1500)
	var early [][]byte // media that overtook the end of the handshake
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		switch {
		case b[0] >= 20 && b[0] <= 63:
			_, _ = p.dtlsIn.Write(b)
		case b[1] >= 192 && b[1] <= 223:
		case !p.keyed.Load():
			early = append(early, append([]byte(nil), b...))
		default:
			for _, e := range append(early, b) {
				p.media(e)
			}
			early = nil
		}
	}
}

func (p *peer) media(b []byte) {
	plain, err := p.in.DecryptRTP(nil, b, nil)
	if err != nil {
		p.t.Errorf("SRTP: %v", err)
		return
	}
	var packet rtp.Packet
	if err := packet.Unmarshal(plain); err != nil {
		p.t.Errorf("RTP: %v", err)
		return
	}
	if packet.PayloadType == 109 {
		p.ssrc.Store(packet.SSRC)
		if packet.Marker {
			p.frames.Add(1)
		}
	}
	p.read(&packet)
}

// watch joins, connects, and waits until n frames have arrived.
func (p *peer) watch(s *forward.SFU, st *forward.Stream, n int64) {
	p.t.Helper()
	p.join(s, st)
	if err := p.connect(); err != nil {
		p.t.Fatal(err)
	}
	p.live(n)
}

// live waits until n more frames have arrived.
func (p *peer) live(n int64) {
	p.t.Helper()
	want := p.frames.Load() + n
	eventually(p.t, fmt.Sprintf("%d frames", want), func() bool { return p.frames.Load() >= want })
}

// control sends RTCP bytes, protected.
func (p *peer) control(plain []byte) []byte {
	p.t.Helper()
	b, err := p.out.EncryptRTCP(nil, plain, nil)
	if err == nil {
		_, err = p.conn.Write(b)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *peer) feedback(packet rtcp.Packet) []byte {
	p.t.Helper()
	b, err := packet.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.control(b)
}

func (p *peer) close() {
	if p.dtls != nil {
		_ = p.dtls.Close()
	}
	_ = p.dtlsIn.Close()
	_ = p.agent.GracefulClose()
	p.group.Wait()
}

// peerConn is the DTLS stack's share of the path.
type peerConn struct{ p *peer }

func (c peerConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.p.dtlsIn.Read(b)
	return n, c.p.conn.RemoteAddr(), err
}
func (c peerConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.p.conn.Write(b) }
func (c peerConn) Close() error                              { return c.p.dtlsIn.Close() }
func (c peerConn) LocalAddr() net.Addr                       { return c.p.conn.LocalAddr() }
func (c peerConn) SetDeadline(t time.Time) error             { return c.p.dtlsIn.SetReadDeadline(t) }
func (c peerConn) SetReadDeadline(t time.Time) error         { return c.p.dtlsIn.SetReadDeadline(t) }
func (c peerConn) SetWriteDeadline(time.Time) error          { return nil }

// eventually polls a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// pulse is a camera of numbered frames: 30 a second, a keyframe each second
// and whenever asked for.
func pulse(t testing.TB, s *forward.SFU, id string, packets int) (st *forward.Stream, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	var wanted atomic.Bool
	st = s.AddStream(id, func(int) { asked.Add(1); wanted.Store(true) })
	st.Describe([]capture.Track{h264Track})
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for i := 0; ; i++ {
			st.Frame(numbered(i, packets, i%30 == 0 || wanted.Swap(false)))
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(over); <-ended })
	return st, asked
}

var h264Track = capture.Track{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Fmtp: "profile-level-id=42e01f;packetization-mode=1"}

// numbered is frame i, whose number stands in its payloads.
func numbered(i, packets int, key bool) *capture.Frame {
	f := &capture.Frame{RTPTime: uint32(i) * 3000, Captured: time.Now(), Keyframe: key}
	for range packets {
		p := make([]byte, 1100)
		p[0] = 1
		if key {
			p[0] = 5
		}
		binary.BigEndian.PutUint32(p[1:], uint32(i))
		f.Payloads = append(f.Payloads, p)
	}
	return f
}

func frameNumber(p *rtp.Packet) uint32 { return binary.BigEndian.Uint32(p.Payload[1:]) }

// offerText is an offer of a restart, with credentials of its own.
func (p *peer) offerText() string {
	return "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
}
