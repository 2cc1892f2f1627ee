package forward

import (
	"fmt"
	"strconv"
	"strings"

	"edged/capture"
)

// match says how well an offered format decodes a track: 0 not at all, the
// more the better. A level above the listed one is no refusal: browsers decode
// more than they list.
func match(t capture.Track, f format) int {
	if !strings.EqualFold(f.codec, string(t.Codec)) || f.clockRate != t.ClockRate {
		return 0
	}
	switch t.Codec {
	case capture.H264:
		return matchH264(param(t.Fmtp, "profile-level-id"), f.fmtp)
	case capture.H265:
		return matchH265(t.Fmtp, f.fmtp)
	case capture.VP9:
		if number(t.Fmtp, "profile-id", 0) != number(f.fmtp, "profile-id", 0) { // RFC 9628 §6
			return 0
		}
	case capture.AV1:
		return matchAV1(t.Fmtp, f.fmtp)
	}
	return 1
}

// h264Reach orders the profiles by what their decoders take, for the last
// resort. Those left out, as 4:4:4 ones, are seldom in hardware.
var h264Reach = map[string]int{"baseline": 1, "constrained baseline": 1, "main": 2, "constrained high": 3, "high": 4}

// matchH264 compares profile-level-ids (RFC 6184 §8.1). Another profile is a
// last resort rather than a refusal, the highest first: browsers list
// Baseline and decode High.
func matchH264(have, fmtp string) int {
	const (
		same     = 30
		includes = 20 // what is listed includes what the camera has (H.264 annex A)
		nearly   = 10
	)
	if number(fmtp, "packetization-mode", 0) != 1 {
		return 0 // our frames have FU-A, which mode 0 forbids
	}
	want := param(fmtp, "profile-level-id")
	if want == "" {
		want = "42000a" // RFC 6184 §8.1: Baseline, level 1
	}
	hp, hok := h264Profile(have)
	wp, wok := h264Profile(want)
	switch {
	case !hok || !wok:
		return 1
	case hp == wp:
		return same
	case hp == "constrained baseline" && h264Reach[wp] > 0, wp == "high" && (hp == "main" || hp == "constrained high"):
		return includes
	case hp == "baseline" && wp == "constrained baseline":
		return nearly // nobody uses what the latter leaves out
	}
	return 1 + h264Reach[wp]
}

// h264Profile names the profile of a profile-level-id by its profile_idc and
// constraint flags (RFC 6184 table 5).
func h264Profile(id string) (string, bool) {
	n, err := strconv.ParseUint(id, 16, 24)
	if err != nil || len(id) != 6 {
		return "", false
	}
	idc, iop := byte(n>>16), byte(n>>8)
	switch {
	case idc == 0x42 && iop&0x40 != 0, idc == 0x4d && iop&0x80 != 0, idc == 0x58 && iop&0xc0 == 0xc0:
		return "constrained baseline", true
	case idc == 0x42:
		return "baseline", true
	case idc == 0x4d:
		return "main", true
	case idc == 0x64 && iop&0x0c == 0x0c:
		return "constrained high", true
	case idc == 0x64:
		return "high", true
	}
	return id[:4], true
}

// matchH265 compares the parameters of RFC 7798 §7.1, which gives their
// defaults.
func matchH265(have, fmtp string) int {
	const mainProfile, main10 = 1, 2
	if tx := param(fmtp, "tx-mode"); tx != "" && tx != "srst" {
		return 0 // our packets are a single stream
	}
	hp, wp := number(have, "profile-id", mainProfile), number(fmtp, "profile-id", mainProfile)
	score := 4
	if hp == mainProfile && wp == main10 { // includes it (H.265 annex A)
		score = 2
	} else if hp != wp {
		return 0
	}
	if number(have, "level-id", 93) > number(fmtp, "level-id", 93) || number(have, "tier-flag", 0) > number(fmtp, "tier-flag", 0) {
		score--
	}
	return score
}

// matchAV1 compares the parameters of the RTP payload format for AV1, 7.2.1,
// which gives their defaults. A profile includes those below it.
func matchAV1(have, fmtp string) int {
	hp, wp := number(have, "profile", 0), number(fmtp, "profile", 0)
	score := 4
	if hp < wp {
		score = 2
	} else if hp > wp {
		return 0
	}
	if number(have, "level-idx", 5) > number(fmtp, "level-idx", 5) || number(have, "tier", 0) > number(fmtp, "tier", 0) {
		score--
	}
	return score
}

// param reads one parameter of an a=fmtp value, lower case.
func param(fmtp, name string) string {
	for p := range strings.SplitSeq(fmtp, ";") {
		if k, v, ok := strings.Cut(strings.TrimSpace(p), "="); ok && strings.EqualFold(k, name) {
			return strings.ToLower(v)
		}
	}
	return ""
}

// number reads a parameter that is a number; absent, it has its default. What
// is no number is -1.
func number(fmtp, name string, absent int) int {
	v := param(fmtp, name)
	if v == "" {
		return absent
	}
	if n, err := strconv.ParseUint(v, 10, 16); err == nil {
		return int(n)
	}
	return -1
}

// answered is the a=fmtp of the answer: the offer's; of H.264, where the offer
// allows the levels to differ, with the camera's level if that is higher (RFC
// 6184 §8.2.2).
func answered(t capture.Track, fmtp string) string {
	have, want := param(t.Fmtp, "profile-level-id"), param(fmtp, "profile-level-id")
	if t.Codec != capture.H264 || param(fmtp, "level-asymmetry-allowed") != "1" || len(have) != 6 || len(want) != 6 {
		return fmtp
	}
	if have[4:] <= want[4:] { // hexadecimal digits, lower case
		return fmtp
	}
	parts := strings.Split(fmtp, ";")
	for i, p := range parts {
		if k, _, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(k, "profile-level-id") {
			parts[i] = k + "=" + want[:4] + have[4:]
		}
	}
	return strings.Join(parts, ";")
}

// decisive is the parameter that a viewer is refused for, and its default.
var decisive = map[string]struct {
	name   string
	absent int
}{
	"H264": {"packetization-mode", 0}, "H265": {"profile-id", 1}, "VP9": {"profile-id", 0}, "AV1": {"profile", 0},
}

// withParameter names a codec with the parameter that decides.
func withParameter(codec, fmtp string) string {
	d, ok := decisive[strings.ToUpper(codec)]
	if !ok {
		return codec
	}
	return fmt.Sprintf("%s (%s=%d)", codec, d.name, number(fmtp, d.name, d.absent))
}
