package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"golang.org/x/sys/unix"
)

// receiveBuffer holds two keyframes of the clip: a viewer's process that
// waits for its turn on the CPU must not look like a server that loses.
const receiveBuffer = 1 << 20

// network is the ordinary network with larger receive buffers, which also
// notes the SRTP profile that the DTLS handshake settled on: pion does not
// say which it was.
type network struct {
	*stdnet.Net
	profile atomic.Uint32 // RFC 5764 §4.1.2; 0 before the handshake
}

func newNetwork() (*network, error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return &network{Net: n}, nil
}

// ListenUDP implements transport.Net.
func (n *network) ListenUDP(kind string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := net.ListenUDP(kind, addr)
	if err != nil {
		return nil, err
	}
	widen(c)
	return &socket{UDPConn: c, network: n}, nil
}

// widen asks for a large receive buffer, beyond the system's limit where the
// process may.
func widen(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
}

// socket looks at each datagram until the SRTP profile is known.
type socket struct {
	*net.UDPConn
	network *network
}

func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	k, from, err := s.ReadFromUDPAddrPort(b)
	s.look(b[:max(k, 0)])
	return k, from, err
}

func (s *socket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	s.look(b)
	return s.WriteToUDPAddrPort(b, to)
}

func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	k, from, err := s.UDPConn.ReadFrom(b)
	s.look(b[:max(k, 0)])
	return k, from, err
}

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	s.look(b)
	return s.UDPConn.WriteTo(b, to)
}

func (s *socket) look(b []byte) {
	if s.network.profile.Load() != 0 {
		return
	}
	if p, ok := chosenProfile(b); ok {
		s.network.profile.Store(uint32(p))
	}
}

// chosenProfile finds the use_srtp extension (RFC 5764 §4.1.1) in a DTLS 1.2
// ServerHello, which is short, early and not encrypted.
func chosenProfile(datagram []byte) (uint16, bool) {
	const handshake, serverHello, headers = 22, 2, 13
	if len(datagram) <= headers || datagram[0] != handshake || datagram[headers] != serverHello {
		return 0, false
	}
	_, after, ok := bytes.Cut(datagram, []byte{0, 14, 0, 5, 0, 2})
	if !ok || len(after) < 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(after), true
}

// profileName is the IANA name of an SRTP protection profile.
func profileName(p uint32) string {
	switch p {
	case 0:
		return "none"
	case 1:
		return "AES128_CM_HMAC_SHA1_80"
	case 2:
		return "AES128_CM_HMAC_SHA1_32"
	case 7:
		return "AEAD_AES_128_GCM"
	case 8:
		return "AEAD_AES_256_GCM"
	default:
		return fmt.Sprintf("profile %d", p)
	}
}
