package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"golang.org/x/sys/unix"
)

// socketBuffer is the kernel's send and receive buffer of the media socket in
// bytes: about a keyframe for each of a hundred viewers.
const socketBuffer = 4 << 20

// virtualPrefixes name interfaces that lead to containers and guests of this
// machine, never to a viewer.
var virtualPrefixes = []string{"docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "lxc", "vmnet", "ifb", "dummy"}

// usableInterface tells whether an interface may carry viewers.
func usableInterface(name string) bool {
	return !slices.ContainsFunc(virtualPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// usableAddr tells whether a host candidate may carry addr.
func usableAddr(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast()
}

// hostAddrs lists the addresses that viewers may reach the box at: those of
// usable interfaces that are up, or loopback where there is no other. bound
// limits the list to one address where the socket is bound to it.
func hostAddrs(bound netip.Addr) ([]netip.Addr, error) {
	if bound.IsValid() && !bound.IsUnspecified() {
		return []netip.Addr{bound.Unmap()}, nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	var hosts, loopback []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || !usableInterface(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface went away
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !usableAddr(p.Addr()) {
				continue
			}
			if p.Addr().IsLoopback() {
				loopback = append(loopback, p.Addr())
			} else {
				hosts = append(hosts, p.Addr())
			}
		}
	}
	if len(hosts) == 0 {
		return loopback, nil
	}
	return hosts, nil
}

// listenAddrs divides the box's addresses: the first of each family, and the
// others.
func (s *SFU) listenAddrs() (first, further []netip.Addr) {
	var have4, have6 bool
	for _, a := range s.hostAddrs() {
		have := &have4
		if a.Is6() {
			have = &have6
		}
		if *have {
			further = append(further, a)
		} else {
			first = append(first, a)
		}
		*have = true
	}
	return first, further
}

// portPairs is how often a pair of equal UDP and TCP ports is tried for where
// any will do.
const portPairs = 20

// listen opens the media sockets. A port in use is an error that names it.
func (s *SFU) listen() error {
	free := isPortZero(s.cfg.UDP) && isPortZero(s.cfg.TCP)
	err := s.listenPair()
	for i := 1; i < portPairs && free && errors.Is(err, errPortInUse); i++ {
		err = s.listenPair() // the TCP port of the UDP port's number was taken
	}
	if err != nil {
		return err
	}
	_ = s.udp.SetReadBuffer(socketBuffer) // the kernel's limit may be lower: then it is the limit
	_ = s.udp.SetWriteBuffer(socketBuffer)
	s.bound = s.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	if s.egress, err = newEgress(s.udp); err != nil {
		return fmt.Errorf("webrtc.udp: media socket: %w", err)
	}
	if s.mux, err = newMux(s); err != nil {
		return fmt.Errorf("webrtc.udp: media socket: %w", err)
	}
	s.reader.Go(s.mux.run)
	if s.tcp != nil {
		s.tcpMux = ice.NewTCPMuxDefault(ice.TCPMuxParams{Listener: &mediaListener{Listener: s.tcp, places: make(chan struct{}, s.cfg.MaxViewers+strangers)}, ReadBufferSize: 8, Logger: s.pionLog.NewLogger("mux")})
	}
	return nil
}

// listenPair opens the UDP socket, and the TCP one where there is to be one:
// with the number of the UDP port where any will do.
func (s *SFU) listenPair() error {
	udp, err := net.ListenPacket("udp", s.cfg.UDP)
	if err != nil {
		return fmt.Errorf("webrtc.udp: media socket on UDP %s: %w", s.cfg.UDP, portError(err))
	}
	if s.cfg.TCP != "" {
		addr := s.cfg.TCP
		if host, _, err := net.SplitHostPort(addr); err == nil && isPortZero(addr) {
			addr = net.JoinHostPort(host, strconv.Itoa(udp.LocalAddr().(*net.UDPAddr).Port))
		}
		if s.tcp, err = net.Listen("tcp", addr); err != nil {
			_ = udp.Close()
			return fmt.Errorf("webrtc.tcp: ICE-TCP on TCP %s: %w", addr, portError(err))
		}
	}
	s.udp = udp.(*net.UDPConn)
	return nil
}

func isPortZero(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && port == "0"
}

var errPortInUse = errors.New("the port is in use by another process")

// portError says plainly what keeps a socket from opening.
func portError(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errPortInUse
	case errors.Is(err, unix.EACCES):
		return errors.New("not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)")
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errors.New("the box has no such address")
	}
	return err
}

// interfacesFresh is how long a list of network interfaces is taken for true.
const interfacesFresh = 2 * time.Second

// interfaces is what is known of the machine's network, shared: by itself each
// ICE agent would list the interfaces anew, once for each address, and keep
// the list.
type interfaces struct {
	mu    sync.Mutex
	net   transport.Net
	addrs []netip.Addr // that viewers may use
	err   error
	read  time.Time
}

// known is the machine's network, read again when it is older than
// interfacesFresh. The caller must not change addrs.
func (i *interfaces) known(bound netip.Addr) (n transport.Net, addrs []netip.Addr, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.read.IsZero() || time.Since(i.read) > interfacesFresh {
		i.net = nil
		if n, err := stdnet.NewNet(); err == nil {
			i.net = n
		}
		i.addrs, i.err = hostAddrs(bound)
		i.read = time.Now()
	}
	return i.net, i.addrs, i.err
}
