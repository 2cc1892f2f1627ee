package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"edged/capture"
)

// A check says what is wrong with a text, or nothing. The faults that it
// makes begin with the value, quoted.

const notYet = "is not in this version"

// sourceNow and sourceLater are the schemes of cameras.
var (
	sourceNow   = []string{"rtsp", "rtsps", "v4l2", "rpicam", "file", "pattern", "whip"}
	sourceLater = []string{"edged"}
)

var rpicamNumber = regexp.MustCompile(`^([0-9]|1[0-5])$`)

func checkSource(s string) string {
	scheme, rest, ok := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	if (scheme == "rtsp" || scheme == "rtsps") && strings.Contains(s, "@") {
		if u, err := url.Parse(s); err != nil || u.User != nil {
			return "credentials in the URL that cannot be read: they belong in username and password" // never quote it
		}
	}
	switch {
	case strings.Contains(s, Hidden):
		return quote(s) + ": " + strconv.Quote(Hidden) + " stands for a secret and is none"
	case !ok:
		return quote(s) + " is not a source such as rtsp://10.0.0.5/main, v4l2:auto, file:/clip.mp4, pattern: or whip:"
	case slices.Contains(sourceLater, scheme):
		return quote(s) + ": " + scheme + ": " + notYet + "; there are " + strings.Join(sourceNow, ", ")
	case !slices.Contains(sourceNow, scheme):
		return quote(s) + ": the scheme is not one of " + strings.Join(sourceNow, ", ")
	case scheme == "rtsp" || scheme == "rtsps":
		return checkRTSP(s)
	case scheme == "v4l2" && rest != "auto" && !strings.HasPrefix(rest, "/dev/"):
		return quote(s) + " is not v4l2:auto or v4l2:/dev/…"
	case scheme == "rpicam" && !rpicamNumber.MatchString(rest):
		return quote(s) + " is not rpicam: and the number of a camera, 0 to 15"
	case (scheme == "pattern" || scheme == "whip") && rest != "":
		return quote(s) + ": there is nothing after " + scheme + ":"
	case scheme == "file" && strings.Trim(rest, "/") == "":
		return quote(s) + " names no file"
	}
	return ""
}

// checkMicrophone takes what names a microphone.
func checkMicrophone(s string) string {
	if _, _, err := capture.ParseMicrophone(s); err != nil {
		return err.Error()
	}
	return ""
}

// checkSub takes the second URL of a network camera.
func checkSub(s string) string {
	switch scheme, _, _ := strings.Cut(strings.ToLower(s), ":"); scheme {
	case "rtsp", "rtsps":
		return checkSource(s)
	}
	return quote(s) + " is not rtsp:// or rtsps://, then HOST[:PORT]/PATH"
}

// checkFingerprint takes the SHA-256 of a certificate as openssl prints it.
func checkFingerprint(s string) string {
	if b, err := hex.DecodeString(strings.ReplaceAll(s, ":", "")); s != "" && (err != nil || len(b) != 32) {
		return quote(s) + " is not a SHA-256, 64 hexadecimal digits"
	}
	return ""
}

func checkRTSP(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.ContainsFunc(s, unicode.IsSpace) {
		return quote(s) + " is not rtsp://HOST[:PORT]/PATH"
	}
	if p := u.Port(); p != "" && !isPort(p, 1) {
		return quote(s) + ": port " + p + " is not in 1..65535"
	}
	switch u.Fragment {
	case "", "transport=auto", "transport=udp", "transport=tcp":
		return ""
	}
	return quote(s) + ": what follows # is not transport=udp, transport=tcp or transport=auto"
}

func isPort(s string, least uint64) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n >= least
}

// checkListen takes "host:port" with an optional host and port 0 for any.
func checkListen(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsFunc(host, unicode.IsSpace) {
		return quote(s) + " is not an address such as :8080 or 127.0.0.1:0"
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return quote(s) + ": " + quote(host) + " is not an IP address"
		}
	}
	if !isPort(port, 0) {
		return quote(s) + ": port " + quote(port) + " is not in 0..65535"
	}
	return ""
}

func checkIP(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return quote(s) + " is not an IP address"
	}
	if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return quote(s) + " is not the address of one host"
	}
	return ""
}

// checkICE takes the URIs of RFC 7064 and RFC 7065.
func checkICE(schemes ...string) func(string) string {
	return func(s string) string {
		want := quote(s) + " is not " + strings.Join(schemes, " or ") + ", then HOST[:PORT]"
		scheme, rest, _ := strings.Cut(s, ":")
		if !slices.Contains(schemes, scheme+":") {
			return want
		}
		host, query, hasQuery := strings.Cut(rest, "?")
		if hasQuery && (scheme == "stun" || scheme == "stuns" || query != "transport=udp" && query != "transport=tcp") {
			return quote(s) + ": the query is not ?transport=udp or ?transport=tcp of a turn: server"
		}
		if h, port, err := net.SplitHostPort(host); err == nil {
			if h == "" || !isPort(port, 1) {
				return want
			}
			return ""
		}
		bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if bare == "" || strings.ContainsAny(bare, "/@ []") || strings.Contains(bare, ":") && bare == host {
			return want
		}
		return ""
	}
}

func checkServer(s string) string {
	if strings.Contains(s, "@") {
		return "a server with credentials in it: they belong in uplink.username and uplink.password" // never quote it
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port(), 1) ||
		!slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, u.Scheme) {
		return quote(s) + " is not mqtt://, mqtts://, ws:// or wss://, then HOST[:PORT]"
	}
	if (u.Scheme == "mqtt" || u.Scheme == "mqtts") && u.Path != "" && u.Path != "/" {
		return quote(s) + ": a path has no meaning here"
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return quote(s) + ": a query or a fragment has no meaning here"
	}
	return ""
}

func checkOrigin(s string) string {
	if s == "*" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || s != u.Scheme+"://"+u.Host {
		return quote(s) + ` is not "*" or an origin such as https://console.example`
	}
	return ""
}

// parseKey takes an Ed25519 public key in base64, standard or URL-safe.
func parseKey(s string) (ed25519.PublicKey, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSuffix(s, "="))
	key, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("not 32 bytes in base64")
	}
	return key, nil
}

func checkKey(s string) string {
	if _, err := parseKey(s); err != nil {
		return quote(s) + " is not an Ed25519 public key: 32 bytes in base64"
	}
	return ""
}

func checkPlain(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return quote(s) + " has control characters in it"
	}
	return ""
}

// secretParameter finds the passwords that some makes of camera want in the
// path or the query of a URL.
var secretParameter = regexp.MustCompile(`(?i)((?:pass|passwd|password|pwd|token|secret|key|auth)=)[^&/;#]*`)

// userinfo finds what may be credentials in a URL, well formed or not.
var userinfo = regexp.MustCompile(`//[^/]*@`)

// mask hides what may be a secret in a text that is no secret as a whole.
func mask(s string) string {
	return userinfo.ReplaceAllString(secretParameter.ReplaceAllString(s, "${1}"+Hidden), "//"+Hidden+"@")
}

func quote(s string) string { return strconv.Quote(clip(mask(s), 64)) }
