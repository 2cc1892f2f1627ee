package bench

import (
	"fmt"
	"net"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// chromeProfiles is the order in which Chrome offers SRTP profiles, and picks
// one where it is the DTLS server. Two pion peers left alone would settle on
// what no browser does.
var chromeProfiles = []dtls.SRTPProtectionProfile{
	dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AEAD_AES_128_GCM,
}

// chromeCodecs is what Chrome offers to receive, in its order; each comes with
// a retransmission format (RFC 4588) of the payload type after it.
var chromeCodecs = []struct {
	payloadType webrtc.PayloadType
	mime, fmtp  string
}{
	{96, webrtc.MimeTypeVP8, ""},
	{98, webrtc.MimeTypeVP9, "profile-id=0"},
	{100, webrtc.MimeTypeVP9, "profile-id=2"},
	{102, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"},
	{104, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"},
	{106, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
	{108, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"},
	{112, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"},
	{39, webrtc.MimeTypeAV1, "level-idx=5;profile=0;tier=0"},
}

// chromeExtensions are the header extensions that Chrome offers for video and
// pion can name.
var chromeExtensions = []string{
	"urn:ietf:params:rtp-hdrext:toffset",
	"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
	"urn:3gpp:video-orientation",
	"http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
	"http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
	"urn:ietf:params:rtp-hdrext:sdes:mid",
}

var chromeFeedback = []webrtc.RTCPFeedback{
	{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"},
}

// chromeLike is a pion API whose offers read like Chrome's, on sockets of its
// own, with the feedback of a browser: NACK, receiver reports and
// transport-wide congestion control. Its sockets are on the addresses that
// local takes.
func chromeLike(n *network, local func(net.IP) bool) (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	for _, c := range chromeCodecs {
		if err := registerCodec(m, c.payloadType, c.mime, c.fmtp); err != nil {
			return nil, err
		}
	}
	for _, uri := range chromeExtensions {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, err
		}
	}
	feedback := &interceptor.Registry{}
	if err := webrtc.ConfigureNack(m, feedback); err != nil {
		return nil, err
	}
	if err := webrtc.ConfigureRTCPReports(feedback); err != nil {
		return nil, err
	}
	if err := webrtc.ConfigureTWCCSender(m, feedback); err != nil {
		return nil, err
	}
	s := webrtc.SettingEngine{}
	// One candidate a side: with several of equal rank pion's controlling
	// agent nominates only at its next tick, 200 ms later, as no browser does.
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(local)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetSRTPProtectionProfiles(chromeProfiles...)
	s.SetNet(n)
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(feedback), webrtc.WithSettingEngine(s)), nil
}

func registerCodec(m *webrtc.MediaEngine, pt webrtc.PayloadType, mime, fmtp string) error {
	media := webrtc.RTPCodecParameters{PayloadType: pt, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: mime, ClockRate: 90000, SDPFmtpLine: fmtp, RTCPFeedback: chromeFeedback}}
	if err := m.RegisterCodec(media, webrtc.RTPCodecTypeVideo); err != nil {
		return err
	}
	again := webrtc.RTPCodecParameters{PayloadType: pt + 1, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", pt)}}
	return m.RegisterCodec(again, webrtc.RTPCodecTypeVideo)
}
