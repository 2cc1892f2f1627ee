package rtsp

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"

	"edged/capture"
)

// address is a camera's URL, taken apart.
type address struct {
	url      *base.URL           // with credentials: never print it
	shown    string              // the same for people
	protocol *gortsplib.Protocol // nil: UDP first, then TCP
}

// parseAddress reads a camera's URL. The transport is chosen by a fragment,
// which a client never sends to the server: cameras use the query for
// themselves. Errors do not quote the URL, which may hold a password.
func parseAddress(cfg capture.Config) (address, error) {
	u, err := url.Parse(cfg.Source)
	if err != nil {
		return address{}, errors.New("source is no URL (in a user or password, write special characters as %XX)")
	}
	if u.Scheme != "rtsp" && u.Scheme != "rtsps" {
		return address{}, fmt.Errorf("source: scheme %q is not rtsp or rtsps", u.Scheme)
	}
	if u.Hostname() == "" {
		return address{}, errors.New("source: no host")
	}
	a := address{}
	if a.protocol, err = transport(u.Fragment); err != nil {
		return address{}, err
	}
	u.Fragment, u.RawFragment = "", ""
	if cfg.Username != "" {
		u.User = url.UserPassword(cfg.Username, string(cfg.Password))
	}
	a.shown = show(u)
	a.url = (*base.URL)(u)
	return a, nil
}

func transport(fragment string) (*gortsplib.Protocol, error) {
	udp, tcp := gortsplib.ProtocolUDP, gortsplib.ProtocolTCP
	switch fragment {
	case "", "transport=auto":
		return nil, nil
	case "transport=udp":
		return &udp, nil
	case "transport=tcp":
		return &tcp, nil
	}
	return nil, fmt.Errorf("source: #%s is not #transport=udp, tcp or auto", fragment)
}

// secretParameter finds the passwords that some makes of camera want in the
// path or the query.
var secretParameter = regexp.MustCompile(`(?i)((?:pass|passwd|password|pwd|token|secret|key|auth)=)[^&/;]*`)

// show is the URL without credentials.
func show(u *url.URL) string {
	rest := u.EscapedPath()
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	rest = secretParameter.ReplaceAllString(rest, "${1}***")
	return strings.ToLower(u.Scheme) + "://" + u.Host + rest
}
