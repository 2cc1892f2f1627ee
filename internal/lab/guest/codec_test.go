package guest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCodec: the encoder of a chip, its own test, on the guest's virtual codec
// with both kinds of queues.
func TestCodec(t *testing.T) {
	i, folder := image(t), t.TempDir()
	cache, err := filepath.Abs("../../../.cache/guest")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	modules, err := i.CodecModules(ctx, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("modules ready after %v", time.Since(begin).Round(time.Millisecond))
	for _, m := range modules {
		b, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(m)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build(t, folder, "m2m.test", "./capture/encode/m2m", "test", "-c")
	out := boot(t, i, folder, `set -e
insmod v4l2-mem2mem.ko
for planes in 0 1; do
	insmod vicodec.ko multiplanar=$planes
	EDGED_TEST_M2M=1 ./m2m.test -test.v -test.run '^TestDevice' -test.timeout 150s
	rmmod vicodec
done
`)
	t.Log(out)
	for _, want := range []string{"--- PASS: TestDevice ", "--- PASS: TestDeviceDrains ", "planes false", "planes true"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
}
