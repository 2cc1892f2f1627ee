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
	return StartWatched(ctx, cpu, program, dir, BoxConfig(source, n), environment...)
}

// StartWatched is StartBox with a configuration whose camera is `clip`.
func StartWatched(ctx context.Context, cpu int, program, dir, config string, environment ...string) (*Process, string, error) {
	p, root, err := StartConfigured(ctx, cpu, program, dir, config, environment...)
	if err != nil {
		return nil, "", err
	}
	return awaited(ctx, p, root+"/whep/clip")
}

// StartConfigured runs edged with a configuration, and returns it with the
// address that it prints, without a path, once it serves.
func StartConfigured(ctx context.Context, cpu int, program, dir, config string, environment ...string) (*Process, string, error) {
	path := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, "", err
	}
	p, err := startWith(cpu, environment, program, "--config", path, "--data", filepath.Join(dir, "data"), "--log-level", "warn")
	if err != nil {
		return nil, "", err
	}
	at, err := printed(ctx, p)
	if err != nil {
		return nil, "", ended(p, err)
	}
	return p, (&url.URL{Scheme: at.Scheme, Host: at.Host}).String(), nil
}

var address = regexp.MustCompile(`https?://[^\s"]+`)

// Located waits until a server prints its endpoint, and until a viewer gets a
// picture from it. A server that does not get that far within a minute is
// stopped.
func Located(ctx context.Context, p *Process) (*Process, string, error) {
	at, err := printed(ctx, p)
	if err != nil {
		return nil, "", ended(p, err)
	}
	return awaited(ctx, p, at.String())
}

// startLimit is how long a server may take until it serves, and again until
// there is a picture.
const startLimit = time.Minute

func printed(ctx context.Context, p *Process) (*url.URL, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("no address within a minute"))
	defer cancel()
	line, err := p.Line(ctx, address.MatchString)
	if err != nil {
		return nil, err
	}
	return url.Parse(address.FindString(line))
}

func awaited(ctx context.Context, p *Process, endpoint string) (*Process, string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("no picture within a minute"))
	defer cancel()
	if err := AwaitPicture(ctx, endpoint, ""); err != nil {
		return nil, "", ended(p, err)
	}
	return p, endpoint, nil
}

// ended stops a server that did not come up, and adds its last words.
func ended(p *Process, err error) error {
	stopped := p.Stop()
	return errors.Join(err, stopped, errors.New(strings.TrimSpace(p.Log())))
}

// BoxConfig is the configuration of a box that serves one camera, `clip`, to
// n viewers and a few more, open to anybody on loopback, on ports of the
// system's choice.
func BoxConfig(source string, n int) string {
	return fmt.Sprintf("cameras:\n  - {id: clip, source: %q}\n", source) + boxRest(n)
}

// SmallConfig is that of a box whose camera has hardly any packets.
func SmallConfig(n int) string {
	return "cameras:\n  - {id: clip, source: \"pattern:\", video: {width: 320, height: 180, fps: 5, bitrate: 100000}}\n" + boxRest(n)
}

// IdleConfig is the configuration of a box without a camera.
func IdleConfig() string { return "cameras: []\n" + boxRest(0) }

func boxRest(n int) string {
	return fmt.Sprintf(`name: bench
http: {listen: "127.0.0.1:0"}
webrtc: {udp: "127.0.0.1:0", tcp: "", max_viewers: %d, max_cpu: 0}
turn: {enabled: false}
auth: {open: true}
`, n+8)
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
