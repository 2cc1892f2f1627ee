package web

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
)

// certificate reads the configured certificate, or makes one from the box's
// own key, good for every name and address that the box has now.
func (s *Server) certificate() (tls.Certificate, error) {
	if s.cfg.CertFile != "" {
		return tls.LoadX509KeyPair(s.cfg.CertFile, s.cfg.KeyFile)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("serial number: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "edged " + s.deps.Box().Name},
		NotBefore:    time.Unix(0, 0), // a box without a clock must be reachable too
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
	}
	if name, err := os.Hostname(); err == nil {
		t.DNSNames = append(t.DNSNames, name, name+".local")
	}
	addrs, _ := net.InterfaceAddrs() // without them the names are left
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			t.IPAddresses = append(t.IPAddresses, n.IP)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, s.deps.Key.Public(), s.deps.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("self-signed: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.deps.Key}, nil
}

// splitter tells TLS from plain HTTP by a connection's first byte, so that
// one port serves both: whoever types the address without https:// gets an
// answer.
type splitter struct {
	l             net.Listener
	ctx           context.Context // done when either branch, or the listener, is closed
	secure, plain *branch
}

func newSplitter(l net.Listener) *splitter {
	ctx, cancel := context.WithCancel(context.Background())
	closing := sync.OnceValue(func() error { cancel(); return l.Close() })
	fork := func() *branch {
		return &branch{conns: make(chan net.Conn), done: ctx.Done(), close: closing, addr: l.Addr()}
	}
	return &splitter{l, ctx, fork(), fork()}
}

// run accepts until the listener is closed and returns when every connection
// has found its branch or ended.
func (s *splitter) run() {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = s.secure.close() }()
	slots := make(chan struct{}, 256) // connections that have not said a word
	for {
		c, err := s.l.Accept()
		if err != nil {
			if ne, ok := err.(interface{ Temporary() bool }); ok && ne.Temporary() {
				time.Sleep(10 * time.Millisecond) // out of descriptors: http.Server waits likewise
				continue
			}
			return
		}
		select {
		case slots <- struct{}{}:
		case <-s.ctx.Done():
			_ = c.Close()
			return
		}
		wg.Go(func() { s.sort(c); <-slots })
	}
}

func (s *splitter) sort(c net.Conn) {
	const handshake = 22                                                                // a TLS record's first byte (RFC 8446 §5.1)
	stop := context.AfterFunc(s.ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // silence does not delay the end
	defer stop()
	_ = c.SetReadDeadline(time.Now().Add(headerTimeout)) // fails where the read will fail too
	r := bufio.NewReaderSize(c, 16)
	first, err := r.Peek(1)
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	to := s.plain
	if first[0] == handshake {
		to = s.secure
	}
	select {
	case to.conns <- &peeked{c, r}:
	case <-to.done:
		_ = c.Close()
	}
}

// peeked is a connection whose first bytes are in r.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// branch is the listener of one kind of connection.
type branch struct {
	conns chan net.Conn
	done  <-chan struct{}
	close func() error
	addr  net.Addr
}

func (b *branch) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

func (b *branch) Close() error   { return b.close() }
func (b *branch) Addr() net.Addr { return b.addr }
