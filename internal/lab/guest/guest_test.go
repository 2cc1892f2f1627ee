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

const (
	patience    = 4 * time.Minute  // the processor is emulated, and may be shared
	preparation = 10 * time.Minute // packages are fetched and modules built, once
)

// image prepares the guest, in the project's cache.
func image(t *testing.T) Image {
	t.Helper()
	return imageOf(t, "amd64")
}

func imageOf(t *testing.T, arch string) Image {
	t.Helper()
	cache, err := filepath.Abs("../../../.cache/guest")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), preparation)
	defer cancel()
	begin := time.Now()
	i, err := Prepare(ctx, cache, arch)
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

// TestCameras: the V4L2 source's own tests, on the guest's cameras.
func TestCameras(t *testing.T) { testCameras(t, "amd64") }

// TestCamerasARM64: the same on the other processor that boxes have. It needs
// an emulator that only `make lab-arm64` installs.
func TestCamerasARM64(t *testing.T) {
	if os.Getenv("EDGED_LAB_ARM64") == "" {
		t.Skip("EDGED_LAB_ARM64 is not set: make lab-arm64 runs this")
	}
	testCameras(t, "arm64")
}

func testCameras(t *testing.T, arch string) {
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "scripts/build", filepath.Join(folder, "v4l2.test"), arch, "./capture/v4l2")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	out := boot(t, imageOf(t, arch), folder, "EDGED_TEST_GUEST=1 ./v4l2.test -test.v -test.run '^TestGuest' -test.timeout 200s\n")
	t.Log(out)
	if !strings.Contains(out, "\nPASS\n") || strings.Contains(out, "--- SKIP") {
		t.Error("not all tests ran and passed")
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

// TestBox: the whole box, without a configuration, takes in a camera that is
// plugged in while it runs, and has it live.
func TestBox(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, "edged", "./cmd/edged", "build")
	out := boot(t, image(t), folder, `rmmod vivid
./edged --http 127.0.0.1:8080 --data /tmp/data >/tmp/out 2>/tmp/log &
box=$!
look() {
	n=0
	while [ $n -lt 600 ]; do
		n=$((n + 1))
		token=$(sed -n 's/.*token=//p' /tmp/out)
		if [ -n "$token" ] && wget -qO /tmp/cameras --header "Authorization: Bearer $token" http://127.0.0.1:8080/api/v1/cameras &&
			grep -q "$1" /tmp/cameras; then
			break
		fi
		sleep 0.1
	done
	cat /tmp/cameras
}
look '"demo"'
load vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0
look '"camera-1".*"live".*"I420 1280 × 720'
kill $box
wait $box
status=$?
cat /tmp/log
echo "stopped with $status after $n looks"
`)
	t.Log(out)
	for _, want := range []string{`"id":"camera-1"`, `"mode":"I420 1280 × 720`, "stopped with 0 "} {
		if !strings.Contains(strings.ReplaceAll(out, `": `, `":`), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
