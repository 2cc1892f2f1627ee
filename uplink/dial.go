package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/coder/websocket"
)

// Keepalive of TCP: a path that is dead while nothing is sent is noticed
// after about 30 + 3 × 15 seconds; with data under way by TCP_USER_TIMEOUT.
const (
	tcpIdle        = 30 * time.Second
	tcpInterval    = 15 * time.Second
	tcpProbes      = 3
	tcpUserTimeout = 30 * time.Second
)

// ports are the defaults of the schemes that a server may have.
var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// server is one entry of Config.Servers.
type server struct {
	scheme, host, port, path string
}

// parseServer takes a URL apart; its errors do not repeat it, since somebody
// may have put a password in it.
func parseServer(s string) (server, error) {
	u, err := url.Parse(s)
	if err != nil {
		return server{}, errors.New("not a URL")
	}
	port, ok := ports[u.Scheme]
	switch {
	case !ok:
		return server{}, errors.New("the scheme is not mqtt, mqtts, ws or wss")
	case u.User != nil:
		return server{}, errors.New("has credentials: they belong in username and password")
	case u.Hostname() == "":
		return server{}, errors.New("has no host")
	case u.RawQuery != "" || u.Fragment != "":
		return server{}, errors.New("has a query or a fragment")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	v := server{scheme: u.Scheme, host: u.Hostname(), port: port}
	switch {
	case v.scheme == "ws" || v.scheme == "wss":
		if v.path = u.EscapedPath(); v.path == "" {
			v.path = "/mqtt"
		}
	case u.Path != "" && u.Path != "/":
		return server{}, errors.New("has a path, which only ws and wss have")
	}
	return v, nil
}

func (v server) String() string { return v.scheme + "://" + v.address() + v.path }

func (v server) address() string { return net.JoinHostPort(v.host, v.port) }

func (v server) secure() bool { return v.scheme == "mqtts" || v.scheme == "wss" }

// dial opens the transport to a server: TCP, TLS, or a WebSocket in either
// (MQTT 3.1.1 §6). It returns when the transport can carry MQTT.
func dial(ctx context.Context, v server, cfg *Config) (net.Conn, error) {
	var secret *tls.Config
	if v.secure() {
		var err error
		if secret, err = tlsConfig(v.host, cfg); err != nil {
			return nil, err
		}
	}
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: tcpIdle, Interval: tcpInterval, Count: tcpProbes},
		Control:         controlSocket,
	}
	switch v.scheme {
	case "mqtt":
		return d.DialContext(ctx, "tcp", v.address())
	case "mqtts":
		return (&tls.Dialer{NetDialer: d, Config: secret}).DialContext(ctx, "tcp", v.address())
	}
	return dialWebSocket(ctx, v, d, secret)
}

func dialWebSocket(ctx context.Context, v server, d *net.Dialer, secret *tls.Config) (net.Conn, error) {
	transport := &http.Transport{DialContext: d.DialContext, TLSClientConfig: secret}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, _, err := websocket.Dial(ctx, v.String(), &websocket.DialOptions{
		HTTPClient:   client,
		Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != "mqtt" {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("WebSocket without the subprotocol mqtt: %w", errFrame)
	}
	// The context of a NetConn ends its life, which Close does here. A
	// message may hold several frames: the guard bounds those.
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	ws.SetReadLimit(-1)
	return abruptConn{conn, ws}, nil
}

// abruptConn closes without the WebSocket's closing handshake, which would
// wait for a broker that may be gone; MQTT has its own DISCONNECT.
type abruptConn struct {
	net.Conn
	ws *websocket.Conn
}

func (c abruptConn) Close() error {
	err := c.ws.CloseNow()
	_ = c.Conn.Close() // stops its timers
	return err
}

// tlsConfig reads the files at each connection, so that renewed certificates
// are taken without a restart.
func tlsConfig(host string, cfg *Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s: no certificate in it", cfg.CA)
		}
	}
	if cfg.ClientCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.ClientCert, cfg.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client_cert, client_key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
