package rtsp

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"

	"edged/capture/onvif"
)

// asking is what a camera's keyframes on demand need. RTSP has no means to ask
// for one; many cameras speak ONVIF beside it.
type asking struct {
	wanted chan int // layers

	// Owned by ask, which runs once at a time.
	ports   []int          // nil: the usual ones
	service *onvif.Service // nil: not found yet
	refused bool           // for good
}

// Keyframe asks the camera for one by ONVIF, where it offers that: it is found
// out in the background of the first session. Layer 0 is the main URL, layer 1
// the second.
func (s *Source) Keyframe(layer int) {
	select {
	case s.asking.wanted <- layer:
	default: // as many are asked for already
	}
}

// ask finds out whether the camera can be asked, once it has pictures, and asks
// it whenever a keyframe is wanted, until ctx is done. That takes its time, and
// the pictures do not wait for it.
func (s *Source) ask(ctx context.Context, started <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-started:
	}
	a := &s.asking
	if a.refused {
		return
	}
	if a.service == nil && !s.findService(ctx) {
		return
	}
	defer a.service.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case layer := <-a.wanted:
			err := a.service.Keyframe(ctx, layer)
			if a.refused = errors.Is(err, onvif.ErrRefused); a.refused {
				s.log.Info("no keyframes on demand", "reason", err)
				return
			}
			if err != nil && ctx.Err() == nil {
				s.log.Debug("keyframe not asked for", "reason", err)
			}
		}
	}
}

func (s *Source) findService(ctx context.Context) bool {
	u := s.addr.url
	cfg := onvif.Config{Host: u.Hostname(), Ports: s.asking.ports, User: u.User.Username()}
	cfg.Password, _ = u.User.Password()
	if u.Scheme == "rtsps" {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if s.tls != nil {
			cfg.TLS = s.tls.Clone()
		}
	}
	streams := []*url.URL{(*url.URL)(u)}
	if s.sub != nil && s.sub.addr.url.Hostname() == u.Hostname() {
		streams = append(streams, (*url.URL)(s.sub.addr.url))
	}
	service, err := onvif.Find(ctx, cfg, streams)
	if err != nil {
		s.asking.refused = errors.Is(err, onvif.ErrRefused)
		s.log.Debug("no keyframes on demand", "reason", err)
		return false
	}
	s.asking.service = service
	s.log.Info("keyframes on demand", "by", "ONVIF")
	return true
}
