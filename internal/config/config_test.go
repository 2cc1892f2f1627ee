package config

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edged/capture"
)

// A corpus of documents, shared with the schema's tests. want holds, line by
// line, how each fault must begin; beyond marks what only Parse can see.
type sample struct {
	name, doc, want string
	beyond          bool
}

var key32 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

var corpus = []sample{
	{name: "empty", doc: ""},
	{name: "comment", doc: "# nothing\n"},
	{name: "json", doc: `{"name":"a","cameras":[{"id":"x","source":"pattern:"}]}`},
	{name: "json with tabs", doc: "{\n\t\"name\": \"a\"\n}\n"},
	{name: "flow yaml", doc: "{name: a, cameras: [{id: x, source: 'pattern:'}]}"},
	{name: "bom and crlf", doc: "\ufeffname: a\r\nlog:\r\n  level: warn\r\n"},
	{name: "whole number as float", doc: "turn: {per_user: 8.0}"},
	{name: "sources", doc: `
cameras:
  - {id: a, source: "rtsp://10.0.0.5:554/main?x=1", username: u, password: "p,w"}
  - {id: b, source: "rtsps://cam.local/h264#transport=tcp"}
  - {id: c, source: "v4l2:auto", audio: {enabled: true, device: "hw:Webcam_1,0"}}
  - {id: d, source: "v4l2:/dev/v4l/by-id/usb-x"}
  - {id: e, source: "file:/clip.mp4"}
  - {id: f, source: "file:///srv/clip.h264", video: {width: 320, height: 240, fps: 1, bitrate: 50000}}
  - {id: 0-9, source: "pattern:", sub: "", video: {codec: h264, layers: 3}, audio: {enabled: false}}
  - {id: g, source: "rtsp://10.0.0.5/main", sub: "RTSPS://10.0.0.5/sub#transport=tcp", video: {width: 64, height: 64, layers: 3}}
  - {id: h, source: "rpicam:0"}
  - {id: i, source: "rpicam:15", rpicam: {flip: both, exposure: sport, shutter: 8000, awb: daylight, focus: continuous}}
`},
	{name: "addresses", doc: `
http: {listen: "127.0.0.1:0", origins: ["*", "https://a.example:8443"]}
webrtc: {udp: "[::1]:0", tcp: "", public_ips: ["192.0.2.1", "2001:db8::1"], stun: ["stun:a", "stuns:a:443", "stun:[2001:db8::1]:3478"], turn: [{urls: ["turn:a:1?transport=tcp", "turns:b"], username: u, credential: c}]}
turn: {listen: "localhost:3478", public_ip: "192.0.2.1"}
`},
	{name: "keys", doc: "auth: {open: true, keys: ['" + key32 + "', " + strings.TrimRight(key32, "=") + "]}"},
	{name: "uplink", doc: "uplink: {enabled: true, servers: ['mqtts://b:8883', 'wss://b/mqtt', 'mqtt://[::1]'], tenant: t-1, client_cert: /a, client_key: /b}\nstats: {window: 1m30s, batch: 60}"},
	{name: "tls", doc: "http: {tls: {cert: /c, key: /k, require: true}}"},
	{name: "self-signed", doc: "http: {tls: {self_signed: true, require: true}}"},
	{name: "same port, other protocol", doc: "http: {listen: ':9000'}\nwebrtc: {udp: ':9000', tcp: ''}\nturn: {listen: ':9001'}"},
	{name: "same port, other address", doc: "http: {listen: '127.0.0.1:9000'}\nwebrtc: {udp: '127.0.0.2:9000'}"},
	{name: "turn off on a used port", doc: "webrtc: {udp: ':3478'}\nturn: {enabled: false}"},

	{name: "fps", doc: "cameras: [{id: a, source: 'pattern:'}, {id: b, source: 'pattern:'}, {id: c, source: 'pattern:', video: {fps: 0}}]",
		want: "cameras[2].video.fps: 0 is not in 1..60"},
	{name: "several", doc: "nam: x\ncameras:\n - {id: A b, source: 'http://x'}\n - {source: 7}\nlog: {level: loud}",
		want: `nam: unknown key; there are name, cameras,
cameras[0].id: "A b" does not match
cameras[0].source: "http://x": the scheme is not one of rtsp, rtsps, v4l2, rpicam, file, pattern
cameras[1].source: 7 is not a text: put it in quotes
cameras[1].id: missing
log.level: "loud" is not one of debug, info, warn, error`},
	{name: "kinds", doc: "name: 12\ncameras: {}\nhttp: []\nwebrtc: {max_viewers: many}\nturn: {enabled: 1, max_allocations: 1.5}\nauth: null\nstats: {window: 60, batch: '5'}",
		want: `name: 12 is not a text: put it in quotes
cameras: a mapping is not a list
http: a list is not a mapping of keys to values
webrtc.max_viewers: "many" is not a whole number
turn.enabled: 1 is not true or false
turn.max_allocations: 1.5 is not a whole number
auth: null is not a mapping of keys to values
stats.window: 60 is not a duration such as 60s
stats.batch: "5" is not a whole number`},
	{name: "not yet", doc: `
cameras:
  - {id: a, source: "whip:", video: {codec: av1}, audio: {enabled: true}}
  - {id: w, source: "whip:x"}
  - {id: c, source: "edged://box/cam"}
turn: {tls_listen: ":5349", max_bps: 5, allow_peers: [10.0.0.0/8], deny_peers: [x]}
uplink: {trust: [k]}
`, want: `cameras[0].video.codec: "av1" is not in this version: only "h264" is
cameras[1].source: "whip:x": there is nothing after whip:
cameras[2].source: "edged://box/cam": edged: is not in this version
turn.tls_listen: ":5349" is not in this version: leave it out
turn.max_bps: 5 is not in this version: only 0 is
turn.allow_peers: a list is not in this version: leave it out
turn.deny_peers: a list is not in this version: leave it out
uplink.trust: a list is not in this version: leave it out`},
	{name: "ranges", doc: `
cameras: [{id: a, source: "pattern:", video: {width: 15, height: 721, fps: 61, bitrate: 49999, encoder: x264, layers: 4}}]
webrtc: {max_viewers: 0, max_cpu: 101, min_memory: -1, max_bitrate: -1}
turn: {per_user: 10001}
`, want: `cameras[0].video.width: 15 is not in 16..4096
cameras[0].video.height: 721 is not even
cameras[0].video.fps: 61 is not in 1..60
cameras[0].video.bitrate: 49999 is not in 50000..50000000
cameras[0].video.encoder: "x264" is not one of auto, openh264, v4l2m2m
cameras[0].video.layers: 4 is not in 1..3
webrtc.max_viewers: 0 is not in 1..10000
webrtc.max_cpu: 101 is not in 0..100
webrtc.min_memory: -1 is not in 0..1099511627776
webrtc.max_bitrate: -1 is not in 0..100000000000
turn.per_user: 10001 is not in 1..10000`},
	{name: "bad sources", doc: `
cameras:
  - {id: a, source: "rtsp:/main"}
  - {id: b, source: "v4l2:video0"}
  - {id: c, source: "pattern:bars"}
  - {id: d, source: ""}
  - {id: e, source: "camera"}
  - {id: f, source: "file:"}
  - {id: g, source: "rtsp://h/main", sub: "rtsp:/sub"}
  - {id: h, source: "rtsp://h/main", sub: "file:/sub.mp4"}
  - {id: i, source: "rtsps://h/main", tls_fingerprint: "12:34"}
`, want: `cameras[0].source: "rtsp:/main" is not rtsp://HOST[:PORT]/PATH
cameras[1].source: "v4l2:video0" is not v4l2:auto or v4l2:/dev/
cameras[2].source: "pattern:bars": there is nothing after pattern:
cameras[3].source: "" is not 1 to 1024 characters long
cameras[4].source: "camera" is not a source such as
cameras[5].source: "file:" names no file
cameras[6].sub: "rtsp:/sub" is not rtsp://HOST[:PORT]/PATH
cameras[7].sub: "file:/sub.mp4" is not rtsp:// or rtsps://, then HOST
cameras[8].tls_fingerprint: "12:34" is not a SHA-256`},
	{name: "sources beyond", beyond: true, doc: `
cameras:
  - {id: a, source: "rtsp://x:0/main"}
  - {id: b, source: "rtsp://x/main#tcp"}
  - {id: c, source: "pattern:", sub: "rtsp://x/sub"}
  - {id: d, source: "rtsp://x/main", sub: "rtsp://x:0/sub"}
  - {id: e, source: "rtsp://x/main", tls_fingerprint: "` + print32 + `"}
`, want: `cameras[0].source: "rtsp://x:0/main": port 0 is not in 1..65535
cameras[1].source: "rtsp://x/main#tcp": what follows # is not
cameras[3].sub: "rtsp://x:0/sub": port 0 is not in 1..65535
cameras[2].sub: only a camera whose source is rtsp:// or rtsps://
cameras[4].tls_fingerprint: only a camera whose source is rtsps://`},
	{name: "microphone of a camera with sound", beyond: true, doc: `
cameras:
  - {id: a, source: "v4l2:auto", audio: {enabled: true, device: "hw:1,0"}}
  - {id: b, source: "pattern:", audio: {enabled: true, device: "hw:1,0"}}
`, want: `cameras[1].audio.device: only a camera whose source is v4l2: or rpicam: has a microphone; the sound of others comes with their pictures`},
	{name: "no name of a microphone", doc: `
cameras:
  - {id: a, source: "v4l2:auto", audio: {device: "plughw:1"}}
`, want: `cameras[0].audio.device: "plughw:1" is neither auto nor hw:CARD,DEVICE, as hw:1,0 or hw:Webcam,0`},
	{name: "layers too small", beyond: true, doc: `
cameras:
  - {id: a, source: "pattern:", video: {width: 254, height: 144, layers: 3}}
  - {id: b, source: "v4l2:auto", video: {width: 640, height: 62, layers: 2}}
  - {id: c, source: "v4l2:auto", video: {width: 256, height: 144, layers: 3}}
`, want: `cameras[0].video.layers: 3: the smallest of 254 × 144 would have 62 × 36 pixels, the least is 64 × 32
cameras[1].video.layers: 2: the smallest of 640 × 62 would have 320 × 30 pixels`},
	{name: "users of two URLs", beyond: true, doc: `
cameras:
  - {id: a, source: "rtsp://u:p1@x/main", sub: "rtsp://u:p2@x/sub"}
  - {id: b, source: "rtsp://x/main", sub: "rtsp://u:p@x/sub", username: u}
`, want: `cameras[0].sub: other credentials than in the camera's other URL
cameras[1].sub: credentials in the sub and in username or password`},
	{name: "bad texts", doc: `
http: {listen: "8080", origins: ["a.example"]}
webrtc: {public_ips: [host], stun: ["turn:x"], turn: [{username: u}, {urls: []}]}
auth: {keys: [abc]}
uplink: {servers: ["http://x"], tenant: Big}
stats: {window: soon}
`, want: `http.listen: "8080" is not an address such as :8080
http.origins[0]: "a.example" is not "*" or an origin
webrtc.public_ips[0]: "host" is not an IP address
webrtc.stun[0]: "turn:x" is not stun: or stuns:, then HOST[:PORT]
webrtc.turn[0].urls: missing
webrtc.turn[1].urls: 0 items are not in 1..4
auth.keys[0]: "abc" is not 43 to 44 characters long
uplink.servers[0]: "http://x" is not mqtt://, mqtts://, ws:// or wss://
uplink.tenant: "Big" does not match
stats.window: "soon" is not a duration such as 60s`},
	{name: "texts beyond", beyond: true, doc: `
http: {listen: ":70000"}
webrtc: {public_ips: ["0.0.0.0"], stun: ["stun:a:0"]}
turn: {public_ip: "ff02::1", listen: "[1:2]:3"}
auth: {keys: ["BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"]}
uplink: {servers: ["mqtts://:1"]}
stats: {window: 2h}
`, want: `http.listen: ":70000": port "70000" is not in 0..65535
webrtc.public_ips[0]: "0.0.0.0" is not the address of one host
webrtc.stun[0]: "stun:a:0" is not
turn.public_ip: "ff02::1" is not the address of one host
turn.listen: "[1:2]:3": "1:2" is not an IP address
auth.keys[0]: "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB" is not an Ed25519 public key
uplink.servers[0]: "mqtts://:1" is not
stats.window: "2h" is not in 1s..1h0m0s`},
	{name: "server beyond", beyond: true, doc: "uplink: {servers: ['ws://b/mqtt?x=1', 'mqtt://b//', 'mqtts://b#f']}",
		want: `uplink.servers[0]: "ws://b/mqtt?x=1": a query
uplink.servers[1]: "mqtt://b//": a path has no meaning
uplink.servers[2]: "mqtts://b#f": a query or a fragment`},
	{name: "small pattern", beyond: true, doc: "cameras: [{id: a, source: 'pattern:', video: {width: 158, height: 64}}, {id: b, source: 'v4l2:auto', video: {width: 158, height: 64}}]",
		want: `cameras[0].video.width: 158 is below 160
cameras[0].video.height: 64 is below 80`},
	{name: "duplicate ids", beyond: true, doc: "cameras: [{id: a, source: 'pattern:'}, {id: b, source: 'pattern:'}, {id: a, source: 'pattern:'}]",
		want: `cameras[2].id: "a" is the id of cameras[0] already`},
	{name: "pairs", beyond: true, doc: "http: {tls: {cert: /c}}\nuplink: {client_key: /k, enabled: true}",
		want: "http.tls.key: missing, but cert is given\nuplink.client_cert: missing, but client_key is given\nuplink.servers: empty, but the uplink is enabled"},
	{name: "tls nonsense", beyond: true, doc: "http: {tls: {require: true}}",
		want: "http.tls.require: true, but neither self_signed nor a certificate"},
	{name: "tls twice", beyond: true, doc: "http: {tls: {self_signed: true, cert: a, key: b}}",
		want: "http.tls.self_signed: true, but a certificate is given too"},
	{name: "clashes", beyond: true, doc: "http: {listen: ':9000'}\nwebrtc: {udp: '0.0.0.0:9000'}\nturn: {listen: '127.0.0.1:9000'}",
		want: "webrtc.tcp: \"0.0.0.0:9000\" is taken by http.listen (\":9000\") already\nturn.listen: \"127.0.0.1:9000\" is taken by webrtc.udp (\"0.0.0.0:9000\") already"},
	{name: "duplicate keys", beyond: true, doc: "name: a\nname: b\nlog: {level: info, level: warn}",
		want: "name: given twice\nlog.level: given twice"},
	{name: "duplicate keys in JSON", beyond: true, doc: `{"log":{"level":"info","level":"warn"}}`,
		want: "log.level: given twice"},
	{name: "stars for a secret", doc: "cameras: [{id: a, source: 'pattern:', password: '***'}]",
		want: `cameras[0].password: "***" stands for a secret and is none`},
	{name: "odd key", doc: `{"a/b~c d": 1}`, want: `"a/b~c d": unknown key`},
	{name: "a list", doc: "- name: a\n", want: "a list, not a mapping of keys to values"},
}

func TestParse(t *testing.T) {
	for _, s := range corpus {
		t.Run(s.name, func(t *testing.T) {
			_, err := Parse([]byte(s.doc))
			wantFaults(t, err, s.want)
		})
	}
}

func wantFaults(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("faults:\n%v", err)
		}
		return
	}
	var fs Faults
	if !errors.As(err, &fs) {
		t.Fatalf("err %v is no Faults", err)
	}
	lines := strings.Split(want, "\n")
	for i, f := range fs {
		if i >= len(lines) || !strings.HasPrefix(f.String(), lines[i]) {
			t.Errorf("fault %d: %s", i, f)
		}
	}
	if len(fs) < len(lines) {
		t.Errorf("%d faults, want %d:\n%v", len(fs), len(lines), err)
	}
}

func TestUnreadable(t *testing.T) {
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	for _, c := range []struct{ name, doc, want string }{
		{"syntax", "name: a\n  log: b\n", "line 1:7: "},
		{"tab", "http:\n\tlisten: x\n", "line 2:"},
		{"unclosed", `{"name": "a"`, "line 1:"},
		{"anchor", "name: &a x\n", "name: line 1:"},
		{"alias bomb", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "a: line 1:"},
		{"merge", "http:\n  <<: {listen: ':1'}\n", "http: line 2:"},
		{"tag", "name: !!binary aGk=\n", "name: line 1:"},
		{"two documents", "name: a\n---\nname: b\n", "line 3:5: more than one YAML document"},
		{"not utf-8", "name: \xff\n", "not a text in UTF-8"},
		{"nul", "name: \x00\n", "not a text in UTF-8"},
		{"too large", "#" + strings.Repeat("x", MaxDocument), "98305 bytes, the limit is 98304"},
		{"too many lines", strings.Repeat("- a\n", 3001), "3001 lines besides comments, the limit is 3000"},
		{"deep json", deep("[", "]", 5000), "nested more than"},
		{"deep flow", "a: " + deep("[", "]", 5000) + " x: y", "line 1: nested more than"},
		{"deep objects", deep(`{"a":`, "}", 5000), "nested more than"},
		{"deep blocks", strings.Repeat("- ", 30000), "line 1: nested more than"},
		{"deep lines", strings.Repeat("[\n", 900), "line 65: nested more than"},
		{"deep enough for us", "name: " + deep("[", "]", 40), "name[0][0]"},
		{"scalar", "42", "42, not a mapping"},
	} {
		_, err := Parse([]byte(c.doc))
		var fs Faults
		if !errors.As(err, &fs) || len(fs) == 0 {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %.200v, want %q", c.name, err, c.want)
		}
	}
}

func TestManyFaultsAreBounded(t *testing.T) {
	_, err := Parse([]byte("auth: {keys: [" + strings.Repeat("1,", 9) + "1]}\nx: [" + strings.Repeat("1,", 40000) + "1]"))
	var fs Faults
	if !errors.As(err, &fs) || len(fs) != 11 {
		t.Errorf("%d faults", len(fs))
	}
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	_, err = Parse([]byte(b.String()))
	if !errors.As(err, &fs) || len(fs) != maxFaults+1 || fs[maxFaults].String() != "there are more faults" {
		t.Errorf("%d faults", len(fs))
	}
}

func TestFaultForms(t *testing.T) {
	_, err := Parse([]byte(`{"cameras":[{"id":"a","source":"pattern:","video":{"fps":0}}],"a/b~c":1}`))
	var fs Faults
	if !errors.As(err, &fs) || len(fs) != 2 {
		t.Fatal(err)
	}
	if fs[0] != (Fault{"cameras[0].video.fps", "/cameras/0/video/fps", "0 is not in 1..60"}) {
		t.Errorf("%+v", fs[0])
	}
	if fs[1].Pointer != "/a~1b~0c" {
		t.Errorf("%+v", fs[1])
	}
	want := "box.yaml: cameras[0].video.fps: 0 is not in 1..60\nbox.yaml: \"a/b~c\": unknown key; "
	if got := fs.In("box.yaml"); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}

// print32 is a fingerprint as openssl prints it.
var print32 = "AB" + strings.Repeat(":cd", 31)

func TestTyped(t *testing.T) {
	c, err := Parse([]byte(`
name: gate
cameras:
  - {id: a, source: "rtsps://h/p", sub: "rtsp://h/s", username: u, password: s3cret, tls_fingerprint: "` + print32 + `", video: {fps: 5, encoder: openh264, layers: 2}, rpicam: {flip: both, shutter: 8000}, audio: {enabled: true}, placeholder: {enabled: false, after: 90s}, motion: {enabled: true, blocks: 3}}
http: {listen: ":1", tls: {cert: c, key: k, require: true}, origins: ["*"]}
webrtc: {udp: ":2", public_ips: [192.0.2.1], stun: ["stun:s"], turn: [{urls: ["turn:t"], username: n, credential: w}], max_viewers: 3, max_cpu: 80, min_memory: 0, max_bitrate: 20000000}
turn: {enabled: false, public_ip: "2001:db8::1", realm: r, max_allocations: 9, per_user: 2, listen: ":4"}
auth: {open: true, keys: ["` + key32 + `"]}
uplink: {enabled: true, servers: ["mqtt://b"], password: w0rd, tenant: t, ca: /ca}
stats: {window: 30s, batch: 2}
log: {level: debug}
`))
	if err != nil {
		t.Fatal(err)
	}
	cam := capture.Config{ID: "a", Source: "rtsps://h/p", Sub: "rtsp://h/s", Username: "u", Password: "s3cret", TLSFingerprint: print32,
		Video:  capture.VideoConfig{Width: 1280, Height: 720, FPS: 5, Bitrate: 2500000, Encoder: "openh264", Layers: 2},
		RPiCam: capture.RPiCamConfig{Flip: "both", Exposure: "normal", Shutter: 8000, AWB: "auto", Focus: "default"}, Audio: capture.AudioConfig{Enabled: true, Device: "auto"},
		Placeholder: capture.PlaceholderConfig{Disabled: true, After: 90 * time.Second}, Motion: capture.MotionConfig{Enabled: true, Threshold: 12, Blocks: 3}}
	if len(c.Cameras) != 1 || c.Cameras[0] != cam {
		t.Errorf("cameras %+v", c.Cameras)
	}
	if h := c.HTTP; h.Listen != ":1" || h.CertFile != "c" || h.KeyFile != "k" || !h.RequireTLS || h.SelfSigned || len(h.Origins) != 1 {
		t.Errorf("http %+v", h)
	}
	if w := c.WebRTC; w.UDP != ":2" || w.TCP != ":2" || w.MaxViewers != 3 || w.MaxCPU != 80 || w.MinMemory != 0 || w.MaxBitrate != 20e6 || w.PublicIPs[0] != netip.MustParseAddr("192.0.2.1") ||
		w.ICEServers[0].URLs[0] != "stun:s" || w.ICEServers[1].URLs[0] != "turn:t" || w.ICEServers[1].Credential != "w" {
		t.Errorf("webrtc %+v", w)
	}
	if u := c.TURN; u.Enabled || u.Listen != ":4" || u.Realm != "r" || u.PublicIP.String() != "2001:db8::1" || u.MaxAllocations != 9 || u.PerUser != 2 {
		t.Errorf("turn %+v", u)
	}
	if !c.Auth.Open || !c.Auth.Keys[0].Equal(ed25519.PublicKey(bytes.Repeat([]byte{7}, 32))) {
		t.Errorf("auth %+v", c.Auth)
	}
	if u := c.Uplink; !u.Enabled || u.Servers[0] != "mqtt://b" || string(u.Password) != "w0rd" || u.Tenant != "t" || u.CA != "/ca" || u.Window != 30*time.Second || u.Batch != 2 {
		t.Errorf("uplink %+v", u)
	}
	if c.Name != "gate" || c.Log != slog.LevelDebug {
		t.Errorf("%q %v", c.Name, c.Log)
	}
	js, _ := json.Marshal(c)
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, js); strings.Contains(s, "s3cret") || strings.Contains(s, "w0rd") {
		t.Errorf("secrets print: %s", s)
	}
}

func TestDefaults(t *testing.T) {
	c := Default()
	if len(c.Cameras) != 1 || c.Cameras[0].ID != "demo" || c.Cameras[0].Source != "pattern:" {
		t.Errorf("cameras %+v", c.Cameras)
	}
	if c.HTTP.Listen != ":8080" || c.WebRTC.UDP != ":8189" || c.WebRTC.TCP != ":8189" || c.TURN.Listen != ":3478" || !c.TURN.Enabled {
		t.Errorf("%+v %+v %+v", c.HTTP, c.WebRTC, c.TURN)
	}
	if c.Uplink.Enabled || c.Uplink.Window != time.Minute || c.Uplink.Batch != 5 || c.WebRTC.MaxViewers != 64 || c.WebRTC.MaxCPU != 90 || c.WebRTC.MinMemory != 32<<20 || c.WebRTC.MaxBitrate != 0 || c.TURN.PerUser != 8 {
		t.Errorf("%+v", c.Uplink)
	}
	if c.TURN.PublicIP.IsValid() || c.Log != slog.LevelInfo || c.Auth.Open {
		t.Errorf("%+v %v", c.TURN, c.Log)
	}
	doc := DefaultDocument(capture.Config{ID: "usb", Source: "v4l2:/dev/video0"})
	c, err := Parse(doc)
	if err != nil || len(c.Cameras) != 2 || c.Cameras[1].Source != "v4l2:/dev/video0" {
		t.Errorf("%s: %+v, %v", doc, c.Cameras, err)
	}
}

// Credentials in a URL are taken out of it, and no fault ever shows one.
func TestCredentialsInSource(t *testing.T) {
	c, err := Parse([]byte(`cameras: [{id: a, source: "rtsp://admin:s3cr%40t@10.0.0.5:554/main?x=1"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if cam := c.Cameras[0]; cam.Source != "rtsp://10.0.0.5:554/main?x=1" || cam.Username != "admin" || cam.Password != "s3cr@t" {
		t.Errorf("%s %s %s", cam.Source, cam.Username, string(cam.Password))
	}
	for _, doc := range []string{
		`cameras: [{id: a, source: "rtsp://u:s3cr%40t@h/p", sub: "rtsp://u:s3cr%40t@h/q"}]`,
		`cameras: [{id: a, sub: "rtsp://u:s3cr%40t@h/q", source: "rtsp://h/p"}]`,
	} {
		c, err := Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if cam := c.Cameras[0]; cam.Source != "rtsp://h/p" || cam.Sub != "rtsp://h/q" || cam.Username != "u" || cam.Password != "s3cr@t" {
			t.Errorf("%s %s %s %s", cam.Source, cam.Sub, cam.Username, string(cam.Password))
		}
	}
	for _, doc := range []string{
		`cameras: [{id: a, source: "rtsp://admin:s3cret@h/p", password: x}]`,
		`cameras: [{id: a, source: "rtsp://h/p", sub: "rtsp://admin:s3cret@h/q", password: x}]`,
		`cameras: [{id: a, source: "rtsp://admin:s3cret1@h/p", sub: "rtsp://admin:s3cret2@h/q"}]`,
		`cameras: [{id: a, source: "rtsp://h/p", sub: "rtsp://admin:s3cret%zz@h/q"}]`,
		`cameras: [{id: a, source: "rtsp://h/p", sub: "http://admin:s3cret@h/q?password=s3cret"}]`,
		`cameras: [{id: a, source: "rtsp://admin:s3cret%zz@h/p"}]`,
		`cameras: [{id: a, source: "rtsp://admin:s3cret@h:0/p"}]`,
		`cameras: [{id: a, source: "http://admin:s3cret@h:0/p"}]`,
		`cameras: [{id: a, source: "http://h/?user=u&password=s3cret"}]`,
		`cameras: [{id: a, source: "pattern:", password: {s3cret: s3cret}}]`,
		`cameras: [{id: a, source: "pattern:", password: [s3cret]}]`,
		`cameras: [{id: a, source: "pattern:", password: 73313373313}]`,
		`uplink: {servers: ["mqtts://u:s3cret@h"]}`,
		`webrtc: {turn: [{urls: ["turn:h"], credential: 73313373313}]}`,
		`cameras: [{id: a, source: "pattern:", sub: "rtsp://u:s3cret@h"}]`,
	} {
		_, err := Parse([]byte(doc))
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "73313373313") {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range corpus {
		f.Add([]byte(s.doc))
	}
	f.Add(reference)
	f.Add([]byte("a: &a [*a]\n? b\n: !!str c\n--- \n%YAML 1.2\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse(doc)
		var fs Faults
		if err != nil {
			if !errors.As(err, &fs) || len(fs) == 0 || len(fs) > maxFaults+1 {
				t.Fatalf("err %v", err)
			}
			return
		}
		hidden, err := Redacted(doc)
		if err != nil {
			t.Fatalf("taken, but not redacted: %v", err)
		}
		back, err := Merge(doc, hidden)
		if err != nil {
			t.Fatalf("redacted, but not merged: %v\n%s", err, hidden)
		}
		again, err := Parse(back)
		if err != nil || !Diff(c, again).None() {
			t.Fatalf("round trip: %v\n%s", err, back)
		}
	})
}
