package rtsp

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"edged/capture"
)

const secret = "s3cr3t-pass"

// Parameter sets of a 320 × 240 picture, baseline profile.
var (
	testSPS = mustDecode("Z0LADdoFB+hAAAADAEAAAAyjxQqo")
	testPPS = mustDecode("aM48gA==")
)

func mustDecode(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// peer is the camera's side of one connection: a script calls it.
type peer struct {
	net.Conn
	r      *textproto.Reader
	seq    uint16
	ssrc   uint32
	tracks int          // set up so far
	udp    *net.UDPConn // to the viewer; nil: packets are interleaved
}

// asked is one request.
type asked struct {
	method string
	header textproto.MIMEHeader
}

// request reads one.
func (p *peer) request() (r asked, ok bool) {
	line, err := p.r.ReadLine()
	if err != nil {
		return r, false
	}
	if r.header, err = p.r.ReadMIMEHeader(); err != nil {
		return r, false
	}
	r.method, _, _ = strings.Cut(line, " ")
	return r, true
}

// answer is a status and headers; one that begins as a session description
// does is the body.
func (p *peer) answer(r asked, status string, headers ...string) {
	body := ""
	headers = append([]string{"RTSP/1.0 " + status, "CSeq: " + r.header.Get("CSeq")}, headers...)
	for i, h := range headers {
		if strings.HasPrefix(h, "v=0") {
			body = h
			headers[i] = fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d", len(body))
		}
	}
	_, _ = io.WriteString(p, strings.Join(headers, "\r\n")+"\r\n\r\n"+body)
}

// rtp sends one packet.
func (p *peer) rtp(channel, payloadType byte, marker bool, rtpTime uint32, payload []byte) error {
	packet := rtp.Packet{Header: rtp.Header{
		Version: 2, Marker: marker, PayloadType: payloadType, SequenceNumber: p.seq, Timestamp: rtpTime, SSRC: p.ssrc,
	}, Payload: payload}
	p.seq++
	b, err := packet.Marshal()
	if err != nil {
		return err
	}
	if p.udp != nil {
		_, err = p.udp.Write(b)
		return err
	}
	_, err = p.Write(append([]byte{'$', channel, byte(len(b) >> 8), byte(len(b))}, b...))
	return err
}

// keyframe sends a whole one.
func keyframe(p *peer, rtpTime uint32) {
	_ = p.rtp(0, 96, false, rtpTime, testSPS)
	_ = p.rtp(0, 96, false, rtpTime, testPPS)
	_ = p.rtp(0, 96, true, rtpTime, []byte{0x65, 0x88, 1, 2, 3})
}

// sdp describes one track.
func sdp(media, rtpmap string) string {
	return "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=" + media + "\r\n" + rtpmap + "a=control:track1\r\n"
}

var h264SDP = sdp("video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n")

// setup gives a track the next two channels.
func (p *peer) setup(r asked) {
	p.answer(r, "200 OK", fmt.Sprintf("Transport: RTP/AVP/TCP;unicast;interleaved=%d-%d", 2*p.tracks, 2*p.tracks+1), "Session: 1")
	p.tracks++
}

// camera follows the script of a good camera, but for what is set.
type camera struct {
	sdp   string                                         // of DESCRIBE; empty: h264SDP
	on    map[string]func(p *peer, r asked) (going bool) // by method: answers in the place of the script, and says whether to go on
	media func(p *peer)                                  // after PLAY; then the camera closes
}

// play is what the camera does with one connection.
func (c camera) play(p *peer) {
	for {
		r, ok := p.request()
		if !ok {
			return
		}
		if on := c.on[r.method]; on != nil {
			if !on(p, r) {
				return
			}
			continue
		}
		switch r.method {
		case "DESCRIBE":
			p.answer(r, "200 OK", cmp.Or(c.sdp, h264SDP))
		case "SETUP":
			p.setup(r)
		case "PLAY":
			p.answer(r, "200 OK", "Session: 1")
			if c.media != nil {
				c.media(p)
			}
			return
		default:
			p.answer(r, "200 OK")
		}
	}
}

// well is a good camera until PLAY, then it runs the script of the media and
// closes.
func well(media func(p *peer)) func(*peer) { return camera{media: media}.play }

// says answers always the same, and goes on.
func says(status string, headers ...string) func(*peer, asked) bool {
	return func(p *peer, r asked) bool {
		p.answer(r, status, headers...)
		return true
	}
}

// describe is a camera that answers DESCRIBE as given.
func describe(status string, headers ...string) func(*peer) {
	return camera{on: map[string]func(*peer, asked) bool{"DESCRIBE": says(status, headers...)}}.play
}

// flood writes the same bytes until the other side has had enough.
func flood(first, again string) func(*peer) {
	return func(p *peer) {
		_, err := io.WriteString(p, first)
		for again := strings.Repeat(again, 1+4096/len(again)); err == nil; {
			_, err = io.WriteString(p, again)
		}
	}
}

// serve runs a camera that follows a script on each connection, until the
// test ends. It returns its address.
func serve(t *testing.T, script func(*peer)) string {
	t.Helper()
	return serveOn(t, listenTCP(t), script)
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serveOn(t *testing.T, l net.Listener, script func(*peer)) string {
	t.Helper()
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer stop()
				defer c.Close()
				script(&peer{Conn: c, r: textproto.NewReader(bufio.NewReader(c))})
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// record is a sink that keeps what it gets.
type record struct {
	mu     sync.Mutex
	tracks []capture.Track
	frames []capture.Frame // payloads copied
	got    chan struct{}   // a token after each frame
}

func newRecord() *record { return &record{got: make(chan struct{}, 1)} }

func (r *record) Describe(t []capture.Track) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tracks = append(r.tracks, t...)
}

func (r *record) Frame(f *capture.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := *f
	own.Payloads = nil
	for _, p := range f.Payloads {
		own.Payloads = append(own.Payloads, append([]byte(nil), p...))
	}
	r.frames = append(r.frames, own)
	select {
	case r.got <- struct{}{}:
	default:
	}
}

func source(t *testing.T, url string) *Source {
	t.Helper()
	s, err := New(capture.Config{Source: url}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run plays a camera's script and returns why it ended.
func run(t *testing.T, s *Source, sink capture.Sink) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), sink) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
		return nil
	}
}
