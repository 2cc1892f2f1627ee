// Package rtsp is the laboratory's network camera: the RTSP servers of
// GStreamer and of VLC, which nobody here wrote, with test pictures.
package rtsp

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed server.py
var script string

// interpreter is Debian's own: its packages hold the bindings of GStreamer.
const interpreter = "/usr/bin/python3"

// Options of a [Server].
type Options struct {
	User     string // with digest authentication, unless empty
	Password string
}

// Server is an RTSP server on a port of 127.0.0.1 that stays the same over
// restarts.
//
// Methods are called from the test's goroutine.
type Server struct {
	t         testing.TB
	port      int
	command   func() *exec.Cmd
	listening func(stdout io.Reader) error // returns when it does

	cmd    *exec.Cmd // nil while killed
	stdin  io.Closer
	stderr lockedBuffer
}

// Start runs GStreamer's server until the test ends. It returns when the server
// listens. server.py says which paths there are and what each one plays. Where Debian's Python and GStreamer are missing and cannot be
// installed the test is skipped.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if out, err := exec.Command(interpreter, "-c",
		"import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer").CombinedOutput(); err != nil {
		if os.Geteuid() == 0 {
			t.Fatalf("no RTSP server: run scripts/setup (%v: %s)", err, out)
		}
		t.Skip("no RTSP server: python3-gi or gir1.2-gst-rtsp-server-1.0 is not installed; scripts/setup installs it")
	}
	s := &Server{t: t}
	s.command = func() *exec.Cmd {
		options, err := json.Marshal(map[string]any{"port": s.port, "user": o.User, "password": o.Password})
		if err != nil {
			t.Fatal(err)
		}
		// It ends with its standard input: it cannot outlive this process.
		return exec.Command(interpreter, "-c", script, string(options))
	}
	s.listening = func(stdout io.Reader) error {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err == nil {
			_, err = fmt.Sscanf(line, "port %d", &s.port)
		}
		return err
	}
	s.begin()
	return s
}

// begin runs the server for the first time, and until the test ends.
func (s *Server) begin() {
	s.t.Helper()
	s.t.Cleanup(func() {
		s.Kill()
		if s.t.Failed() {
			s.t.Logf("RTSP server: %s", s.stderr.String())
		}
	})
	s.Restart()
}

// Port is the TCP port.
func (s *Server) Port() int { return s.port }

// URL is the address of a path, without credentials.
func (s *Server) URL(path string) string {
	return fmt.Sprintf("rtsp://127.0.0.1:%d/%s", s.port, strings.TrimPrefix(path, "/"))
}

// Kill ends the server as a power cut would, sockets aside, which the kernel
// closes. It returns when the process is gone.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
	s.cmd = nil
}

// Restart kills the server if it runs and starts it on the same port. It
// returns when it listens.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	cmd := s.command()
	cmd.Stderr = &s.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.stdin = cmd, stdin
	giveUp := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	if err := s.listening(stdout); err != nil {
		s.t.Fatalf("RTSP server does not listen: %v: %s", err, s.stderr.String())
	}
}

// lockedBuffer keeps what a process says, which another goroutine writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
