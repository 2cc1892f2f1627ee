package browser

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// scratch is the folder of what all tests of the package share.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "edged-browser-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	_ = os.RemoveAll(scratch)
	os.Exit(status)
}

// program is the box: built once, or a build of another kind that
// EDGED_TEST_PROGRAM names.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("EDGED_TEST_PROGRAM"); path != "" {
		return path, nil
	}
	path := filepath.Join(scratch, "edged")
	if out, err := exec.Command("go", "build", "-o", path, "edged/cmd/edged").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the box: %w: %s", err, out)
	}
	return path, nil
})

// box is the real program, on ports that stay the same over restarts.
type box struct {
	t       testing.TB
	dir     string
	address string // of HTTP
	url     string // with a token, as printed by the first start

	cmd *exec.Cmd
	log bytes.Buffer
}

// startBox runs a box with cameras, the YAML of the list's entries, until the
// test ends.
func startBox(t testing.TB, cameras string) *box {
	t.Helper()
	b := &box{t: t, dir: t.TempDir(), address: fmt.Sprintf("127.0.0.1:%d", freeTCP(t))}
	config := fmt.Sprintf(`name: gate-7
cameras:
%s
http: {listen: %q}
webrtc: {udp: ":%d", tcp: ""}
turn: {enabled: false}
`, cameras, b.address, freeUDP(t))
	if err := os.WriteFile(filepath.Join(b.dir, "edged.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			t.Logf("the box said: %s", b.log.String())
		}
	})
	b.start()
	return b
}

// start returns when the box has printed its address.
func (b *box) start() {
	b.t.Helper()
	path, err := program()
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd = exec.Command(path, "run", "--config", filepath.Join(b.dir, "edged.yaml"), "--data", filepath.Join(b.dir, "data"))
	b.cmd.Stderr = &b.log
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = b.cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "http://"); ok {
			if b.url == "" {
				b.url = "http://" + strings.Fields(after)[0]
			}
			go func() { // what it prints besides, so that it is never held up; ends with the box
				for lines.Scan() {
				}
			}()
			return
		}
	}
	b.kill()
	b.t.Fatalf("the box printed no address: %s", b.log.String())
}

// kill ends the box as a power cut would, sockets aside, which the kernel
// closes.
func (b *box) kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
	b.cmd = nil
}

func freeTCP(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func freeUDP(t testing.TB) int {
	t.Helper()
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// clip makes a VP8 file of a few seconds.
func clip(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.ivf")
	out, err := exec.Command("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-t", "4",
		"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "600k", "-g", "25", path).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg (scripts/setup installs it): %v: %s", err, out)
	}
	return path
}
