package guest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 4 * time.Minute // the processor is emulated, and may be shared

// image prepares the guest, in the project's cache.
func image(t *testing.T) Image {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: scripts/setup installs it", err)
	}
	cache, err := filepath.Abs("../../../.cache/guest")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	i, err := Prepare(ctx, cache, busybox)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image ready after %v", time.Since(begin).Round(time.Millisecond))
	return i
}

func boot(t *testing.T, i Image, folder, script string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "run.sh"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	out, err := i.Run(ctx, folder)
	t.Logf("guest ran for %v", time.Since(begin).Round(time.Millisecond))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// build makes a static program in folder; args are go's command and its package.
func build(t *testing.T, folder, name, pkg string, command ...string) {
	t.Helper()
	args := append(command, "-tags", "netgo osusergo", "-ldflags", "-s -w -linkmode external -extldflags -static",
		"-o", filepath.Join(folder, name), pkg)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// TestCamera: the V4L2 source's own test, on the guest's camera.
func TestCamera(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, "v4l2.test", "./capture/v4l2", "test", "-c")
	out := boot(t, image(t), folder, `cat /sys/class/video4linux/video0/name
EDGED_TEST_V4L2=/dev/video0 ./v4l2.test -test.v -test.run '^TestDevice$' -test.timeout 150s
`)
	t.Log(out)
	if !strings.Contains(out, "--- PASS: TestDevice") {
		t.Errorf("the test of the device did not pass:\n%s", out)
	}
}

// TestGuestReportsFailure: a script that fails is an error, with its output.
func TestGuestReportsFailure(t *testing.T) {
	i, folder := image(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "run.sh"), []byte("echo here; exit 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := i.Run(ctx, folder)
	if err == nil || !strings.Contains(err.Error(), `status "3"`) || out != "here\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestBox: the whole box, in the guest, finds the camera by itself and has it live.
func TestBox(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, "edged", "./cmd/edged", "build")
	out := boot(t, image(t), folder, `cat >/tmp/edged.yaml <<END
cameras:
  - id: dock
    source: "v4l2:auto"
    video: {width: 320, height: 180, fps: 10, bitrate: 300000}
http: {listen: "127.0.0.1:8080"}
END
./edged --config /tmp/edged.yaml --data /tmp/data >/tmp/out 2>/tmp/log &
box=$!
token=
n=0
while [ $n -lt 600 ]; do
	n=$((n + 1))
	[ -n "$token" ] || token=$(sed -n 's/.*token=//p' /tmp/out)
	if [ -n "$token" ] && wget -qO /tmp/cameras --header "Authorization: Bearer $token" http://127.0.0.1:8080/api/v1/cameras &&
		grep -q '"live"' /tmp/cameras; then
		break
	fi
	sleep 0.1
done
cat /tmp/cameras
kill $box
wait $box
status=$?
cat /tmp/log
echo "stopped with $status after $n looks"
`)
	t.Log(out)
	for _, want := range []string{`"id":"dock"`, `"live"`, "stopped with 0 "} {
		if !strings.Contains(strings.ReplaceAll(out, `": `, `":`), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
