package config

import (
	"math"
	"strings"
	"time"

	"edged/capture"
	"edged/capture/motion"
)

// none is the default of a list that may be empty.
var none = []any{}

// document is the table of `edged.config/1`.
var document = &node{kind: mapping, doc: "The configuration of one box, edged.config/1.", keys: []field{
	{"name", &node{kind: text, def: "", max: 64, check: checkPlain,
		doc: "What people call the box. Empty: its host name."}},
	{"cameras", &node{kind: list, def: none, max: 64, item: camera, id: "id",
		doc: "The cameras, in the order of the page."}},
	{"http", &node{kind: mapping, doc: "The web server: page, WHEP, WebSocket, API, metrics.", keys: []field{
		{"listen", listen(":8080", "TCP address to listen on; port 0 takes any free port.")},
		{"tls", &node{kind: mapping, doc: "HTTPS.", keys: []field{
			{"cert", file("PEM file with the certificate and its chain; with key: HTTPS.")},
			{"key", file("PEM file with the certificate's private key.")},
			{"self_signed", flag(false, "HTTPS with a certificate that the box makes for itself.")},
			{"require", flag(false, "Answer plain HTTP with 426.")},
		}}},
		{"origins", &node{kind: list, def: none, max: 32,
			item: &node{kind: text, min: 1, max: 256, check: checkOrigin, pattern: `^(\*|https?://[^/?# ]+)$`},
			doc:  `Origins of other web pages that may use the API (CORS); "*" for all.`}},
	}}},
	{"webrtc", &node{kind: mapping, doc: "Media to viewers.", keys: []field{
		{"udp", listen(":8189", "UDP address for all media; port 0 takes any free port.")},
		{"tcp", &node{kind: text, max: 256, check: checkTCP, pattern: `^$|` + listenPattern,
			doc: "TCP address of ICE-TCP; port 0 takes the UDP port; empty: none. Default: as udp."}},
		{"public_ips", &node{kind: list, def: none, max: 8, item: &node{kind: text, min: 2, max: 64, check: checkIP, pattern: ipPattern},
			doc: "Addresses of a 1:1 NAT or port-forward, offered besides the box's own."}},
		{"stun", &node{kind: list, def: none, max: 8,
			item: &node{kind: text, min: 6, max: 256, check: checkICE("stun:", "stuns:"), pattern: `^stuns?:.+$`},
			doc:  "STUN servers for viewers, stun:HOST[:PORT]."}},
		{"turn", &node{kind: list, def: none, max: 8, item: relay, id: "urls",
			doc: "TURN servers for viewers, besides the box's own."}},
		{"max_viewers", number1(64, 10000, "Viewers at once, over all cameras.")},
		{"max_cpu", &node{kind: whole, def: int64(90), min: 0, max: 100,
			doc: "No viewer is admitted while more of the CPU is in use, in percent, and frames are late; 0: no bound."}},
		{"min_memory", &node{kind: whole, def: int64(32 << 20), min: 0, max: 1 << 40,
			doc: "No viewer is admitted while fewer bytes of memory are available; 0: no bound."}},
		{"max_bitrate", &node{kind: whole, def: int64(0), min: 0, max: 100_000_000_000,
			doc: "Bits a second to all viewers; a viewer is admitted where its lowest layer fits; 0: no bound."}},
	}}},
	{"turn", &node{kind: mapping, doc: "The embedded TURN server.", keys: []field{
		{"enabled", flag(true, "Whether it runs.")},
		{"listen", listen(":3478", "UDP address to listen on; port 0 takes any free port.")},
		{"tls_listen", later(text, "", "TCP address for TURN over TLS.")},
		{"realm", &node{kind: text, def: "edged", min: 1, max: 127, check: checkPlain,
			doc: "Realm of the credentials (RFC 8489)."}},
		{"public_ip", &node{kind: text, def: "", min: 2, max: 64, check: checkIP, pattern: `^$|` + ipPattern,
			doc: "Address that viewers reach the box at, where it is not the box's own. Empty: the address they used."}},
		{"max_allocations", number1(64, 10000, "Allocations at once, in all.")},
		{"per_user", number1(8, 10000, "Allocations at once of one viewer.")},
		{"max_bps", later(whole, int64(0), "Limit of one allocation, in bits a second; 0: none.")},
		{"allow_peers", later(list, nil, "Networks that may be relayed to, besides the box's own SFU.")},
		{"deny_peers", later(list, nil, "Networks that may not be relayed to.")},
	}}},
	{"auth", &node{kind: mapping, doc: "Who may do what.", keys: []field{
		{"open", flag(false, "true: anybody on the network may view, without a token.")},
		{"keys", &node{kind: list, def: none, max: 16,
			item: &node{kind: text, min: 43, max: 44, check: checkKey, pattern: `^[A-Za-z0-9+/_-]{43}=?$`},
			doc:  "Ed25519 public keys in base64 whose tokens are accepted, besides the box's own."}},
	}}},
	{"uplink", &node{kind: mapping, doc: "The way to the console, over MQTT.", keys: []field{
		{"enabled", flag(false, "Whether it runs.")},
		{"servers", &node{kind: list, def: none, max: 8,
			item: &node{kind: text, min: 1, max: 256, check: checkServer, pattern: `^(mqtts?|wss?)://[^@]+$`},
			doc:  "Brokers, tried in turn: mqtt://, mqtts://, ws:// or wss://, then HOST[:PORT]."}},
		{"tenant", &node{kind: text, def: "default", min: 1, max: 16, pattern: `^[a-z0-9-]{1,16}$`,
			doc: "Whose box it is; part of every topic."}},
		{"client_cert", file("PEM file with the client certificate.")},
		{"client_key", file("PEM file with the client certificate's private key.")},
		{"ca", file("PEM file with the authorities to trust. Empty: the system's.")},
		{"username", &node{kind: text, def: "", max: 256, check: checkPlain, doc: "MQTT user name."}},
		{"password", secret("MQTT password.")},
		{"trust", later(list, nil, "Keys that sign configurations and commands.")},
	}}},
	{"stats", &node{kind: mapping, doc: "Statistics sent over the uplink.", keys: []field{
		{"window", &node{kind: duration, def: "60s", min: int64(time.Second), max: int64(time.Hour),
			doc: "Length of one window."}},
		{"batch", number1(5, 60, "Windows in one message.")},
	}}},
	{"log", &node{kind: mapping, doc: "The log.", keys: []field{
		{"level", &node{kind: text, def: "info", min: 1, max: 8, enum: []string{"debug", "info", "warn", "error"},
			doc: "The least level that is logged."}},
	}}},
}}

var camera = &node{kind: mapping, doc: "One camera.", keys: []field{
	{"id", &node{kind: text, required: true, min: 1, max: 32, pattern: `^[a-z0-9][a-z0-9-]{0,31}$`,
		doc: "Its name in URLs, topics and tokens; unique."}},
	{"source", &node{kind: text, required: true, masked: true, min: 1, max: 1024, check: checkSource,
		pattern: `^([Rr][Tt][Ss][Pp][Ss]?://.+|v4l2:(auto|/dev/.+)|rpicam:([0-9]|1[0-5])|file:.+|pattern:|whip:)$`,
		doc:     "Where it is: rtsp(s)://HOST/PATH, v4l2:auto, v4l2:/dev/…, rpicam:NUMBER, file:PATH, pattern:, whip: (others publish to it). After rtsp://… #transport=udp or tcp fixes the transport."}},
	{"sub", &node{kind: text, def: "", masked: true, min: 1, max: 1024, check: checkSub,
		pattern: `^$|^[Rr][Tt][Ss][Pp][Ss]?://.+`,
		doc:     "Only with an rtsp(s):// source: the URL of a second, smaller encoding of the same scene, with the same user. Empty: none."}},
	{"username", &node{kind: text, def: "", max: 256, check: checkPlain, doc: "User name for the camera."}},
	{"password", secret("Password for the camera.")},
	{"tls_fingerprint", &node{kind: text, def: "", max: 95, check: checkFingerprint, pattern: `^$|^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$`,
		doc: "Only with an rtsps:// source: the SHA-256 of the one certificate to trust, in hexadecimal, colons or not. Empty: the system's authorities."}},
	{"video", &node{kind: mapping, doc: "What is encoded on the box; cameras that encode ignore it.", keys: []field{
		{"width", &node{kind: whole, def: int64(1280), min: 16, max: 4096, even: true, doc: "Pixels."}},
		{"height", &node{kind: whole, def: int64(720), min: 16, max: 4096, even: true, doc: "Pixels."}},
		{"fps", number1(30, 60, "Frames a second.")},
		{"bitrate", &node{kind: whole, def: int64(2_500_000), min: 50_000, max: 50_000_000, doc: "Bits a second."}},
		{"codec", later(text, "h264", "The codec.")},
		{"encoder", &node{kind: text, def: capture.EncoderAuto, min: 1, max: 16, enum: []string{capture.EncoderAuto, capture.EncoderOpenH264, capture.EncoderM2M},
			doc: "What encodes: the box's chip where that works and else OpenH264, or one of them alone."}},
		{"layers", number1(1, capture.MaxLayers, "Encodings of the scene, each half as wide and high as the one before, with a fifth of its bitrate; the smallest at least 64 × 32 pixels.")},
	}}},
	{"rpicam", &node{kind: mapping, doc: "What rpicam: cameras set of the camera; others ignore it.", keys: []field{
		{"flip", words("Mirrored, or both: turned by 180 degrees.", capture.RPiCamFlips)},
		{"exposure", words("sport: shorter, for what moves.", capture.RPiCamExposures)},
		{"shutter", &node{kind: whole, def: int64(0), min: 0, max: 10_000_000, doc: "Time of exposure in microseconds; 0: as bright as it should be."}},
		{"awb", words("White balance.", capture.RPiCamAWBs)},
		{"focus", words("Of cameras with a motor for it.", capture.RPiCamFocuses)},
	}}},
	{"audio", &node{kind: mapping, doc: "The camera's sound.", keys: []field{
		{"enabled", flag(false, "Whether it is forwarded: Opus and G.711 as the camera or the file has it; a microphone encoded on the box; a pattern beeps.")},
		{"device", &node{kind: text, def: capture.MicrophoneAuto, min: 1, max: 32, check: checkMicrophone,
			pattern: `^(auto|hw:([0-9]{1,2}|[A-Za-z][A-Za-z0-9_]{0,15}),[0-9]{1,2})$`,
			doc:     "The microphone of a v4l2 camera: auto, the one in the same USB device, or hw:CARD,DEVICE, the number or id of a sound card and the number of its device."}},
	}}},
	{"placeholder", &node{kind: mapping, doc: "What viewers see while the camera has no picture.", keys: []field{
		{"enabled", &node{kind: truth, def: true, doc: "A picture that says which camera is offline since when, where viewers get H.264; else the last picture stays."}},
		{"after", &node{kind: duration, def: "10s", min: int64(time.Second), max: int64(time.Hour), doc: "How long after the last picture."}},
	}}},
	{"motion", &node{kind: mapping, doc: "Whether motion in the scene is noticed, four times a second, or at keyframes of cameras that encode.", keys: []field{
		{"enabled", &node{kind: truth, def: false, doc: "Whether it is."}},
		{"threshold", &node{kind: whole, def: int64(motion.DefaultThreshold), min: 4, max: 255, doc: "By how many of 255 steps of brightness a place must differ from a moment ago."}},
		{"blocks", &node{kind: whole, def: int64(motion.DefaultBlocks), min: 1, max: motion.Columns * motion.Rows, doc: "How many of the 16 × 9 blocks of the picture must have changed."}},
	}}},
	{"controls", &node{kind: mapping, doc: "Settings of a V4L2 camera, which others ignore, in its own units but for those that say theirs. What is absent is left as it is; what the camera does not have or take, its state tells.", keys: []field{
		{"exposure", &node{kind: whole, min: 1, max: 100_000_000, doc: "Microseconds; switches exposure_auto off."}},
		{"exposure_auto", ownSetting("Whether the camera chooses the exposure.")},
		{"gain", own("Switches gain_auto off.")},
		{"gain_auto", ownSetting("Whether the camera chooses the gain.")},
		{"white_balance", &node{kind: whole, min: 1000, max: 20_000, doc: "Kelvin; switches white_balance_auto off."}},
		{"white_balance_auto", ownSetting("Whether the camera chooses the white balance.")},
		{"focus", own("Switches focus_auto off.")},
		{"focus_auto", ownSetting("Whether the camera focuses.")},
		{"power_line", &node{kind: text, min: 1, max: 8, enum: powerLines, doc: "Of the light, against flicker."}},
		{"brightness", own("")},
		{"contrast", own("")},
		{"saturation", own("")},
		{"hue", own("")},
		{"gamma", own("")},
		{"sharpness", own("")},
		{"backlight", own("Compensation of light from behind.")},
		{"zoom", own("")},
		{"pan", own("Seconds of arc.")},
		{"tilt", own("Seconds of arc.")},
		{"flip_horizontal", ownSetting("Whether the picture is mirrored.")},
		{"flip_vertical", ownSetting("Whether the picture stands on its head.")},
	}}},
}}

var relay = &node{kind: mapping, doc: "One TURN server.", keys: []field{
	{"urls", &node{kind: list, required: true, min: 1, max: 4,
		item: &node{kind: text, min: 6, max: 256, check: checkICE("turn:", "turns:"), pattern: `^turns?:.+$`},
		doc:  "turn:HOST[:PORT][?transport=udp|tcp] or turns:…."}},
	{"username", &node{kind: text, def: "", max: 256, check: checkPlain, doc: "User name."}},
	{"credential", secret("Password.")},
}}

const (
	listenPattern = `^(\[[0-9A-Za-z:.%]+\]|[^:\[\] ]*):[0-9]{1,5}$`
	ipPattern     = `^[0-9A-Fa-f:.]+$`
)

// words is one of a few, of which the first is the default.
func words(doc string, all []string) *node {
	return &node{kind: text, def: all[0], min: 1, max: 32, enum: all, doc: doc}
}

func listen(def, doc string) *node {
	return &node{kind: text, def: def, min: 2, max: 256, check: checkListen, pattern: listenPattern, doc: doc}
}

func checkTCP(s string) string {
	if s == "" {
		return ""
	}
	return checkListen(s)
}

func file(doc string) *node {
	return &node{kind: text, def: "", max: 1024, check: checkPlain, doc: doc}
}

func flag(def bool, doc string) *node {
	return &node{kind: truth, def: def, doc: doc}
}

// own is a number in a camera's own units, which may be absent.
func own(doc string) *node {
	return &node{kind: whole, min: math.MinInt32, max: math.MaxInt32, doc: strings.TrimSpace("In the camera's own units. " + doc)}
}

// ownSetting is a truth that may be absent.
func ownSetting(doc string) *node { return &node{kind: truth, doc: doc} }

func secret(doc string) *node {
	return &node{kind: text, def: "", max: 256, secret: true, doc: doc + " Never shown."}
}

func number1(def, most int64, doc string) *node {
	return &node{kind: whole, def: def, min: 1, max: most, doc: doc}
}

// later is a key of the document that this version knows but cannot serve.
func later(k kind, def any, doc string) *node {
	n := &node{kind: k, def: def, later: true, doc: doc + " Not in this version: only the default is accepted."}
	switch k {
	case list:
		n.def = none
	case whole:
		n.min, n.max = math.MinInt64, math.MaxInt64
	case text:
		n.max = 1024
	}
	return n
}
