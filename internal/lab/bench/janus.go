package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"edged/capture"
)

// JanusProgram is Debian's Janus.
const JanusProgram = "janus"

const (
	janusMountpoint  = 1 // number of the streaming plugin's one stream
	janusPayloadType = 96
)

// ErrOnlyLoopback says that Janus cannot be reached: it has no loopback
// candidate, and the machine no other address.
var ErrOnlyLoopback = errors.New("janus: this machine has no IPv4 address but loopback")

// StartJanus runs Janus with its streaming plugin on a CPU (-1: any), as its
// package has it but for ports, feeds it a clip by RTP until it
// is stopped, and returns it with an endpoint for NewViewer once a viewer has
// a picture. The feeder is a goroutine of the calling process. Configuration
// goes to dir.
func StartJanus(ctx context.Context, cpu int, dir, clip string) (*Process, string, error) {
	if !slices.ContainsFunc(ownAddresses(), net.IP.IsGlobalUnicast) {
		return nil, "", ErrOnlyLoopback
	}
	api, err := freePort("tcp4")
	if err != nil {
		return nil, "", err
	}
	media, err := freePort("udp4")
	if err != nil {
		return nil, "", err
	}
	for name, text := range map[string]string{
		"janus.jcfg":                  janusConfig(dir),
		"janus.transport.http.jcfg":   fmt.Sprintf(janusHTTP, api),
		"janus.plugin.streaming.jcfg": fmt.Sprintf(janusStreaming, janusMountpoint, media, janusPayloadType),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, "", err
		}
	}
	source, err := Play(clip, ClipFPS)
	if err != nil {
		return nil, "", err
	}
	out, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: media})
	if err != nil {
		return nil, "", err
	}
	p, err := Start(cpu, JanusProgram, "--configs-folder", dir, "--disable-colors")
	if err != nil {
		return nil, "", errors.Join(err, out.Close())
	}
	feeding, stop := context.WithCancel(context.WithoutCancel(ctx))
	fed := make(chan error, 1)
	go func() { fed <- source.Run(feeding, &feeder{out: out}) }()
	p.also = func() error {
		stop()
		return errors.Join(<-fed, out.Close())
	}
	endpoint := fmt.Sprintf("%shttp://127.0.0.1:%d/janus", janusScheme, api)
	return awaited(ctx, p, endpoint)
}

// janusConfig leaves out what the bench has no use for, and lets sessions
// stand without the keep-alives of a page.
func janusConfig(dir string) string {
	return fmt.Sprintf(`general: {
	configs_folder = %q
	debug_level = 2
	session_timeout = 0
}
media: {
	ipv6 = false
}
plugins: {
	disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_videoroom.so,libjanus_voicemail.so"
}
transports: {
	disable = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so"
}
`, dir)
}

const (
	janusHTTP = `general: {
	json = "compact"
	base_path = "/janus"
	http = true
	ip = "127.0.0.1"
	port = %d
}
`
	janusStreaming = `clip: {
	type = "rtp"
	id = %d
	audio = false
	video = true
	videoiface = "127.0.0.1"
	videoport = %d
	videopt = %d
	videocodec = "h264"
	videofmtp = "profile-level-id=42e01f;packetization-mode=1"
}
`
)

// feeder is a sink that sends frames as RTP packets (RFC 3550 §5.1).
type feeder struct {
	out *net.UDPConn
	seq uint16
	buf []byte
}

// Describe implements capture.Sink; the clip's one track is known.
func (f *feeder) Describe([]capture.Track) {}

// Frame implements capture.Sink.
func (f *feeder) Frame(frame *capture.Frame) {
	for i, payload := range frame.Payloads {
		f.seq++
		kind := byte(janusPayloadType)
		if i == len(frame.Payloads)-1 {
			kind |= 0x80 // marker
		}
		f.buf = append(f.buf[:0], 0x80, kind)
		f.buf = binary.BigEndian.AppendUint16(f.buf, f.seq)
		f.buf = binary.BigEndian.AppendUint32(f.buf, frame.RTPTime)
		f.buf = append(f.buf, "clip"...) // SSRC
		f.buf = append(f.buf, payload...)
		_, _ = f.out.Write(f.buf) // refused until Janus listens
	}
}

// ownAddresses are the machine's on IPv4.
func ownAddresses() (all []net.IP) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			all = append(all, n.IP)
		}
	}
	return all
}

// freePort finds a port that nobody has now, for a program that cannot be
// told to take any.
func freePort(network string) (int, error) {
	if network == "udp4" {
		c, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).Port, nil
	}
	l, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
