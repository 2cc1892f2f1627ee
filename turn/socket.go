package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// socket is what the guard reads and writes: datagrams with the box's own
// address on them, so that an answer leaves from where the question came to.
type socket interface {
	read(b []byte) (n int, src netip.AddrPort, local netip.Addr, err error)
	write(b []byte, dst netip.AddrPort, control []byte) error
	control(local netip.Addr) []byte // what write needs to send from local
	LocalAddr() net.Addr
	Close() error
}

type udpSocket struct {
	*net.UDPConn
	wildcard bool
	local    netip.Addr // where not wildcard
	oob      []byte     // owned by the reader
}

// listenUDP opens address, for both families where it names none.
func listenUDP(ctx context.Context, address string) (*udpSocket, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(address) // it was parsed to come here
		return nil, fmt.Errorf("UDP port %s is in use by another program", port)
	}
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn) // by the network's name
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	s := &udpSocket{UDPConn: conn, wildcard: addr.IsUnspecified(), local: addr}
	if !s.wildcard {
		return s, nil
	}
	if addr.Is4() {
		err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	} else {
		err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("local addresses of datagrams: %w", err)
	}
	s.oob = make([]byte, 128)
	return s, nil
}

func (s *udpSocket) read(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, oobn, _, src, err := s.ReadMsgUDPAddrPort(b, s.oob)
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, err
	}
	local := s.local
	if s.wildcard {
		local = parsePktinfo(s.oob[:oobn])
	}
	return n, netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), local, nil
}

func (s *udpSocket) write(b []byte, dst netip.AddrPort, control []byte) error {
	_, _, err := s.WriteMsgUDPAddrPort(b, control, dst)
	return err
}

func (s *udpSocket) control(local netip.Addr) []byte {
	switch {
	case !s.wildcard || !local.IsValid() || local.IsMulticast():
		return nil
	case local.Is4():
		return (&ipv4.ControlMessage{Src: local.AsSlice()}).Marshal()
	default:
		return (&ipv6.ControlMessage{Src: local.AsSlice()}).Marshal()
	}
}

// parsePktinfo reads the local address from a datagram's control messages
// (ip(7) IP_PKTINFO, ipv6(7) IPV6_PKTINFO; the latter has IPv4 mapped).
func parsePktinfo(oob []byte) netip.Addr {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[4:8]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			return netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		oob = rest
	}
	return netip.Addr{}
}

// onlyLoopback makes the kernel drop whatever did not come over the loopback
// device, which is where everything sent from the box to itself comes from,
// whatever its address. An error means that only the checks in user space are left.
func onlyLoopback(conn *net.UDPConn, v6 bool) error {
	lo, err := loopbackIndex()
	if err != nil {
		return err
	}
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: lo, SkipFalse: 1},
		bpf.RetConstant{Val: 0xFFFF},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	if v6 {
		return ipv6.NewPacketConn(conn).SetBPF(filter)
	}
	return ipv4.NewPacketConn(conn).SetBPF(filter)
}

func loopbackIndex() (uint32, error) {
	all, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 {
			return uint32(i.Index), nil
		}
	}
	return 0, errors.New("no loopback interface")
}
