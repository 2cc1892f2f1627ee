// Package dist is the laboratory for the binaries that are given away: built,
// checked to need nothing, and run on processors that this machine has not.
package dist

import (
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/internal/probe"
)

const (
	patience = 2 * time.Minute // an emulated processor is slow, and so may be its host
	maxSize  = 28 << 20        // bytes of a binary
	frames   = 30
)

const configuration = `
cameras:
  - id: demo
    source: "pattern:"
    video: {width: 320, height: 180, fps: 10, bitrate: 300000}
http: {listen: "127.0.0.1:0"}
webrtc: {udp: ":0", tcp: ":0"}
turn: {listen: "127.0.0.1:0"}
`

var built = sync.OnceValue(func() error {
	cmd := exec.Command("scripts/dist")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("scripts/dist: %w: %s", err, out)
	}
	return nil
})

// binary builds all of them, once, and gives the path of one.
func binary(t *testing.T, target string) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("../../../dist/edged-linux-" + target)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStatic(t *testing.T) {
	for target, machine := range map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "armv7": elf.EM_ARM, "armv6": elf.EM_ARM,
	} {
		path := binary(t, target)
		f, err := elf.Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Machine != machine {
			t.Errorf("%s is for %v", target, f.Machine)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s wants a dynamic loader", target)
			}
		}
		if libraries, err := f.ImportedLibraries(); err == nil && len(libraries) > 0 {
			t.Errorf("%s wants %v", target, libraries)
		}
		if s := f.Section(".symtab"); s != nil {
			t.Errorf("%s is not stripped", target)
		}
		f.Close()
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s: %.1f MiB", target, float64(info.Size())/(1<<20))
		if info.Size() > maxSize {
			t.Errorf("%s has %d bytes, at most %d", target, info.Size(), maxSize)
		}
	}
}

// box is a running edged.
type box struct {
	page *url.URL // with the token
	log  string   // file
}

// start runs a binary by command until the test ends, and then asks it to stop.
func start(t *testing.T, command ...string) *box {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Fatalf("%v: scripts/setup installs it", err)
	}
	b := &box{log: filepath.Join(dir, "log")}
	log, err := os.Create(b.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(command[0], append(command[1:], "--config", config, "--data", filepath.Join(dir, "data"))...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if _, link, ok := strings.Cut(s.Text(), "is ready: "); ok {
				ready <- link
			}
		}
	}()
	t.Cleanup(func() { stop(t, cmd, read, b) })
	select {
	case link := <-ready:
		if b.page, err = url.Parse(link); err != nil {
			t.Fatal(err)
		}
	case <-read:
		t.Fatalf("it ended: %s", b.said())
	case <-time.After(patience):
		t.Fatalf("it is not ready: %s", b.said())
	}
	return b
}

func stop(t *testing.T, cmd *exec.Cmd, read <-chan struct{}, b *box) {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // an error means that it has ended
	<-read
	if err := cmd.Wait(); err != nil {
		t.Errorf("end: %v: %s", err, b.said())
	}
	kill.Stop()
}

func (b *box) said() string {
	log, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// get asks the box for a path.
func (b *box) get(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.page.Scheme+"://"+b.page.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.page.Query().Get("token"))
	return do(t, r)
}

func do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	a, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(body)
}

// TestRuns: each answers on the processor it is for; what cannot encode says so.
func TestRuns(t *testing.T) {
	for _, tt := range []struct {
		target  string
		command []string
		encodes bool
	}{
		{"armv7", []string{"qemu-arm-static", "-cpu", "cortex-a7"}, true},
		{"armv6", []string{"qemu-arm-static", "-cpu", "arm1176"}, false},
	} {
		t.Run(tt.target, func(t *testing.T) {
			b := start(t, append(tt.command, binary(t, tt.target))...)
			if code, body := b.get(t, "/healthz"); code != http.StatusOK {
				t.Errorf("/healthz: %d %s", code, body)
			}
			if tt.encodes {
				wait(t, b, `"live"`)
				return
			}
			wait(t, b, `"encoder"`)
			if !strings.Contains(b.said(), "no software encoder") {
				t.Errorf("it does not say that it cannot encode:\n%s", b.said())
			}
		})
	}
}

// wait polls the camera until its state contains want.
func wait(t *testing.T, b *box, want string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		_, body := b.get(t, "/api/v1/cameras")
		if strings.Contains(body, want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s in %s\n%s", want, body, b.said())
		}
	}
}

// TestARM64ServesAViewer: a real WebRTC client sees the picture of the emulated
// box, by WHEP.
func TestARM64ServesAViewer(t *testing.T) {
	b := start(t, "qemu-aarch64-static", binary(t, "arm64"))
	wait(t, b, `"live"`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := probe.Run(ctx, frames, func(ctx context.Context, offer string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.page.Scheme+"://"+b.page.Host+"/whep/demo", strings.NewReader(offer))
		if err != nil {
			return "", err
		}
		r.Header.Set("Content-Type", "application/sdp")
		r.Header.Set("Authorization", "Bearer "+b.page.Query().Get("token"))
		code, answer := do(t, r)
		if code != http.StatusCreated {
			return "", fmt.Errorf("WHEP: %d %s", code, answer)
		}
		return answer, nil
	})
	if err != nil {
		t.Errorf("%v: %s", err, b.said())
	}
	t.Logf("%+v", r)
}
