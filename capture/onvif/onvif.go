// Package onvif asks a network camera for a keyframe, which RTSP has no means
// for: SetSynchronizationPoint of ONVIF's media service (Media Service
// Specification, section 5.9).
//
// A camera is asked on its own host alone. The password goes out as a digest
// (Web Services Security UsernameToken Profile 1.0), and only to what has
// answered as an ONVIF device without it.
package onvif

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Bounds of what a camera may say, and of its time to say it.
const (
	maxReply    = 256 << 10 // bytes
	maxProfiles = 16
	replyIn     = 3 * time.Second
)

// Config says where a camera is and who asks.
type Config struct {
	Host     string      // a name or an address, without a port
	Ports    []int       // where to look for the device service, one after the other; none: the usual ones
	User     string      // empty: nobody in particular
	Password string      //
	TLS      *tls.Config // nil: plain HTTP
}

// The usual ports of a device service: the standard's, and those of makers that
// keep 80 for something else.
var (
	plainPorts  = []int{80, 8000, 2020}
	securePorts = []int{443}
)

// ErrRefused is in the chain of what [Service.Keyframe] and [Find] return when
// the camera understood and will not do it: asking again is in vain.
var ErrRefused = errors.New("the camera refuses")

// Service is a camera that can be asked. Its methods may be called from any
// goroutine.
type Service struct {
	client   *client
	media    string   // URL of the media service
	profiles []string // by stream: the token of its profile
}

// Find looks for the device service of a camera and for the profiles behind
// its streams, given by their RTSP URLs: the main one, and further ones. It
// blocks for a dozen requests at most, or until ctx is done. The caller closes
// the service that it returns.
func Find(ctx context.Context, cfg Config, streams []*url.URL) (*Service, error) {
	c := newClient(cfg)
	s, err := c.find(ctx, cfg, streams)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("onvif: %w", err)
	}
	return s, nil
}

func (c *client) find(ctx context.Context, cfg Config, streams []*url.URL) (*Service, error) {
	device, err := c.device(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r, err := c.ask(ctx, device, getCapabilities)
	if err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	media, err := onHost(device, r.Media)
	if err != nil {
		return nil, err
	}
	profiles, err := c.profiles(ctx, media, streams)
	if err != nil {
		return nil, err
	}
	return &Service{client: c, media: media, profiles: profiles}, nil
}

// device is the URL of the device service. It is known by its clock, which it
// tells everybody (Core Specification, section 8.3.4.7), and by which the
// digests have to go.
func (c *client) device(ctx context.Context, cfg Config) (string, error) {
	scheme, ports := "http", plainPorts
	if cfg.TLS != nil {
		scheme, ports = "https", securePorts
	}
	if cfg.Ports != nil {
		ports = cfg.Ports
	}
	var last error
	for _, port := range ports {
		at := (&url.URL{Scheme: scheme, Host: net.JoinHostPort(cfg.Host, strconv.Itoa(port)), Path: "/onvif/device_service"}).String()
		r, err := c.askOpenly(ctx, at, getTime)
		if err == nil && r.UTC == nil {
			err = errors.New("no ONVIF device")
		}
		if err != nil {
			last = err
			continue
		}
		c.ahead = time.Until(r.UTC.time())
		return at, nil
	}
	return "", last
}

// onHost is the address of a service as the camera gives it, on the host and
// port where the camera was found: behind a translation of addresses it does
// not know those, and nothing goes to another host.
func onHost(device, service string) (string, error) {
	at, err := url.Parse(device)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(service)
	if err != nil || u.Path == "" {
		return "", fmt.Errorf("no media service (%.80q)", service)
	}
	if u.Hostname() == at.Hostname() && u.Scheme == at.Scheme {
		at.Host = u.Host
	}
	at.Path, at.RawPath, at.RawQuery = u.Path, u.RawPath, u.RawQuery
	return at.String(), nil
}

// profiles gives each stream the profile whose address it has. A stream of no
// known address gets the one in its place: asked for a keyframe of another
// stream, a camera does no harm.
func (c *client) profiles(ctx context.Context, media string, streams []*url.URL) ([]string, error) {
	r, err := c.ask(ctx, media, getProfiles)
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	known := r.Profiles[:min(len(r.Profiles), maxProfiles)]
	if len(known) == 0 {
		return nil, fmt.Errorf("%w: no profiles", ErrRefused)
	}
	found := make([]string, len(streams))
	for i := range found {
		found[i] = known[min(i, len(known)-1)].Token
	}
	for _, p := range known {
		r, err := c.ask(ctx, media, getStreamURI(p.Token))
		if err != nil {
			return nil, fmt.Errorf("stream address: %w", err)
		}
		for i, s := range streams {
			if samePath(s, r.URI) {
				found[i] = p.Token
			}
		}
	}
	return found, nil
}

// samePath compares what follows the host, which cameras give without
// credentials and by addresses of their own.
func samePath(u *url.URL, uri string) bool {
	other, err := url.Parse(uri)
	return err == nil && u.Path == other.Path && u.RawQuery == other.RawQuery
}

// Keyframe asks for a keyframe of a stream, an index into those given to
// [Find]. It blocks for 3 s at most, or until ctx is done.
func (s *Service) Keyframe(ctx context.Context, stream int) error {
	if stream < 0 || stream >= len(s.profiles) {
		return nil
	}
	r, err := s.client.ask(ctx, s.media, setSynchronizationPoint(s.profiles[stream]))
	if err == nil && r.Synchronized == nil {
		err = errors.New("another answer")
	}
	if err != nil {
		return fmt.Errorf("onvif: synchronization point: %w", err)
	}
	return nil
}

// Close ends the connections that are kept for the next request.
func (s *Service) Close() { s.client.close() }

// client asks one camera.
type client struct {
	http     *http.Client
	user     string
	password string
	ahead    time.Duration // of our clock the camera's is
}

func newClient(cfg Config) *client {
	return &client{user: cfg.User, password: cfg.Password, http: &http.Client{
		Timeout: replyIn,
		Transport: &http.Transport{
			TLSClientConfig: cfg.TLS, MaxConnsPerHost: 2, MaxResponseHeaderBytes: 16 << 10,
			TLSHandshakeTimeout: replyIn, IdleConnTimeout: 30 * time.Second,
		},
		// Whatever it is that redirects, it is not what the configuration names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }
