// Package config turns the one document that configures a box (YAML or JSON,
// `edged.config/1`) into checked values: strictly, with all faults at once.
// It is pure: it reads no file and asks no clock.
package config

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"edged/capture"
	"edged/forward"
	"edged/internal/web"
	"edged/turn"
	"edged/uplink"
)

// Config is a whole document, checked, with defaults filled in.
type Config struct {
	Name    string           `section:"name"`
	Cameras []capture.Config `section:"cameras"`
	HTTP    web.Config       `section:"http"`
	WebRTC  forward.Config   `section:"webrtc"`
	TURN    turn.Config      `section:"turn"`
	Auth    Auth             `section:"auth"`
	Uplink  uplink.Config    `section:"uplink"` // and `stats`
	Log     slog.Level       `section:"log"`
}

// Auth is the `auth` section, checked.
type Auth struct {
	Open bool                // anybody on the network may view
	Keys []ed25519.PublicKey // whose tokens are accepted, besides the box's own
}

// Parse reads a document of YAML or JSON. The error is a [Faults]: all that
// is wrong, at once; then the Config is the zero value. Whether files exist
// and ports are free is not looked at.
func Parse(doc []byte) (Config, error) {
	tree, fs := read(doc)
	if tree == nil {
		return Config{}, fs
	}
	tree = lift(tree, &fs)
	filled := document.decodeMapping(tree, path{}, &fs)
	js, err := json.Marshal(filled)
	if err != nil {
		fs.add(path{}, "%v", err)
		return Config{}, fs
	}
	var r raw
	if err := json.Unmarshal(js, &r); err != nil {
		fs.add(path{}, "%v", err)
		return Config{}, fs
	}
	r.cross(&fs)
	if len(fs) > 0 {
		return Config{}, fs
	}
	return r.typed(), nil
}

// DefaultDocument is the document of a box that was given none: the test
// pattern, and the cameras that were found, by id and source.
func DefaultDocument(found ...capture.Config) []byte {
	cams := object{{"cameras", []any{object{{"id", "demo"}, {"source", "pattern:"}}}}}
	for _, c := range found {
		cams[0].value = append(cams[0].value.([]any), object{{"id", c.ID}, {"source", c.Source}})
	}
	return encode(cams)
}

// Default is the configuration of a box that was given none: one camera,
// `demo`, a test pattern.
func Default() Config {
	c, err := Parse(DefaultDocument())
	if err != nil {
		panic(fmt.Sprintf("config: the default document: %v", err)) // a test holds it
	}
	return c
}

// raw is the document as decoded, valid key by key. A value with a fault is
// the zero value.
type raw struct {
	Name    string
	Cameras []*struct {
		ID, Source, Sub    string
		Username, Password string
		TLSFingerprint     string `json:"tls_fingerprint"`
		Video              struct {
			Width, Height, FPS, Bitrate int
			Encoder                     string
			Layers                      int
		}
		RPiCam struct {
			Flip, Exposure string
			Shutter        int
			AWB, Focus     string
		}
		Audio struct {
			Enabled bool
			Device  string
		}
		Placeholder struct {
			Enabled bool
			After   string
		}
		Motion struct {
			Enabled           bool
			Threshold, Blocks int
		}
		Controls controls
	}
	HTTP struct {
		Listen string
		TLS    struct {
			Cert, Key  string
			SelfSigned bool `json:"self_signed"`
			Require    bool
		}
		Origins []string
	}
	WebRTC struct {
		UDP        string
		TCP        *string      // nil: as UDP
		PublicIPs  []netip.Addr `json:"public_ips"`
		STUN       []string
		TURN       []*forward.ICEServer
		MaxViewers int     `json:"max_viewers"`
		MaxCPU     int     `json:"max_cpu"`
		MinMemory  int64   `json:"min_memory"`
		MaxBitrate float64 `json:"max_bitrate"`
	}
	TURN struct {
		Enabled        bool
		Listen, Realm  string
		PublicIP       netip.Addr `json:"public_ip"`
		MaxAllocations int        `json:"max_allocations"`
		PerUser        int        `json:"per_user"`
	}
	Auth struct {
		Open bool
		Keys []string
	}
	Uplink struct {
		Enabled      bool
		Servers      []string
		Tenant       string
		ClientCert   string `json:"client_cert"`
		ClientKey    string `json:"client_key"`
		CA, Username string
		Password     string
	}
	Stats struct {
		Window string
		Batch  int
	}
	Log struct{ Level slog.Level }
}

// cross checks what one key alone cannot tell.
func (r *raw) cross(fs *Faults) {
	first := map[string]int{}
	for i, c := range r.Cameras {
		if c == nil || c.ID == "" {
			continue
		}
		if j, twice := first[c.ID]; twice {
			fs.add(path{}.key("cameras").index(i).key("id"), "%q is the id of cameras[%d] already", c.ID, j)
		} else {
			first[c.ID] = i
		}
	}
	r.crossCameras(fs)
	tls := path{}.key("http").key("tls")
	pair(r.HTTP.TLS.Cert, r.HTTP.TLS.Key, tls, "cert", "key", fs)
	if r.HTTP.TLS.SelfSigned && r.HTTP.TLS.Cert != "" {
		fs.add(tls.key("self_signed"), "true, but a certificate is given too: one of them")
	}
	if r.HTTP.TLS.Require && !r.HTTP.TLS.SelfSigned && r.HTTP.TLS.Cert == "" && !fs.at("/http/tls") {
		fs.add(tls.key("require"), "true, but neither self_signed nor a certificate is given")
	}
	up := path{}.key("uplink")
	pair(r.Uplink.ClientCert, r.Uplink.ClientKey, up, "client_cert", "client_key", fs)
	if r.Uplink.Enabled && len(r.Uplink.Servers) == 0 && !fs.at("/uplink/servers") {
		fs.add(up.key("servers"), "empty, but the uplink is enabled")
	}
	r.clashes(fs)
}

// crossCameras checks keys that make no sense with the camera's source. What
// is zero or empty has a fault already.
func (r *raw) crossCameras(fs *Faults) {
	for i, c := range r.Cameras {
		if c == nil || c.Source == "" {
			continue
		}
		camera := path{}.key("cameras").index(i)
		video := camera.key("video")
		scheme, _, _ := strings.Cut(strings.ToLower(c.Source), ":")
		if c.Sub != "" && scheme != "rtsp" && scheme != "rtsps" {
			fs.add(camera.key("sub"), "only a camera whose source is rtsp:// or rtsps:// has one")
		}
		if c.TLSFingerprint != "" && scheme != "rtsps" {
			fs.add(camera.key("tls_fingerprint"), "only a camera whose source is rtsps:// has one")
		}
		if d := c.Audio.Device; d != "" && d != capture.MicrophoneAuto && scheme != "v4l2" && scheme != "rpicam" {
			fs.add(camera.key("audio").key("device"), "only a camera whose source is v4l2: or rpicam: has a microphone; the sound of others comes with their pictures")
		}
		w, h := c.Video.Width, c.Video.Height
		if scheme == "pattern" && w > 0 && w < patternWidth { // smaller, the pattern's code could not be read
			fs.add(video.key("width"), "%d is below %d, the least of a pattern", w, patternWidth)
		}
		if scheme == "pattern" && h > 0 && h < patternHeight {
			fs.add(video.key("height"), "%d is below %d, the least of a pattern", h, patternHeight)
		}
		if n := c.Video.Layers; n > 1 && w > 0 && h > 0 && (scheme == "pattern" || scheme == "v4l2" || scheme == "rpicam") {
			if lw, lh, ok := capture.LayerSize(w, h, n-1); !ok {
				fs.add(video.key("layers"), "%d: the smallest of %d × %d would have %d × %d pixels, the least is %d × %d",
					n, w, h, lw, lh, capture.MinLayerWidth, capture.MinLayerHeight)
			}
		}
	}
}

// The least picture of a pattern, in pixels.
const (
	patternWidth  = 160
	patternHeight = 80
)

// pair wants both files of a key pair, or none.
func pair(cert, key string, p path, certName, keyName string, fs *Faults) {
	if cert != "" && key == "" && !fs.at(p.key(keyName).pointer) {
		fs.add(p.key(keyName), "missing, but %s is given", certName)
	}
	if key != "" && cert == "" && !fs.at(p.key(certName).pointer) {
		fs.add(p.key(certName), "missing, but %s is given", keyName)
	}
}

// clashes finds two listeners on one port.
func (r *raw) clashes(fs *Faults) {
	rtc := path{}.key("webrtc")
	if tcp := r.tcp(); !fs.at("/webrtc/tcp") && sameSocket(r.HTTP.Listen, tcp) {
		fs.add(rtc.key("tcp"), "%q is taken by http.listen (%q) already", tcp, r.HTTP.Listen)
	}
	if r.TURN.Enabled && sameSocket(r.WebRTC.UDP, r.TURN.Listen) {
		fs.add(path{}.key("turn").key("listen"), "%q is taken by webrtc.udp (%q) already", r.TURN.Listen, r.WebRTC.UDP)
	}
}

func (r *raw) tcp() string {
	if r.WebRTC.TCP == nil {
		return r.WebRTC.UDP
	}
	return *r.WebRTC.TCP
}

func sameSocket(a, b string) bool {
	ahost, aport, aerr := net.SplitHostPort(a)
	bhost, bport, berr := net.SplitHostPort(b)
	if aerr != nil || berr != nil || strings.TrimLeft(aport, "0") == "" {
		return false
	}
	any := func(h string) bool { return h == "" || h == "0.0.0.0" || h == "::" }
	return strings.TrimLeft(aport, "0") == strings.TrimLeft(bport, "0") && (any(ahost) || any(bhost) || ahost == bhost)
}

// typed converts a document without faults.
func (r *raw) typed() Config {
	c := Config{
		Name: r.Name,
		HTTP: web.Config{
			Listen: r.HTTP.Listen, CertFile: r.HTTP.TLS.Cert, KeyFile: r.HTTP.TLS.Key,
			SelfSigned: r.HTTP.TLS.SelfSigned, RequireTLS: r.HTTP.TLS.Require, Origins: r.HTTP.Origins,
		},
		WebRTC: forward.Config{
			UDP: r.WebRTC.UDP, TCP: r.tcp(), PublicIPs: r.WebRTC.PublicIPs, MaxViewers: r.WebRTC.MaxViewers,
			MaxCPU: r.WebRTC.MaxCPU, MinMemory: r.WebRTC.MinMemory, MaxBitrate: r.WebRTC.MaxBitrate,
		},
		TURN: turn.Config{
			Enabled: r.TURN.Enabled, Listen: r.TURN.Listen, Realm: r.TURN.Realm, PublicIP: r.TURN.PublicIP,
			MaxAllocations: r.TURN.MaxAllocations, PerUser: r.TURN.PerUser,
		},
		Auth: Auth{Open: r.Auth.Open},
		Uplink: uplink.Config{
			Enabled: r.Uplink.Enabled, Servers: r.Uplink.Servers, Tenant: r.Uplink.Tenant,
			ClientCert: r.Uplink.ClientCert, ClientKey: r.Uplink.ClientKey, CA: r.Uplink.CA,
			Username: r.Uplink.Username, Password: uplink.Secret(r.Uplink.Password), Batch: r.Stats.Batch,
		},
		Log: r.Log.Level,
	}
	c.Uplink.Window, _ = time.ParseDuration(r.Stats.Window) // checked
	for _, cam := range r.Cameras {
		after, _ := time.ParseDuration(cam.Placeholder.After) // checked
		c.Cameras = append(c.Cameras, capture.Config{
			ID: cam.ID, Source: cam.Source, Sub: cam.Sub, Username: cam.Username, Password: capture.Secret(cam.Password),
			TLSFingerprint: cam.TLSFingerprint,
			Video:          capture.VideoConfig(cam.Video), RPiCam: capture.RPiCamConfig(cam.RPiCam), Audio: capture.AudioConfig(cam.Audio),
			Placeholder: capture.PlaceholderConfig{Disabled: !cam.Placeholder.Enabled, After: after},
			Motion:      capture.MotionConfig(cam.Motion),
			Controls:    cam.Controls.typed(),
		})
	}
	if len(r.WebRTC.STUN) > 0 {
		c.WebRTC.ICEServers = append(c.WebRTC.ICEServers, forward.ICEServer{URLs: r.WebRTC.STUN})
	}
	for _, s := range r.WebRTC.TURN {
		c.WebRTC.ICEServers = append(c.WebRTC.ICEServers, *s)
	}
	for _, k := range r.Auth.Keys {
		key, _ := parseKey(k) // checked
		c.Auth.Keys = append(c.Auth.Keys, key)
	}
	return c
}
