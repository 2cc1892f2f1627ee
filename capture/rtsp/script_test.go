package rtsp

import (
	"bufio"
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
	r   *textproto.Reader
	seq uint16
}

// request reads one request and returns its method.
func (p *peer) request() (method, cseq string, ok bool) {
	line, err := p.r.ReadLine()
	if err != nil {
		return "", "", false
	}
	h, err := p.r.ReadMIMEHeader()
	if err != nil {
		return "", "", false
	}
	method, _, _ = strings.Cut(line, " ")
	return method, h.Get("CSeq"), true
}

func (p *peer) answer(status, cseq string, headers ...string) {
	body := ""
	for i, h := range headers {
		if strings.HasPrefix(h, "v=0") {
			body = h
			headers[i] = fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d", len(body))
		}
	}
	head := strings.Join(append([]string{"RTSP/1.0 " + status, "CSeq: " + cseq}, headers...), "\r\n")
	_, _ = io.WriteString(p, head+"\r\n\r\n"+body)
}

// rtp sends one interleaved packet.
func (p *peer) rtp(channel, payloadType byte, marker bool, rtpTime uint32, payload []byte) error {
	n := 12 + len(payload)
	b := []byte{'$', channel, byte(n >> 8), byte(n), 0x80, payloadType, byte(p.seq >> 8), byte(p.seq),
		byte(rtpTime >> 24), byte(rtpTime >> 16), byte(rtpTime >> 8), byte(rtpTime), 1, 2, 3, 4}
	if marker {
		b[5] |= 0x80
	}
	p.seq++
	_, err := p.Write(append(b, payload...))
	return err
}

// sdp describes one track.
func sdp(media, rtpmap string) string {
	return "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=" + media + "\r\n" + rtpmap + "a=control:track1\r\n"
}

var h264SDP = sdp("video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n")

// well answers as a good camera does until PLAY, then runs the script of the
// media, if any, and closes.
func well(media func(p *peer)) func(*peer) {
	return func(p *peer) {
		for {
			method, cseq, ok := p.request()
			if !ok {
				return
			}
			switch method {
			case "DESCRIBE":
				p.answer("200 OK", cseq, h264SDP)
			case "SETUP":
				p.answer("200 OK", cseq, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
			case "PLAY":
				p.answer("200 OK", cseq, "Session: 1")
				media(p)
				return
			default:
				p.answer("200 OK", cseq)
			}
		}
	}
}

// describe answers OPTIONS well and DESCRIBE as given.
func describe(status string, headers ...string) func(*peer) {
	return func(p *peer) {
		for {
			method, cseq, ok := p.request()
			if !ok {
				return
			}
			if method == "DESCRIBE" {
				p.answer(status, cseq, append([]string(nil), headers...)...)
			} else {
				p.answer("200 OK", cseq)
			}
		}
	}
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
