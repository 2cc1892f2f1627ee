package guest

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestArchive: cpio, which nobody here wrote, reads what is packed.
func TestArchive(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatalf("%v: scripts/setup installs it", err)
	}
	var a archive
	a.folders("bin", "modules")
	a.file("bin/one", []byte("1"), 0o755)
	a.file("modules/four", []byte("4444"), 0o644)
	dir := t.TempDir()
	cmd := exec.Command(cpio, "-id", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(a.bytes())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"bin/one": "1", "modules/four": "4444"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "bin/one"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// module assembles an object file whose .modinfo names dependencies.
func module(t *testing.T, needs string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, object := filepath.Join(dir, "m.c"), filepath.Join(dir, "m.o")
	c := `static const char a[] __attribute__((section(".modinfo"), used)) = "license=GPL\0depends=` + needs + `";` + "\n"
	if err := os.WriteFile(source, []byte(c), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-c", "-o", object, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLoadOrder(t *testing.T) {
	k := &kernel{modules: map[string][]byte{
		"vivid": module(t, "v4l2-tpg,videodev"), "v4l2_tpg": module(t, "videodev"),
		"videodev": module(t, "mc"), "mc": module(t, ""), "orphan": module(t, "gone"), "garbage": []byte("no object"),
	}}
	order, err := k.loadOrder([]string{"vivid", "mc"})
	if want := []string{"mc", "videodev", "v4l2_tpg", "vivid"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("%v, %v; want %v", order, err, want)
	}
	for name, want := range map[string]string{"orphan": "module gone", "garbage": "module garbage"} {
		if _, err := k.loadOrder([]string{name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadPackage(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{
		"./boot/vmlinuz-6.1", "./lib/modules/6.1/kernel/drivers/media/test-drivers/vivid/vivid.ko",
		"./lib/modules/6.1/kernel/drivers/media/v4l2-core/v4l2-dv-timings.ko",
		"./lib/modules/6.1/kernel/fs/xfs/xfs.ko", "./usr/share/doc/media/changelog",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: 1, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	k, err := readPackage(&b)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for n := range k.modules {
		names = append(names, n)
	}
	slices.Sort(names)
	if want := []string{"v4l2_dv_timings", "vivid"}; string(k.vmlinuz) != "x" || !slices.Equal(names, want) {
		t.Errorf("kernel %q, modules %v", k.vmlinuz, names)
	}
	if _, err := readPackage(strings.NewReader("")); err == nil {
		t.Error("an empty package has a kernel")
	}
}

func TestUncompressRefuses(t *testing.T) {
	image := func(length byte, payload string) []byte {
		b := append(make([]byte, 1024), payload...)
		copy(b[0x202:], "HdrS")
		b[setupAt], b[lengthAt] = 1, length
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no image": make([]byte, 4096), "outside": image(200, "short"),
		"unknown": image(12, "abcdefgh\x00\x00\x00\x00"), "broken": image(12, "\x1F\x8B345678\x00\x00\x00\x00"),
	} {
		if out, err := uncompress(t.Context(), b); err == nil {
			t.Errorf("%s: %d bytes", name, len(out))
		}
	}
}
