package rtsp

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// nobody is who the player runs as, which refuses to be root.
const nobody = 65534

// StartVLC runs VLC's server until the test ends: a clip of test pictures,
// 320x240, 25 frames a second, a keyframe a second, again and again on the path
// /test, over UDP only. It returns when the server listens. Where VLC is missing
// and cannot be installed the test is skipped.
func StartVLC(t testing.TB) *Server {
	t.Helper()
	player, err := exec.LookPath("vlc")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatalf("no VLC: run scripts/setup (%v)", err)
		}
		t.Skip("no VLC: vlc-bin is not installed; scripts/setup installs it")
	}
	clip := publicClip(t)
	s := &Server{t: t, port: freePort(t)}
	s.command = func() *exec.Cmd {
		cmd := exec.Command(player, "-I", "dummy", "--no-audio", "--loop", clip, "--rtsp-host=127.0.0.1", "--sout-keep",
			"--sout", "#rtp{sdp=rtsp://:"+strconv.Itoa(s.port)+"/test}")
		cmd.Dir = filepath.Dir(clip)
		cmd.Env = []string{"HOME=" + cmd.Dir, "PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it cannot outlive this process
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		}
		return cmd
	}
	s.listening = func(io.Reader) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.port))
			if err == nil {
				return c.Close()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return err
			}
		}
	}
	s.begin()
	return s
}

// publicClip makes the clip in a folder that anybody may read.
func publicClip(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "edged-vlc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	clip := filepath.Join(dir, "clip.mp4")
	out, err := exec.Command("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "60",
		"-pix_fmt", "yuv420p", "-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-g", "25", clip).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg (scripts/setup installs it): %v: %s", err, out)
	}
	return clip
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
