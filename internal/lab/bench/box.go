package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// StartBox runs edged on a CPU (-1: any), as an operator would, with one
// camera that n viewers watch, and returns it with that camera's WHEP
// endpoint once it has a picture. Configuration and data go to dir,
// environment ("NAME=value") to the program.
func StartBox(ctx context.Context, cpu int, program, dir, source string, n int, environment ...string) (*Process, string, error) {
	config := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(config, []byte(BoxConfig(source, n)), 0o600); err != nil {
		return nil, "", err
	}
	p, err := startWith(cpu, environment, program, "--config", config, "--data", filepath.Join(dir, "data"), "--log-level", "warn")
	if err != nil {
		return nil, "", err
	}
	return Located(ctx, p, "/whep/clip")
}

var address = regexp.MustCompile(`https?://[^\s"]+`)

// Located waits until a server prints its address, and until a viewer gets a
// picture from it. path, where not empty, replaces the address's own. A
// server that does not get that far within a minute is stopped.
func Located(ctx context.Context, p *Process, path string) (*Process, string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no picture within a minute"))
	defer cancel()
	endpoint, err := locate(ctx, p, path)
	if err != nil {
		stopped := p.Stop() // its last words are in the log then
		return nil, "", errors.Join(err, stopped, errors.New(strings.TrimSpace(p.Log())))
	}
	return p, endpoint, nil
}

func locate(ctx context.Context, p *Process, path string) (string, error) {
	line, err := p.Line(ctx, address.MatchString)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address.FindString(line))
	if err != nil {
		return "", err
	}
	if path != "" {
		u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}
	}
	return u.String(), AwaitPicture(ctx, u.String(), "")
}

// BoxConfig is the configuration of a box that serves one camera, `clip`, to
// n viewers and a few more, open to anybody on loopback, on ports of the
// system's choice.
func BoxConfig(source string, n int) string {
	return fmt.Sprintf(`name: bench
cameras:
  - id: clip
    source: %q
http: {listen: "127.0.0.1:0"}
webrtc: {udp: "127.0.0.1:0", tcp: "", max_viewers: %d, max_cpu: 0}
turn: {enabled: false}
auth: {open: true}
`, source, n+8)
}

// AwaitPicture returns once a viewer of the endpoint has got a keyframe; it
// tries until ctx is done, so that a server may take its time to start.
func AwaitPicture(ctx context.Context, url, token string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		once, leave := context.WithCancel(ctx)
		v := NewViewer(url, token, 0)
		ended := make(chan error, 1)
		go func() { ended <- v.Run(once) }()
		var last error
		for ended != nil {
			select {
			case last = <-ended:
				ended = nil
			case <-tick.C:
				if v.Joined() > 0 {
					leave()
					return <-ended
				}
			}
		}
		leave()
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %v)", context.Cause(ctx), last)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
