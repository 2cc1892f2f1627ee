package bench

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProcess(t *testing.T) {
	p, err := Start(0, "sh", "-c", `echo noise; echo ready; echo trouble >&2; read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo did; read y`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	is := func(want string) func(string) bool { return func(got string) bool { return got == want } }
	if _, err := p.Line(ctx, is("ready")); err != nil {
		t.Fatal(err)
	}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Line(ctx, is("did")); err != nil {
		t.Fatal(err)
	}
	after, err := p.CPU()
	if err != nil || after <= before {
		t.Errorf("CPU %v, then %v, %v", before, after, err)
	}
	if rss, err := p.RSS(); err != nil || rss < 64<<10 {
		t.Errorf("RSS %d, %v", rss, err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := p.Log(); got != "trouble\n" {
		t.Errorf("log %q", got)
	}
}

func TestProcessEnds(t *testing.T) {
	p, err := Start(-1, "sh", "-c", "echo reason >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Line(t.Context(), func(string) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("got %v, want the reason", err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("stop: %v", err)
	}
	if _, err := Start(-1, "/no/such/program"); err == nil {
		t.Error("a missing program was started")
	}
}

func TestProcFiles(t *testing.T) {
	if n, err := rssOf("Name:\tx\nVmRSS:\t   1234 kB\n"); n != 1234<<10 || err != nil {
		t.Errorf("RSS %d, %v", n, err)
	}
	if _, err := rssOf("Name:\tx\n"); err == nil {
		t.Error("a kernel thread has RSS")
	}
	if d, err := busyOf("cpu  100 10 20 9999 99 1 2 3 50 0\ncpu0 1\n"); d != 1360*time.Millisecond || err != nil {
		t.Errorf("busy %v, %v", d, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, err := busyOf(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if d, err := Machine(); err != nil || d <= 0 {
		t.Errorf("machine %v, %v", d, err)
	}
}

func FuzzProcFiles(f *testing.F) {
	b, _ := os.ReadFile("/proc/self/status")
	f.Add(string(b))
	f.Add("cpu  1 2 3 4 5 6 7 8\n")
	f.Fuzz(func(_ *testing.T, s string) {
		_, _ = rssOf(s)
		_, _ = busyOf(s)
	})
}
